//! Assembles the services on a Star's port and the data plane that moves its data.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::future::BoxFuture;
use orbit_proto::FILE_DESCRIPTOR_SET;
use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::session::{Assignment, ItemOutcome, ScanBatch, ScanRequest};
use orbit_shared::vault_call::{VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::{JobId, Layout};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::config::StarOptions;
use crate::in_force::InForce;
use crate::meters::Meters;
use crate::packed::{PackedConfig, PackedStore};
use crate::plane::{DataPlane, PlaneCounts};
use crate::roots::Roots;
use crate::scan::{self, Classifier};
use crate::server::StarError;
use crate::sink::Sink;
use crate::sink::packed::PackedSink;
use crate::source::{TransferServer, tune};
use crate::sweep::Sweeps;
use crate::vault::Vault;
use crate::vault_calls::{Keeper, Sentinel, VaultCalls};

/// The services and the data plane.
pub(crate) struct Parts {
    pub(crate) plane: Arc<dyn DataPlane>,
    pub(crate) router: Router,
    /// `None` if it is turned off.
    pub(crate) sentinel: Option<Sentinel>,
    /// `None` if the vault is read-only.
    pub(crate) keeper: Option<Keeper>,
    /// The packed store in the vault.
    pub(crate) store: Arc<PackedStore>,
    /// The counters.
    pub(crate) meters: Arc<Meters>,
    /// The exported directories.
    pub(crate) roots: Arc<Roots>,
    /// The operator's rules for the priority of files, one per line.
    pub(crate) semantic_rules: Vec<String>,
}

/// The data plane of a Star and its services: transfers, health, and reflection in the two versions that clients speak.
/// Transfers that run end with `serving`.
pub(crate) async fn assemble(
    options: &StarOptions,
    vault: &Vault,
    keys: watch::Receiver<InForce>,
    serving: &CancellationToken,
) -> Result<Parts, StarError> {
    let roots = Arc::new(Roots::with_mounts(&options.roots, &options.mounted_roots)?);
    let meters = Arc::new(Meters::default());
    let star_id = || options.star_id.clone();
    let store = open_packed(vault, options).await?;
    let transfers =
        TransferServer::new(star_id(), Arc::clone(&roots), keys, Arc::clone(&meters), serving.clone())
            .with_vault(Arc::clone(&store))
            .with_spans(options.spans.clone());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("orbit.v1.TransferService", tonic_health::ServingStatus::Serving).await;
    let damaged = |error: tonic_reflection::server::Error| StarError::Reflection(error.to_string());
    // The types of rich errors and of health are registered too, otherwise clients print them as base64. Only the named
    // services are listed.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("orbit.v1.TransferService")
            .with_service_name("grpc.health.v1.Health")
            .with_service_name("grpc.reflection.v1.ServerReflection")
    };
    let router = tune(Server::builder())
        .add_service(transfers.into_service())
        .add_service(health)
        .add_service(reflection().build_v1().map_err(damaged)?)
        .add_service(reflection().build_v1alpha().map_err(damaged)?);
    let (identity, checkpoints) = (vault.identity(), vault.checkpoints()?);
    let (reads, counts, network) = (Arc::clone(&roots), Arc::clone(&meters), Arc::clone(&options.network));
    let sink = Sink::new(star_id(), identity, reads, counts, checkpoints, network, options.spans.clone());
    let (counts, network) = (Arc::clone(&meters), Arc::clone(&options.network));
    let packed_sink = PackedSink::new(star_id(), Arc::clone(&store), counts, network, options.spans.clone());
    let sentinel = (options.scrub_bytes_per_second > 0)
        .then(|| Sentinel::new(Arc::clone(&store), options.scrub_bytes_per_second, options.scrub_interval));
    let keeper = (!store.is_read_only()).then(|| Keeper::new(Arc::clone(&store)));
    let (reads, network) = (Arc::clone(&roots), Arc::clone(&options.network));
    let sweeps = Sweeps::new(star_id(), reads, network, vault.path());
    let vault_calls = VaultCalls::new(star_id(), Arc::clone(&store), Arc::clone(&options.network));
    let classifier = Classifier::load(options.semantic_rules.as_deref()).map_err(StarError::Rules)?;
    let semantic_rules = classifier.describe_rules();
    let (watched, counted) = (Arc::clone(&roots), Arc::clone(&meters));
    let plane = LocalPlane { roots, meters, sink, packed_sink, vault_calls, sweeps, classifier };
    Ok(Parts {
        plane: Arc::new(plane),
        router,
        sentinel,
        keeper,
        store,
        meters: counted,
        roots: watched,
        semantic_rules,
    })
}

/// Opens the packed store in a task, since its index may have to be rebuilt from the containers.
async fn open_packed(vault: &Vault, options: &StarOptions) -> Result<Arc<PackedStore>, StarError> {
    let path = vault.packed_path();
    let config = PackedConfig {
        compression_level: options.compression_level,
        free_bytes_min: options.free_bytes_min,
        is_read_only: vault.is_read_only(),
        ..PackedConfig::default()
    };
    let opening = tokio::task::spawn_blocking(move || PackedStore::open(&path, config));
    match opening.await {
        Ok(Ok(store)) => {
            for finding in store.opened().findings() {
                tracing::warn!(vault = %vault.path().display(), "{finding}");
            }
            Ok(store)
        }
        Ok(Err(error)) => Err(StarError::Packed { path: vault.path().to_owned(), error }),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The data plane of this machine.
struct LocalPlane {
    roots: Arc<Roots>,
    meters: Arc<Meters>,
    sink: Arc<Sink>,
    packed_sink: Arc<PackedSink>,
    vault_calls: Arc<VaultCalls>,
    sweeps: Arc<Sweeps>,
    classifier: Classifier,
}

impl DataPlane for LocalPlane {
    fn execute(
        &self,
        assignment: Assignment,
        outcomes: mpsc::Sender<Vec<ItemOutcome>>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        match assignment.layout {
            Layout::Files => {
                let sink = Arc::clone(&self.sink);
                Box::pin(async move { sink.execute(assignment, outcomes, progress, cancel).await })
            }
            Layout::Packed => {
                let sink = Arc::clone(&self.packed_sink);
                Box::pin(async move { sink.execute(assignment, outcomes, progress, cancel).await })
            }
        }
    }

    fn scan(
        &self,
        request: ScanRequest,
        batches: mpsc::Sender<ScanBatch>,
        credits: Arc<Semaphore>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()> {
        let (roots, classifier) = (Arc::clone(&self.roots), self.classifier.clone());
        match request.snapshot {
            None => Box::pin(scan::run(request, roots, classifier, batches, credits, cancel)),
            Some(id) => {
                let store = Some(self.vault_calls.store());
                Box::pin(scan::run_snapshot(request, id, store, classifier, (batches, credits), cancel))
            }
        }
    }

    fn clean_temporaries(&self, assignment: &Assignment) -> bool {
        match assignment.layout {
            Layout::Files => self.sink.clean_temporaries(assignment),
            // The chunks that a stage has stored are used by the next attempt.
            Layout::Packed => true,
        }
    }

    fn end_job(&self, job: JobId) {
        self.sink.clean_checkpoints(Some(job));
        self.vault_calls.abandon_job(job);
        self.sweeps.cancel_job(job);
    }

    fn compare(&self, comparison: Comparison) -> BoxFuture<'static, Unchanged> {
        let sink = Arc::clone(&self.sink);
        Box::pin(async move { sink.compare(comparison).await })
    }

    fn call_vault(&self, call: VaultCall) -> BoxFuture<'static, Result<VaultReply, VaultProblem>> {
        match call {
            VaultCall::Sweep(request) => {
                let sweeping = Arc::clone(&self.sweeps).call(*request);
                Box::pin(async move { sweeping.await.map(VaultReply::Swept) })
            }
            call => Box::pin(Arc::clone(&self.vault_calls).answer(call)),
        }
    }

    fn clean_ended(&self) {
        self.sink.clean_checkpoints(None);
    }

    fn counts(&self) -> PlaneCounts {
        PlaneCounts {
            bytes_moved: self.meters.bytes_moved(),
            operations: self.meters.operations(),
            errors: self.meters.errors(),
            served_pulls: self.meters.served_pulls(),
        }
    }
}
