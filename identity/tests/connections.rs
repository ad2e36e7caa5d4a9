//! Connections over TLS within one process: which peers are refused before any request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orbit_identity::tls::{self, Clients};
use orbit_identity::{
    Connection, Credentials, Dialing, Expected, Joining, Listening, NewKey, Registry, Role, now,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    directory: TempDir,
    registry: Arc<Registry>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory is made");
        let registry =
            Registry::open(&directory.path().join("authority"), HOUR, now()).expect("all is well here");
        Self { directory, registry: Arc::new(registry) }
    }

    /// Joins at a given time.
    fn join(&self, role: Role, name: &str, at: i64) -> Credentials {
        let (token, _) =
            self.registry.authority().create_token(role, None, HOUR, at * 1000).expect("all is well here");
        let key = NewKey::prepare(&self.directory.path().join(name)).expect("all is well here");
        let joining = Joining {
            token,
            request: key.request().expect("all is well here"),
            name: Some(name.parse().expect("all is well here")),
        };
        let certificate = self.registry.join(&joining, at).expect("all is well here");
        key.complete(&certificate, self.registry.authority().certificate()).expect("all is well here")
    }

    /// Serves health as the coordinator.
    async fn coordinator(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("all is well here");
        let address = listener.local_addr().expect("all is well here");
        let (presented, _) =
            self.registry.own(Some(address.ip()), None, &[], now()).expect("all is well here");
        let authority = self.registry.authority().certificate();
        let config = tls::server(Arc::new(presented), authority, Clients::May).expect("all is well here");
        serve(Listening::new(listener, config, Some(Arc::clone(&self.registry))));
        address
    }
}

fn serve(incoming: Listening<Connection>) {
    let (_, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
}

/// Serves health with these credentials.
async fn serve_as(credentials: &Credentials) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("all is well here");
    let address = listener.local_addr().expect("all is well here");
    serve(Listening::new(listener, credentials.server().expect("all is well here"), None));
    address
}

/// Asks for the health, and returns the result in words.
async fn ask(dialing: &Dialing, address: SocketAddr, expected: Expected) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("all is well here");
    let channel = dialing.connect(&endpoint, expected).await.map_err(|error| format!("{error:?}"))?;
    let asked = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    asked.map(drop).map_err(|status| format!("{status:?}"))
}

fn star(name: &str) -> Expected {
    Expected::Star(Some(name.parse().expect("all is well here")))
}

#[tokio::test]
async fn only_the_expected_server_gets_requests() {
    let world = World::new();
    let (coordinator, one, two) = (
        world.coordinator().await,
        world.join(Role::Star, "one", now()),
        world.join(Role::Star, "two", now()),
    );
    let served = serve_as(&two).await;
    let dialing = one.dialing();
    ask(&dialing, coordinator, Expected::Coordinator).await.unwrap();
    ask(&dialing, served, star("two")).await.unwrap();
    ask(&dialing, served, Expected::Star(None)).await.unwrap();
    for (address, expected) in
        [(coordinator, star("two")), (served, Expected::Coordinator), (served, star("one"))]
    {
        let refused = ask(&dialing, address, expected.clone()).await.unwrap_err();
        assert!(refused.contains("is expected there"), "{expected}: {refused}");
    }
}

#[tokio::test]
async fn a_role_that_may_only_call_cannot_serve() {
    let world = World::new();
    let operator = world.join(Role::Operator, "ann", now());
    let served = serve_as(&operator).await;
    let refused = ask(&operator.dialing(), served, Expected::Anybody).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let world = World::new();
    let (late, good) = (world.join(Role::Star, "late", now() - 7200), world.join(Role::Star, "good", now()));
    let (of_late, of_good) = (serve_as(&late).await, serve_as(&good).await);
    let refused = ask(&good.dialing(), of_late, star("late")).await.unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    ask(&late.dialing(), of_good, star("good")).await.unwrap_err();
    ask(&good.dialing(), of_good, star("good")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_nothing_delays_no_other() {
    let world = World::new();
    let address = world.coordinator().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let nobody = Dialing::as_nobody(world.registry.authority().certificate().clone());
    let asked = tokio::time::timeout(Duration::from_secs(4), ask(&nobody, address, Expected::Coordinator));
    asked.await.expect("handshakes do not wait for each other").unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_revoked_identity_loses_its_connection_and_others_do_not() {
    let world = World::new();
    let address = world.coordinator().await;
    let (out, stays) = (world.join(Role::Viewer, "out", now()), world.join(Role::Viewer, "stays", now()));
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let mut watches = Vec::new();
    for held in [&out, &stays] {
        let channel = held.dialing().connect(&endpoint, Expected::Coordinator).await.unwrap();
        let mut client = HealthClient::new(channel);
        let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap().expect("the present state");
        watches.push((client, watch));
    }
    world.registry.revoke(&out.facts().identity, orbit_identity::now_in_milliseconds()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), watches[0].1.message());
    let told = format!("{:?}", ended.await.expect("the connection is cut").unwrap_err());
    assert!(told.contains("the other end is gone") && !told.contains("close_notify"), "{told}");
    watches[1].0.check(HealthCheckRequest::default()).await.expect("no other connection is cut");
}

#[tokio::test]
async fn a_new_certificate_is_for_the_same_holder_and_key() {
    let world = World::new();
    let (one, two) = (world.join(Role::Star, "one", now()), world.join(Role::Star, "two", now()));
    let renew = |holder: &Credentials, request: &Credentials| {
        world.registry.renew(&holder.facts(), &request.request().unwrap(), now())
    };
    let before = one.facts();
    assert!(one.take(&renew(&two, &two).unwrap()).is_err(), "it is for another identity");
    assert!(renew(&one, &two).is_err(), "a renewal keeps its key");
    assert_eq!(one.facts(), before);
    one.take(&renew(&one, &one).unwrap()).unwrap();
    let loaded = Credentials::load(one.directory()).unwrap().expect("it is there");
    assert_eq!(loaded.facts(), one.facts());
    assert_ne!(loaded.facts().serial, before.serial);
}
