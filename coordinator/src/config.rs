//! What a coordinator can be told: its flags, and the options they become.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use orbit_shared::settings::parse_duration;
use orbit_telemetry::{LogFormat, Spans};

use crate::core::CoreConfig;
use crate::net::Tcp;
use crate::server::CoordinatorOptions;
use crate::tls::TlsOptions;

/// The coordinator of Orbit Grid: plans and records what the Stars move.
#[derive(Debug, Clone, Parser)]
#[command(name = "orbit-coordinator", version)]
pub struct CoordinatorFlags {
    /// Where to serve Stars and operators over gRPC; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Where to serve the console, the API as JSON, metrics and health checks over HTTP; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7180")]
    pub http_listen: SocketAddr,
    /// Name under which browsers and scripts ask over HTTP; addresses and names without a dot need not be given (repeatable)
    #[arg(long = "http-host", value_name = "NAME")]
    pub http_hosts: Vec<String>,
    /// Directory for the store and the provenance log; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Directory for backups [default: backups in --data-dir]
    #[arg(long, value_name = "DIR")]
    pub backup_dir: Option<PathBuf>,
    /// How long a silent Star keeps its work before it is given away, for example 15s
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_duration)]
    pub lease: Duration,
    /// How often a Star reports that it lives; at most a third of the lease
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub heartbeat_interval: Duration,
    /// After how long without progress an assignment or a scan is reported; after five times that it is taken back; at least the lease
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub stall_after: Duration,
    /// Give a Star no work after it has registered until ScheduleStar is called for it
    #[arg(long)]
    pub manual_schedule: bool,
    /// Speak TLS over gRPC: whoever calls needs a certificate, which a join token gives
    #[arg(long)]
    pub tls: bool,
    /// Further name or address in the coordinator's certificate, for clients that compare it (repeatable)
    #[arg(long = "tls-host", value_name = "NAME")]
    pub tls_hosts: Vec<String>,
    /// How long certificates are good for; they are renewed after two thirds of it
    #[arg(long, value_name = "TIME", default_value = "720h", value_parser = parse_duration)]
    pub certificate_validity: Duration,
    /// What whoever asks over HTTP may do [default: operator; with --tls, viewer]
    #[arg(long, value_name = "ROLE", value_enum)]
    pub http_role: Option<HttpRole>,
    /// Listen on an address that other machines can reach although what is spoken there is not encrypted
    #[arg(long)]
    pub insecure_plaintext: bool,
    /// Send spans of jobs and assignments to this OTLP collector over gRPC, for example http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Form of the log lines on standard error; RUST_LOG says which lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// What whoever asks over HTTP may do: nothing says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HttpRole {
    /// Look
    Viewer,
    /// Change things
    Operator,
}

impl From<CoordinatorFlags> for CoordinatorOptions {
    fn from(flags: CoordinatorFlags) -> Self {
        Self {
            listen: flags.listen,
            http_listen: Some(flags.http_listen),
            http_hosts: flags.http_hosts,
            data_dir: flags.data_dir,
            backup_dir: flags.backup_dir,
            core: CoreConfig {
                lease: flags.lease,
                heartbeat_interval: flags.heartbeat_interval,
                // Whoever is silent is not stalled but lost, which the lease decides.
                stall_after: flags.stall_after.max(flags.lease),
                is_manual_schedule: flags.manual_schedule,
                ..CoreConfig::default()
            },
            tls: flags.tls.then_some(TlsOptions {
                hosts: flags.tls_hosts,
                certificate_validity: flags.certificate_validity,
            }),
            http_role: flags.http_role,
            is_plaintext_allowed: flags.insecure_plaintext,
            network: Arc::new(Tcp),
            // Whoever has a runtime makes them of `otlp_endpoint`.
            spans: Spans::default(),
        }
    }
}
