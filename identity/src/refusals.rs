//! Writes to the log who is refused, at most once a minute for each user: one that tries again and again must not fill a disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::local_users::Stranger;
use crate::silent::Origin;

/// Minimum time between two lines about one user.
const INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of users that are remembered. Further ones are not named.
const USERS_MAX: usize = 64;

/// Refused connections that were not logged yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    users: Mutex<BTreeMap<u32, Refused>>,
}

#[derive(Debug)]
struct Refused {
    said_at: Instant,
    unsaid: u64,
}

impl Refusals {
    /// Counts a refused connection of a user.
    pub(crate) fn note(&self, origin: Origin, user: u32) {
        if let Some(unsaid) = self.due(user, Instant::now()) {
            let user = Stranger::User(user);
            tracing::warn!(
                address = %origin, unsaid,
                "a connection of {user} was refused: --local-users does not name it"
            );
        }
    }

    /// If a line is to be written about a user now: how many refused connections were not written about.
    fn due(&self, user: u32, now: Instant) -> Option<u64> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS_MAX && !users.contains_key(&user) {
            users.retain(|_, refused| now.duration_since(refused.said_at) < INTERVAL);
            if users.len() >= USERS_MAX {
                return None;
            }
        }
        let Some(refused) = users.get_mut(&user) else {
            users.insert(user, Refused { said_at: now, unsaid: 0 });
            return Some(0);
        };
        if now.duration_since(refused.said_at) < INTERVAL {
            refused.unsaid += 1;
            return None;
        }
        refused.said_at = now;
        Some(std::mem::take(&mut refused.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_named_once_a_minute_with_a_count() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due(7, start), Some(0));
        assert_eq!(refusals.due(8, start), Some(0));
        assert!((0..1000).all(|_| refusals.due(7, start + INTERVAL / 2).is_none()));
        assert_eq!(refusals.due(7, start + INTERVAL), Some(1000));
        assert_eq!(refusals.due(7, start + INTERVAL), None);
    }

    #[test]
    fn the_memory_of_users_has_a_bound() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said = (0..1000).filter_map(|user| refusals.due(user, start)).count();
        assert_eq!(said, USERS_MAX);
        assert_eq!(refusals.due(5000, start + INTERVAL), Some(0), "those of a minute ago are forgotten");
    }
}
