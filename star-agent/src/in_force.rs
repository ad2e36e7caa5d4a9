//! The keys and grants that this Star accepts now.

use std::collections::BTreeSet;

use orbit_shared::capability::{self, Capability, CapabilityError};
use orbit_shared::session::LivePull;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// Public keys that sign grants.
    pub public: Vec<Vec<u8>>,
    /// Pulls that may go on although the key of their grant was replaced.
    pub live: BTreeSet<LivePull>,
}

impl InForce {
    /// These keys, and no pulls under replaced keys.
    pub fn of_keys(public: Vec<Vec<u8>>) -> Self {
        Self { public, live: BTreeSet::new() }
    }

    /// Verifies a grant with which a pull is opened.
    pub(crate) fn verify(&self, token: &str) -> Result<Capability, CapabilityError> {
        capability::verify(token, &self.public)
    }

    /// Whether a pull that runs under a grant may go on.
    pub(crate) fn admits_running(&self, token: &str, granted: &Capability) -> bool {
        let is_live = || {
            let pull = LivePull { job: granted.job, destination: granted.destination_star.clone() };
            !granted.is_for_chunks && self.live.contains(&pull)
        };
        self.verify(token).is_ok() || is_live()
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::capability::CapabilitySigner;
    use orbit_shared::words::{JobId, StarId};

    use super::*;

    #[test]
    fn a_pull_outlives_the_key_of_its_grant_while_the_coordinator_names_it() {
        let (old, new) = (CapabilitySigner::generate().unwrap(), CapabilitySigner::generate().unwrap());
        let granted = Capability {
            job: JobId(7),
            source_star: StarId::new("star-1").unwrap(),
            source_path: b"/data".to_vec(),
            destination_star: StarId::new("star-2").unwrap(),
            snapshot: None,
            is_for_chunks: false,
            max_bytes_per_second: 0,
            filter: None,
        };
        let token = old.sign(&granted).unwrap();
        let mut in_force = InForce::of_keys(vec![old.verification_key()]);
        assert!(in_force.verify(&token).is_ok() && in_force.admits_running(&token, &granted));
        in_force = InForce::of_keys(vec![new.verification_key()]);
        assert!(!in_force.admits_running(&token, &granted));
        let named = LivePull { job: JobId(7), destination: granted.destination_star.clone() };
        in_force.live.insert(named);
        assert!(in_force.admits_running(&token, &granted) && in_force.verify(&token).is_err());
        let other = Capability { job: JobId(8), ..granted };
        assert!(!in_force.admits_running(&token, &other));
    }
}
