//! The commands of operators, and grpcurl.

use std::path::PathBuf;

use orbit_tests::deadline::within;
use orbit_tests::grpcurl;
use orbit_tests::programs::program;
use orbit_tests::secured::SecuredGrid;
use tokio::process::Command;

struct Orbit<'a> {
    grid: &'a SecuredGrid,
    identity: PathBuf,
}

impl<'a> Orbit<'a> {
    fn new(grid: &'a SecuredGrid, name: &str) -> Self {
        Self { grid, identity: grid.directory().join("people").join(name) }
    }

    /// Returns the exit code, standard output and standard error.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(program("orbit"));
        command.args(arguments).args(["--coordinator", &self.grid.url(), "--identity"]).arg(&self.identity);
        let output = within("orbit", command.kill_on_drop(true).output()).await.expect("orbit starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("orbit prints text").trim().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    async fn good(&self, arguments: &[&str]) -> String {
        let (code, output, errors) = self.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        output
    }
}

#[tokio::test]
async fn an_operator_joins_admits_others_and_revokes_them() {
    let grid = SecuredGrid::start(&[]).await;
    let (ann, vera) = (Orbit::new(&grid, "ann"), Orbit::new(&grid, "vera"));
    let (code, _, errors) = ann.run(&["job", "ls"]).await;
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("orbit join") && errors.contains("token create"), "{errors}");
    let token = grid.token(&["--role", "operator"]).await;
    let joined = ann.good(&["join", &token, "--name", "ann"]).await;
    assert!(joined.contains("operator ann"), "{joined}");
    ann.good(&["job", "ls"]).await;

    let token = ann.good(&["token", "create", "--role", "viewer", "--name", "vera", "--ttl", "10m"]).await;
    vera.good(&["join", &token]).await;
    vera.good(&["star", "ls"]).await;
    let (code, _, errors) = vera.run(&["job", "cancel", "1"]).await;
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.starts_with("error: not allowed: viewer vera may not call"), "{errors}");
    let listed = ann.good(&["identity", "ls"]).await;
    assert!(listed.contains("operator") && listed.contains("vera") && listed.contains("valid"), "{listed}");
    ann.good(&["identity", "revoke", "viewer", "vera"]).await;
    let (code, _, errors) = vera.run(&["star", "ls"]).await;
    assert!(code == Some(1) && errors.contains("was revoked"), "{code:?} {errors}");

    let open = ann.good(&["token", "create", "--role", "viewer", "--name", "bob"]).await;
    let listed = ann.good(&["token", "ls"]).await;
    assert!(listed.contains("bob") && listed.contains("operator:ann"), "{listed}");
    assert!(!listed.contains(open.trim_start_matches("orbit-join-")), "{listed}");
    let id = listed.lines().find(|line| line.contains("bob")).and_then(|line| line.split_whitespace().next());
    ann.good(&["token", "revoke", id.expect("a token has a number")]).await;
    let (code, _, errors) = vera.run(&["join", &open]).await;
    assert!(code == Some(1) && errors.contains("cancelled"), "{code:?} {errors}");
    ann.good(&["keys", "rotate"]).await;

    let star = ann.good(&["token", "create"]).await;
    let (code, _, errors) = vera.run(&["join", &star]).await;
    assert!(code == Some(2) && errors.contains("orbit-star --join"), "{code:?} {errors}");
}

#[tokio::test]
async fn ping_asks_over_tls_with_the_authority_alone() {
    let mut grid = SecuredGrid::start(&[]).await;
    let star = grid.add_star("star-1").await;
    let mut orbit = Orbit::new(&grid, "nobody");
    let (code, _, errors) = orbit.run(&["ping"]).await;
    assert!(code == Some(1) && errors.contains("--identity"), "{code:?} {errors}");
    orbit.identity = grid.data_directory().join("identity");
    assert!(orbit.good(&["ping"]).await.contains("serves"));
    // A Star requires a certificate; its own can be used.
    orbit.identity = grid.vault("star-1").join("credentials");
    assert!(orbit.good(&["ping", &format!("https://{star}")]).await.contains("serves"));
}

#[tokio::test]
async fn files_of_a_star_are_read_over_a_socket_with_an_identity() {
    let place = tempfile::tempdir().expect("a directory");
    let socket = format!("unix:{}", place.path().join("coordinator.sock").display());
    let mut grid = SecuredGrid::start(&["--listen", &socket]).await;
    grid.add_star("star-1").await;
    std::fs::create_dir(grid.root("star-1").join("tree")).expect("a directory");
    std::fs::write(grid.root("star-1").join("tree/note"), "what is in it").expect("a file");
    let operator = grid.join("operator", "ann").await;
    let client = grid.client(&operator);
    grid.wait_ready(&client, "star-1").await;
    let mut spec = grid.copy_spec("tree", "star-1", "star-1");
    spec.layout = orbit_proto::v1::Layout::Packed.into();
    spec.destinations[0].path.clear();
    client.wait_end(client.create(spec).await).await;
    let cat = async |identity: Option<&std::path::Path>| {
        let mut command = Command::new(program("orbit"));
        command.args(["--coordinator", &socket, "snapshot", "cat", "latest", "note"]);
        command.env("HOME", place.path()).env_remove("XDG_CONFIG_HOME");
        command.args(identity.map(|directory| format!("--identity={}", directory.display())));
        let output = within("orbit", command.kill_on_drop(true).output()).await.expect("orbit starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(output.stdout), text(output.stderr))
    };
    let (content, errors) = cat(Some(operator.directory())).await;
    assert_eq!(content, "what is in it", "{errors}");
    let (content, errors) = cat(None).await;
    assert!(content.is_empty() && errors.contains("TLS"), "it says what is missing: {errors}");
}

#[tokio::test]
async fn grpcurl_is_admitted_with_the_files_of_an_identity() {
    let grid = SecuredGrid::start(&[]).await;
    let operator = grid.join("operator", "ann").await;
    let program = tokio::task::spawn_blocking(grpcurl::program).await.expect("grpcurl is found");
    let port = grid.address().rsplit(':').next().unwrap();
    // By a name in the certificate, with which grpcurl compares it.
    let address = format!("localhost:{port}");
    let list = async |with_key: bool| {
        let mut command = Command::new(&program);
        let file = |name: &str| operator.directory().join(name);
        command.arg("--cacert").arg(file("ca.pem"));
        if with_key {
            command.arg("--cert").arg(file("certificate.pem")).arg("--key").arg(file("key.pem"));
        }
        command.args(["-d", "{}", &address, "orbit.v1.IdentityService/ListIdentities"]).kill_on_drop(true);
        within("grpcurl", command.output()).await.expect("grpcurl starts")
    };
    let listed = list(true).await;
    let (output, errors) = (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    assert!(listed.status.success() && output.contains("\"ann\""), "{output} {errors}");
    let refused = list(false).await;
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("certificate"), "{errors}");
}

#[tokio::test]
async fn a_second_grid_keeps_the_identity_of_the_first() {
    let (one, other) = (SecuredGrid::start(&[]).await, SecuredGrid::start(&[]).await);
    let home = one.directory().join("settings");
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(program("orbit"));
        command.args(arguments).env("XDG_CONFIG_HOME", &home).env_remove("ORBIT_COORDINATOR");
        let output = within("orbit", command.kill_on_drop(true).output()).await.expect("orbit starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("orbit prints text").trim().to_owned();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let good = async |arguments: &[&str]| {
        let (code, output, errors) = run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
        output
    };
    let token = one.token(&["--role", "operator", "--name", "ann"]).await;
    good(&["join", &token, "--coordinator", &one.url()]).await;
    let token = other.token(&["--role", "viewer", "--name", "vera"]).await;
    good(&["join", &token, "--coordinator", &other.url(), "--context", "away"]).await;
    let listed = good(&["context", "ls"]).await;
    assert!(listed.contains(&one.url()) && listed.contains(&other.url()), "{listed}");
    assert!(listed.contains("operator ann") && listed.contains("viewer vera"), "{listed}");

    // By default the grid that was joined last is used; an address selects its own context.
    assert!(good(&["identity", "ls"]).await.contains("vera"));
    assert!(good(&["identity", "ls", "--coordinator", &one.url()]).await.contains("ann"));
    assert!(good(&["identity", "ls", "--context", "default"]).await.contains("ann"));
    good(&["context", "use", "default"]).await;
    assert!(good(&["identity", "ls"]).await.contains("ann"));
    let (code, _, errors) = run(&["identity", "ls", "--context", "none"]).await;
    assert!(code == Some(2) && errors.contains("orbit context ls"), "{code:?} {errors}");
    let stranger = other.token(&["--role", "viewer"]).await;
    let again = ["join", stranger.as_str(), "--coordinator", &other.url(), "--context", "default"];
    let (code, _, errors) = run(&again).await;
    assert!(code == Some(2) && errors.contains("another grid"), "{code:?} {errors}");

    // The error for an unreachable grid names the identity in use, also as JSON for programs.
    let url = other.url();
    drop(other);
    let (code, _, errors) = run(&["job", "ls", "--context", "away"]).await;
    assert!(code == Some(5) && errors.contains("viewer vera, context away"), "{code:?} {errors}");
    let (code, _, errors) = run(&["job", "ls", "--coordinator", &url, "--json"]).await;
    let error: serde_json::Value = serde_json::from_str(&errors).expect("errors are JSON");
    assert!(code == Some(5) && error["error"]["reason"] == "UNREACHABLE", "{code:?} {errors}");
    let (code, _, errors) = run(&["job", "show", "abc", "--json"]).await;
    let error: serde_json::Value = serde_json::from_str(&errors).expect("errors are JSON");
    let message = error["error"]["message"].as_str().unwrap_or_default();
    assert!(code == Some(2) && message.contains("job ids are numbers"), "{code:?} {errors}");
}
