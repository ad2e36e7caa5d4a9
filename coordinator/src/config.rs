//! The settings of a coordinator: its flags, and the options that they become.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use orbit_identity::{ListenAddress, LocalUser, LocalUsers};
use orbit_shared::quantity;
use orbit_telemetry::{LogFormat, Spans};

use crate::core::CoreConfig;
use crate::core::limits::ITEMS_PER_JOB_MAX;
use crate::keep::KeepFlags;
use crate::server::CoordinatorOptions;
use crate::tls::TlsOptions;
use orbit_identity::network::Tcp;

/// The coordinator of Orbit Grid: plans and records what the Stars move.
#[derive(Debug, Clone, Parser)]
#[command(name = "orbit-coordinator", version)]
pub struct CoordinatorFlags {
    /// Where to serve Stars and operators over gRPC: an address, where port 0 picks a free one, or unix:/PATH for users of this
    /// machine; repeat it for one of each
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7100")]
    pub listen: Vec<ListenAddress>,
    /// Where to serve the console, the API as JSON, metrics and health checks over HTTP: an address, where port 0 picks a free
    /// one, or unix:/PATH; repeat it for one of each
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7180")]
    pub http_listen: Vec<ListenAddress>,
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
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = quantity::duration)]
    pub lease: Duration,
    /// How often a Star reports that it lives; at most a third of the lease
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = quantity::duration)]
    pub heartbeat_interval: Duration,
    /// After how long without progress an assignment or a scan is reported; after five times that it is taken back; at least the lease
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = quantity::duration)]
    pub stall_after: Duration,
    /// Take over Stars that belong to another grid instead of refusing them
    #[arg(long)]
    pub new_grid: bool,
    /// How much of what is over is kept.
    #[command(flatten)]
    pub keep: KeepFlags,
    /// How many items one job may have, counted for each destination; a job that lists more fails
    #[arg(long, value_name = "COUNT", default_value_t = ITEMS_PER_JOB_MAX, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_items_per_job: u64,
    /// Give a Star no work after it has registered until ScheduleStar is called for it
    #[arg(long)]
    pub manual_schedule: bool,
    /// Speak TLS over gRPC: every caller needs a certificate, which a join token gives
    #[arg(long)]
    pub tls: bool,
    /// Further name or address in the coordinator's certificate, for clients that compare it (repeatable)
    #[arg(long = "tls-host", value_name = "NAME")]
    pub tls_hosts: Vec<String>,
    /// How long certificates are good for; they are renewed after two thirds of it
    #[arg(long, value_name = "TIME", default_value = "720h", value_parser = quantity::duration)]
    pub certificate_validity: Duration,
    /// The role of all callers over HTTP [default: operator; with --tls, viewer]
    #[arg(long, value_name = "ROLE", value_enum)]
    pub http_role: Option<HttpRole>,
    /// User of this machine, or @GROUP, that is served without TLS and over HTTP, beside the coordinator's own and root (repeatable)
    #[arg(long, value_name = "USER|@GROUP", value_delimiter = ',')]
    pub local_users: Vec<LocalUser>,
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

/// The role of all callers over HTTP, which do not say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HttpRole {
    /// Look
    Viewer,
    /// Change things
    Operator,
}

impl From<CoordinatorFlags> for CoordinatorOptions {
    fn from(flags: CoordinatorFlags) -> Self {
        let users = Arc::new(LocalUsers::new(flags.local_users));
        Self {
            listen: flags.listen.into(),
            http_listen: Some(flags.http_listen.into()),
            http_hosts: flags.http_hosts,
            data_dir: flags.data_dir,
            backup_dir: flags.backup_dir,
            backup_count_max: flags.keep.keep_backups,
            event_bytes_max: flags.keep.keep_event_bytes,
            core: CoreConfig {
                lease: flags.lease,
                heartbeat_interval: flags.heartbeat_interval,
                // A Star that sends nothing is not stalled but lost, which the lease decides.
                stall_after: flags.stall_after.max(flags.lease),
                is_manual_schedule: flags.manual_schedule,
                takes_over: flags.new_grid,
                history: flags.keep.history(),
                items_per_job_max: flags.max_items_per_job,
                ..CoreConfig::default()
            },
            tls: flags.tls.then_some(TlsOptions {
                hosts: flags.tls_hosts,
                certificate_validity: flags.certificate_validity,
            }),
            http_role: flags.http_role,
            is_plaintext_allowed: flags.insecure_plaintext,
            network: Arc::new(Tcp { users: Arc::clone(&users) }),
            local_users: users,
            // The caller makes them from `otlp_endpoint` once it has a runtime.
            spans: Spans::default(),
        }
    }
}
