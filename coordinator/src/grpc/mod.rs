//! The coordinator's gRPC face. Generated types are named here and nowhere else in this crate.
//!
//! Each service translates a request into a command or a look at the core, and the answer back. Nothing is decided here.

pub(crate) mod access;
mod audit;
mod backups;
mod bulletins;
pub(crate) mod convert;
mod counted;
mod dead_letters;
mod fields;
mod globs;
mod guards;
mod health;
mod identities;
mod job_spec;
mod jobs;
mod once;
mod pace;
mod page;
mod penalties;
mod plans;
mod provenance;
mod prune;
mod reader;
mod schedules;
mod sessions;
mod stars;
pub(crate) mod status;
mod vaults;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use orbit_identity::{Ports, Registry};
use orbit_proto::v1::backpressure_service_server::BackpressureServiceServer;
use orbit_proto::v1::backup_service_server::BackupServiceServer;
use orbit_proto::v1::bulletin_service_server::BulletinServiceServer;
use orbit_proto::v1::dead_letter_service_server::DeadLetterServiceServer;
use orbit_proto::v1::health_service_server::HealthServiceServer;
use orbit_proto::v1::identity_service_server::IdentityServiceServer;
use orbit_proto::v1::job_service_server::JobServiceServer;
use orbit_proto::v1::penalty_service_server::PenaltyServiceServer;
use orbit_proto::v1::provenance_service_server::ProvenanceServiceServer;
use orbit_proto::v1::schedule_service_server::ScheduleServiceServer;
use orbit_proto::v1::session_service_server::SessionServiceServer;
use orbit_proto::v1::star_service_server::StarServiceServer;
use orbit_proto::v1::vault_service_server::VaultServiceServer;
use orbit_shared::session::limits::SESSION_MESSAGE_BYTES_MAX;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;

use crate::driver::Inbox;
use crate::keep::Backups;
use crate::meters::Meters;
use crate::provenance_log::ProvenanceLog;
use crate::store::Store;

/// Size of a request that is not a session's.
///
/// A list of empty messages needs fifty times as much memory as bytes, so this bounds memory too.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// A connection whose peer does not answer a ping for this long is closed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection; far more than one client needs.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// What every service needs.
#[derive(Clone)]
pub(crate) struct Faces {
    /// The way to the driver.
    pub(crate) inbox: Inbox,
    /// For items, which the core does not hold.
    pub(crate) store: Arc<dyn Store>,
    /// For events.
    pub(crate) provenance: Arc<ProvenanceLog>,
    /// Where backups go.
    pub(crate) backups: Arc<Backups>,
    /// What this process measures of itself.
    pub(crate) meters: Arc<Meters>,
    /// Who was let in; nothing without TLS.
    pub(crate) identities: Option<Arc<Registry>>,
    /// Ends every stream.
    pub(crate) stop: CancellationToken,
}

/// Serves until `stop`, then lets calls in progress end.
pub(crate) async fn serve(ports: Ports, faces: Faces) -> Result<(), ServeError> {
    let stop = faces.stop.clone();
    let counted = axum::middleware::from_fn_with_state(faces.meters.clone(), counted::count);
    let mut routes = routes(&faces).await?;
    if let Some(registry) = &faces.identities {
        routes = access::by_certificate(routes, Arc::clone(registry));
    }
    let routes = Routes::from(routes.into_axum_router().layer(counted));
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .add_routes(routes);
    ports.serve(router, stop).await.map_err(ServeError::Transport)
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("the gRPC listener failed: {0}")]
    Transport(tonic::transport::Error),
    /// The descriptors that reflection serves are damaged: the program was built wrongly.
    #[error("the descriptors for reflection are unusable: {0}")]
    Reflection(tonic_reflection::server::Error),
}

/// Every service of `orbit.v1` on the coordinator, health, and reflection in both versions that clients ask for. The HTTP
/// face calls the same within the process.
pub(crate) async fn routes(faces: &Faces) -> Result<Routes, ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = RoutesBuilder::default();
    let mut names = Vec::new();
    macro_rules! serve {
        ($($server:ident),* $(,)?) => {$(
            let server = $server::new(faces.clone());
            names.push(service_name(&server));
            routes.add_service(server.max_decoding_message_size(REQUEST_BYTES_MAX));
        )*};
    }
    serve!(
        JobServiceServer,
        ScheduleServiceServer,
        StarServiceServer,
        BackpressureServiceServer,
        PenaltyServiceServer,
        DeadLetterServiceServer,
        BulletinServiceServer,
        ProvenanceServiceServer,
        HealthServiceServer,
        IdentityServiceServer,
        BackupServiceServer,
        VaultServiceServer,
    );
    let sessions = SessionServiceServer::new(faces.clone())
        .max_decoding_message_size(SESSION_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SESSION_MESSAGE_BYTES_MAX);
    names.push(service_name(&sessions));
    routes.add_service(sessions);
    for name in &names {
        reporter.set_service_status(name, tonic_health::ServingStatus::Serving).await;
    }
    routes.add_service(health);
    let reflection = || {
        // The error details and health are registered too, or clients print them as bytes.
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(orbit_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health")
            .with_service_name("grpc.reflection.v1.ServerReflection");
        // Those that are named are listed: the data plane, which only Stars serve, is not.
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    routes.add_service(reflection().build_v1().map_err(ServeError::Reflection)?);
    routes.add_service(reflection().build_v1alpha().map_err(ServeError::Reflection)?);
    let told = axum::middleware::from_fn(audit::tell);
    Ok(Routes::from(routes.routes().into_axum_router().layer(told)))
}

fn service_name<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
