//! The settings of a Star: its flags, and the options that they become.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use orbit_identity::{Listen, ListenAddress, LocalUser, LocalUserError, LocalUsers};
use orbit_shared::health_monitor::HealthConfig;
use orbit_shared::quantity;
use orbit_shared::session::{Root, limits};
use orbit_shared::words::StarId;
use orbit_telemetry::{LogFormat, Spans};

use crate::health_flags::{self, HealthFlags};
use crate::packed::COMPRESSION_LEVEL_DEFAULT;
use orbit_identity::network::{Network, Tcp};

/// The Star of Orbit Grid: moves data between the directories of this machine and those of others.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "orbit-star",
    version,
    after_help = "While the Star is stopped, `orbit-star vault check --vault DIR` reads all that its vault holds and \
                  `orbit-star vault rebuild --vault DIR` builds the index of chunks again."
)]
pub struct StarFlags {
    /// This Star's name in the grid: letters, digits, dots, underscores and dashes
    #[arg(long, value_name = "NAME", value_parser = parse_star_id)]
    pub star_id: StarId,
    /// Address of a coordinator, for example https://10.0.0.1:7100, or http:// for one without TLS, or unix:/PATH for its Unix socket;
    /// repeat it for further ones
    #[arg(long, value_name = "URL", required = true)]
    pub coordinator: Vec<String>,
    /// Join token with which this Star gets its identity, unless it has one; `orbit-coordinator token create` prints it
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_file")]
    pub join: Option<String>,
    /// File with the join token instead
    #[arg(long, value_name = "FILE")]
    pub join_file: Option<PathBuf>,
    /// Where to serve other Stars: an address, where port 0 picks a free one, or unix:/PATH for Stars on this machine; repeat it
    /// for one of each
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7200")]
    pub listen: Vec<ListenAddress>,
    /// Directory that jobs may read and write below; with :ro they may only read, with :mounted only while something is mounted
    /// there. Repeat it for further ones
    #[arg(long, value_name = "PATH[:ro][:mounted]", required = true, value_parser = OsStringValueParser::new().try_map(parse_root))]
    pub root: Vec<RootFlag>,
    /// Directory for this Star's identity and journal; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub vault: PathBuf,
    /// Label that this Star carries; repeat it for further ones
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// Address at which other Stars reach this one, when it is not the one it listens on
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// How long a drain may take after SIGTERM, for example 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = quantity::duration)]
    pub drain_timeout: Duration,
    /// Level of zstd for what the vault stores from now on, 1 to 19: higher is smaller and slower
    #[arg(long, value_name = "LEVEL", default_value_t = COMPRESSION_LEVEL_DEFAULT, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compression_level: i32,
    /// Bytes a second that the rolling check of the vault may read, for example 4M; 0 turns it off
    #[arg(long, value_name = "BYTES", default_value_t = SCRUB_BYTES_PER_SECOND_DEFAULT, value_parser = quantity::size)]
    pub scrub_bytes_per_second: u64,
    /// How long what the rolling check of the vault has read is left alone, for example 12h or 168h
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = quantity::duration)]
    pub scrub_interval: Duration,
    /// TOML file with rules for the priority of files in jobs from this Star: globs, first bytes and kinds of content. They come
    /// before the built-in rules; docs/patterns.md describes them
    #[arg(long, value_name = "FILE")]
    pub semantic_rules: Option<PathBuf>,
    /// When it raises an advisory.
    #[command(flatten)]
    pub health: HealthFlags,
    /// User of this machine, or @GROUP, whose Stars are served without TLS, and whose servers are trusted, beside this Star's own
    /// user and root (repeatable)
    #[arg(long, value_name = "USER|@GROUP", value_delimiter = ',')]
    pub local_users: Vec<LocalUser>,
    /// Listen on an address that other machines can reach although nothing is encrypted
    #[arg(long)]
    pub insecure_plaintext: bool,
    /// Send spans of scans, assignments and pulls to this OTLP collector over gRPC, for example http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Form of the log lines on standard error; RUST_LOG says which lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Default of the bytes per second that the rolling check of a vault reads. It is 2.4 TB in a week.
pub const SCRUB_BYTES_PER_SECOND_DEFAULT: u64 = 4 * 1024 * 1024;
/// Default of the time before content that was checked is checked again.
pub const SCRUB_INTERVAL_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where a join token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinFrom {
    /// The token itself.
    Token(String),
    /// A file with the token.
    File(PathBuf),
}

/// A root as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFlag {
    /// The root.
    pub root: Root,
    /// Whether it is used only while something is mounted there.
    pub is_mount_required: bool,
}

/// Everything that one Star needs to start.
#[derive(Debug, Clone)]
pub struct StarOptions {
    /// Its name.
    pub star_id: StarId,
    /// Addresses of coordinators, `https://HOST:PORT` or all without TLS (`http://HOST:PORT` or `unix:/PATH`), in the order to try them; at least one.
    pub coordinators: Vec<String>,
    /// How it gets its identity, unless it has one.
    pub join: Option<JoinFrom>,
    /// Where to serve other Stars; port 0 picks a free one.
    pub listen: Listen,
    /// What it exports.
    pub roots: Vec<Root>,
    /// Paths of those roots that are used only while something is mounted there.
    pub mounted_roots: Vec<Vec<u8>>,
    /// Its vault directory.
    pub vault: PathBuf,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where other Stars reach it; absent: where it listens.
    pub advertise: Option<String>,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Level of zstd for what its vault stores, 1 to 19.
    pub compression_level: i32,
    /// Bytes a second that the rolling check of its vault may read; 0: there is none.
    pub scrub_bytes_per_second: u64,
    /// Minimum time before content that was checked is checked again.
    pub scrub_interval: Duration,
    /// File with the operator's rules for the priority of files.
    pub semantic_rules: Option<PathBuf>,
    /// When it raises an advisory about its health.
    pub health: HealthConfig,
    /// Number of bytes that should stay free on the disk of its vault, 0: any; absent: the default of the packed store.
    pub free_bytes_min: Option<u64>,
    /// Whether it may listen beyond this machine without encryption.
    pub is_plaintext_allowed: bool,
    /// The users of this machine that are served and trusted without TLS.
    pub local_users: Arc<LocalUsers>,
    /// Its network, for incoming and outgoing connections.
    pub network: Arc<dyn Network>,
    /// Where spans of scans, assignments and pulls are sent.
    pub spans: Spans,
}

impl StarOptions {
    /// The settings that a Star needs at least; all others have the defaults of the flags.
    pub fn new(star_id: StarId, coordinator: impl Into<String>, roots: Vec<Root>, vault: PathBuf) -> Self {
        Self {
            star_id,
            coordinators: vec![coordinator.into()],
            join: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            roots,
            mounted_roots: Vec::new(),
            vault,
            labels: BTreeMap::new(),
            advertise: None,
            drain_timeout: Duration::from_secs(30),
            compression_level: COMPRESSION_LEVEL_DEFAULT,
            scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND_DEFAULT,
            scrub_interval: SCRUB_INTERVAL_DEFAULT,
            health: health_flags::of_a_star(),
            free_bytes_min: None,
            semantic_rules: None,
            is_plaintext_allowed: false,
            local_users: Arc::default(),
            network: Arc::new(Tcp::default()),
            spans: Spans::default(),
        }
    }
}

impl From<StarFlags> for StarOptions {
    fn from(flags: StarFlags) -> Self {
        let users = Arc::new(LocalUsers::new(flags.local_users));
        Self {
            star_id: flags.star_id,
            coordinators: flags.coordinator,
            join: flags.join.map(JoinFrom::Token).or(flags.join_file.map(JoinFrom::File)),
            listen: flags.listen.into(),
            mounted_roots: flags
                .root
                .iter()
                .filter(|flag| flag.is_mount_required)
                .map(|flag| flag.root.path.clone())
                .collect(),
            roots: flags.root.into_iter().map(|flag| flag.root).collect(),
            vault: flags.vault,
            labels: flags.label.into_iter().collect(),
            advertise: flags.advertise,
            drain_timeout: flags.drain_timeout,
            compression_level: flags.compression_level,
            scrub_bytes_per_second: flags.scrub_bytes_per_second,
            scrub_interval: flags.scrub_interval,
            semantic_rules: flags.semantic_rules,
            free_bytes_min: flags.health.free_bytes_min,
            health: flags.health.into(),
            is_plaintext_allowed: flags.insecure_plaintext,
            network: Arc::new(Tcp { users: Arc::clone(&users) }),
            local_users: users,
            // The caller makes them from `otlp_endpoint` once it has a runtime.
            spans: Spans::default(),
        }
    }
}

fn parse_star_id(text: &str) -> Result<StarId, String> {
    StarId::new(text).map_err(|error| error.to_string())
}

fn parse_root(text: OsString) -> Result<RootFlag, String> {
    let bytes = text.into_vec();
    let mut path = bytes.as_slice();
    let (mut is_read_only, mut is_mount_required) = (false, false);
    loop {
        if let Some(rest) = path.strip_suffix(b":ro") {
            (path, is_read_only) = (rest, true);
        } else if let Some(rest) = path.strip_suffix(b":rw") {
            path = rest;
        } else if let Some(rest) = path.strip_suffix(b":mounted") {
            (path, is_mount_required) = (rest, true);
        } else {
            break;
        }
    }
    if !path.starts_with(b"/") {
        return Err("a root is an absolute path, with :ro at its end if jobs may only read it, and with :mounted if they may \
                    use it only while something is mounted there"
            .to_owned());
    }
    // Each directory has one form, so that roots can be compared.
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
    Ok(RootFlag { root: Root { path: path[..end].to_vec(), is_read_only }, is_mount_required })
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("a label is KEY=VALUE".to_owned()),
    }
}

/// Why the options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Other machines could reach it, and nothing is encrypted.
    #[error(
        "--listen {listen}: other machines can reach this address, and without TLS nothing is encrypted there; write https:// \
         for the coordinator and add --join TOKEN, or --insecure-plaintext if the network is trusted"
    )]
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
    /// Other Stars could not reach it.
    #[error(
        "--listen unix:PATH: other Stars reach a Star of a grid with TLS over the network; give --listen HOST:PORT too"
    )]
    NoPort,
    /// The value of `--listen` is ambiguous or invalid.
    #[error("{0}")]
    Listen(String),
    /// Only some of its connections would be encrypted.
    #[error("--coordinator: {0} speaks no TLS and others do; write https:// for all of them, or for none")]
    Mixed(String),
    /// A token needs TLS.
    #[error(
        "--join: the coordinator's address begins with http://, which issues no identity; write --coordinator https://HOST:PORT"
    )]
    JoinInPlaintext,
    /// Other Stars would get an address that they cannot connect to.
    #[error(
        "--listen {listen}: other Stars cannot connect to this address; say with --advertise HOST:PORT where they reach \
         this Star"
    )]
    Unreachable {
        /// The address.
        listen: SocketAddr,
    },
    /// A user or group that is to be served is unknown.
    #[error(transparent)]
    LocalUsers(#[from] LocalUserError),
    /// No coordinator is given.
    #[error("--coordinator: at least one address is needed")]
    NoCoordinator,
    /// A flag was given too often.
    #[error("{flag}: {count} were given, at most {count_max} are allowed")]
    TooMany {
        /// The flag.
        flag: &'static str,
        /// How often it was given.
        count: usize,
        /// The maximum.
        count_max: usize,
    },
    /// Two thresholds of the health monitor contradict each other.
    #[error("{0}")]
    Thresholds(String),
    /// One directory twice would make it unclear whether jobs may write there.
    #[error("--root {path}: given twice")]
    RootTwice {
        /// The path.
        path: String,
    },
}

fn is_secure(address: &str) -> bool {
    address.starts_with("https://")
}

impl StarOptions {
    /// Whether all of its connections use TLS.
    pub fn is_secured(&self) -> bool {
        self.coordinators.iter().any(|address| is_secure(address))
    }

    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn check(&self) -> Result<(), OptionsError> {
        if !self.is_secured() && self.join.is_some() {
            return Err(OptionsError::JoinInPlaintext);
        }
        if self.is_secured()
            && let Some(plain) = self.coordinators.iter().find(|address| !is_secure(address))
        {
            return Err(OptionsError::Mixed(plain.clone()));
        }
        self.listen.check("--listen").map_err(OptionsError::Listen)?;
        if self.is_secured() && self.listen.address().is_none() {
            return Err(OptionsError::NoPort);
        }
        if let Some(listen) = self.listen.address() {
            if !listen.ip().is_loopback() && !self.is_secured() && !self.is_plaintext_allowed {
                return Err(OptionsError::Exposed { listen });
            }
            if listen.ip().is_unspecified() && self.advertise.is_none() {
                return Err(OptionsError::Unreachable { listen });
            }
        }
        health_flags::check(&self.health)?;
        self.local_users.resolve()?;
        if self.coordinators.is_empty() {
            return Err(OptionsError::NoCoordinator);
        }
        for (flag, count, count_max) in [
            ("--root", self.roots.len(), limits::ROOTS_PER_STAR_MAX),
            ("--label", self.labels.len(), limits::LABELS_PER_STAR_MAX),
        ] {
            if count > count_max {
                return Err(OptionsError::TooMany { flag, count, count_max });
            }
        }
        let mut paths: Vec<_> = self.roots.iter().map(|root| root.path.as_slice()).collect();
        paths.sort_unstable();
        match paths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let path = std::ffi::OsStr::from_bytes(pair[0]).to_string_lossy().into_owned();
                Err(OptionsError::RootTwice { path })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(extra: &[&str]) -> Result<StarFlags, clap::Error> {
        let needed =
            ["orbit-star", "--star-id", "s", "--coordinator", "http://c:1", "--vault", "/v", "--root", "/a"];
        StarFlags::try_parse_from(needed.iter().chain(extra))
    }

    fn options() -> StarOptions {
        flags(&[]).unwrap().into()
    }

    fn listen(address: &str) -> Listen {
        vec![address.parse().unwrap()].into()
    }

    #[test]
    fn the_flags_are_well_formed() {
        <StarFlags as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_root_is_absolute_and_can_be_read_only() {
        let roots = |text: &str| {
            let flags = flags(&["--root", text])?;
            Ok::<_, clap::Error>(flags.root.into_iter().map(|flag| flag.root).next_back().unwrap())
        };
        let mounted: StarOptions =
            flags(&["--root", "/m:mounted", "--root", "/n:mounted:ro"]).unwrap().into();
        assert_eq!(mounted.mounted_roots, [b"/m".to_vec(), b"/n".to_vec()]);
        assert!(mounted.roots.contains(&Root { path: b"/n".to_vec(), is_read_only: true }));
        assert_eq!(roots("/b:ro").unwrap(), Root { path: b"/b".to_vec(), is_read_only: true });
        assert_eq!(roots("/b/:rw").unwrap(), Root { path: b"/b".to_vec(), is_read_only: false });
        assert_eq!(roots("/").unwrap().path, b"/");
        assert!(roots("relative").is_err());
    }

    #[test]
    fn an_address_that_others_can_reach_needs_explicit_consent() {
        let exposed = StarOptions { listen: listen("10.0.0.1:7200"), ..options() };
        let text = exposed.check().unwrap_err().to_string();
        assert!(text.contains("--insecure-plaintext"), "{text}");
        assert_eq!(StarOptions { is_plaintext_allowed: true, ..exposed.clone() }.check(), Ok(()));
        let any = StarOptions { listen: listen("0.0.0.0:7200"), is_plaintext_allowed: true, ..exposed };
        assert!(matches!(any.check(), Err(OptionsError::Unreachable { .. })));
        assert_eq!(StarOptions { advertise: Some("a:7200".to_owned()), ..any }.check(), Ok(()));
    }

    #[test]
    fn a_star_uses_tls_for_all_connections_or_for_none() {
        let secured = StarOptions { coordinators: vec!["https://c:1".to_owned()], ..options() };
        assert_eq!(StarOptions { listen: listen("10.0.0.1:7200"), ..secured.clone() }.check(), Ok(()));
        let path = std::path::PathBuf::from("/run/x.sock");
        let hidden = StarOptions { listen: vec![ListenAddress::Unix(path)].into(), ..secured.clone() };
        assert_eq!(hidden.check(), Err(OptionsError::NoPort));
        let mut mixed = secured;
        mixed.coordinators.push("http://d:1".to_owned());
        assert!(matches!(mixed.check(), Err(OptionsError::Mixed(plain)) if plain == "http://d:1"));
        mixed.coordinators[1] = "unix:/run/orbit-grid/coordinator.sock".to_owned();
        assert!(matches!(mixed.check(), Err(OptionsError::Mixed(_))));
        let joins: StarOptions = flags(&["--join", "orbit-join-x"]).unwrap().into();
        assert_eq!(joins.check(), Err(OptionsError::JoinInPlaintext));
    }

    #[test]
    fn options_that_are_not_given_have_the_defaults_of_the_flags() {
        let (new, flags) =
            (StarOptions::new("s".parse().unwrap(), "http://c:1", vec![], "/v".into()), options());
        assert_eq!(new.drain_timeout, flags.drain_timeout);
        assert_eq!(new.compression_level, flags.compression_level);
        assert_eq!(new.scrub_bytes_per_second, flags.scrub_bytes_per_second);
        assert_eq!(new.scrub_interval, flags.scrub_interval);
        assert_eq!(new.health, flags.health);
    }

    #[test]
    fn a_threshold_is_a_setting_and_a_bad_one_is_named() {
        let set = ["--disk-warning-percent", "50", "--disk-critical-free", "5G", "--disk-warning-free", "6G"];
        let options: StarOptions = flags(&set).unwrap().into();
        assert_eq!((options.health.disk_warning_pct, options.health.disk_critical_pct), (50, 95));
        assert_eq!(options.health.disk_critical_available_bytes, 5 << 30);
        assert_eq!(options.check(), Ok(()));
        for (set, named) in [
            (["--disk-critical-percent", "101"], "--disk-critical-percent <PERCENT>"),
            (["--error-percent", "0"], "--error-percent <PERCENT>"),
            (["--disk-forecast", "soon"], "--disk-forecast <TIME>"),
            (["--throughput-floor", "fast"], "--throughput-floor <BYTES>"),
        ] {
            let refused = flags(&set).unwrap_err().to_string();
            assert!(refused.contains(named) && refused.contains(set[1]), "{refused}");
        }
        for (set, named) in [
            (["--disk-warning-percent", "96"], "--disk-warning-percent 96: it must be at most"),
            (["--disk-critical-percent", "80"], "--disk-critical-percent, which is 80"),
        ] {
            let refused = StarOptions::from(flags(&set).unwrap()).check().unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
        let bytes: StarOptions =
            flags(&["--disk-warning-free", "1G", "--disk-critical-free", "2G"]).unwrap().into();
        assert!(
            matches!(bytes.check(), Err(OptionsError::Thresholds(said)) if said.contains("--disk-critical-free"))
        );
    }

    #[test]
    fn the_same_root_twice_is_refused() {
        let mut twice = options();
        twice.roots.push(Root { path: b"/a".to_vec(), is_read_only: true });
        assert_eq!(twice.check(), Err(OptionsError::RootTwice { path: "/a".to_owned() }));
    }
}
