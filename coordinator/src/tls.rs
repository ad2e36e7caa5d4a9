//! TLS of the coordinator: its authority in `DATA_DIR/identity`, and a certificate of its own, made at each start with a
//! key that is never written, and made again before it ends.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::network::AuthorityTls;
use orbit_identity::tls::{self, Clients, Presented};
use orbit_identity::{Facts, Registry, now};
use tokio_util::sync::CancellationToken;

use crate::server::StartError;

/// The directory of the authority within the data directory.
pub(crate) const IDENTITY_DIRECTORY: &str = "identity";
/// How long certificates are good for that nobody said anything about.
pub const CERTIFICATE_VALIDITY_DEFAULT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A sleeping machine does not count time, so the clock is looked at this often at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);

/// The settings of a coordinator that speaks TLS.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Names and addresses in its certificate, beside where it listens, `localhost` and the machine's own name.
    pub hosts: Vec<String>,
    /// How long certificates are good for, its own and those that it gives.
    pub certificate_validity: Duration,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { hosts: Vec::new(), certificate_validity: CERTIFICATE_VALIDITY_DEFAULT }
    }
}

/// The coordinator's own certificate, and what it takes to make the next.
pub(crate) struct Own {
    registry: Arc<Registry>,
    presented: Arc<Presented>,
    facts: Facts,
    listen: Option<IpAddr>,
    hosts: Vec<String>,
}

/// Opens the authority and makes a certificate for this process.
pub(crate) fn open(
    data_dir: &Path,
    listen: Option<IpAddr>,
    options: TlsOptions,
) -> Result<(AuthorityTls, Own), StartError> {
    let directory = data_dir.join(IDENTITY_DIRECTORY);
    let registry = Arc::new(Registry::open(&directory, options.certificate_validity, now())?);
    let hosts = options.hosts;
    let (presented, facts) = make(&registry, listen, &hosts)
        .map_err(|problem| StartError::Options(format!("--tls-host {}: {problem}", hosts.join(", "))))?;
    let presented = Arc::new(presented);
    let authority = registry.authority().certificate();
    let config = tls::server(Arc::clone(&presented), authority, Clients::May);
    let config = config.map_err(|error| StartError::Options(format!("--tls: {error}")))?;
    let own = Own { registry: Arc::clone(&registry), presented, facts, listen, hosts };
    Ok((AuthorityTls { config, registry }, own))
}

fn make(registry: &Registry, listen: Option<IpAddr>, hosts: &[String]) -> Result<(Presented, Facts), String> {
    let system = rustix::system::uname();
    let host_name = system.nodename().to_str().ok();
    registry.own(listen, host_name, hosts, now()).map_err(|error| error.to_string())
}

impl Own {
    /// Makes a new certificate whenever it is time to. Connections that are open stay as they are.
    pub(crate) async fn keep_renewed(mut self, stop: CancellationToken) {
        let renewing = async {
            loop {
                let wait = self.facts.renewal_at() - now();
                if wait > 0 {
                    let wait = Duration::from_secs(wait.unsigned_abs());
                    tokio::time::sleep(wait.min(LOOK_INTERVAL)).await;
                    continue;
                }
                match make(&self.registry, self.listen, &self.hosts) {
                    Ok((presented, facts)) => {
                        tracing::info!(serial = facts.serial, "the coordinator's certificate was renewed");
                        self.presented.present(&presented);
                        self.facts = facts;
                    }
                    Err(error) => {
                        tracing::error!("the coordinator's certificate cannot be renewed: {error}");
                        tokio::time::sleep(LOOK_INTERVAL).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(renewing).await;
    }
}
