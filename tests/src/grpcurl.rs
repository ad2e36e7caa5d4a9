//! grpcurl, a common client of operators: what it can do without our programs, any client can.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tokio::process::Command;

use crate::deadline::within;
use crate::programs::{cargo, target_directory};

/// Environment variable with the path of the grpcurl to use.
const GRPCURL_VARIABLE: &str = "ORBIT_TEST_GRPCURL";
/// The release of the package `grpcurl-rs` that is built if there is none; `scripts/test` builds the same.
pub const GRPCURL_VERSION: &str = "0.2.1";

/// Calls one server with grpcurl.
#[derive(Debug, Clone)]
pub struct Grpcurl {
    address: String,
    is_socket: bool,
}

impl Grpcurl {
    /// For a server at `host:port`.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), is_socket: false }
    }

    /// For a server at a Unix socket.
    pub fn at_socket(path: &Path) -> Self {
        let address = path.to_str().expect("sockets of tests have names of text").to_owned();
        Self { address, is_socket: true }
    }

    /// Calls a method such as `JobService/CreateJob` and returns every message of the answer.
    pub async fn call(&self, method: &str, request: &Value) -> Result<Vec<Value>, String> {
        let method = format!("orbit.v1.{method}");
        let output = self.run(&["-d", &request.to_string(), &self.address, &method]).await?;
        let messages = serde_json::Deserializer::from_str(&output).into_iter::<Value>();
        messages.collect::<Result<_, _>>().map_err(|error| format!("{method} answered {output}: {error}"))
    }

    /// The services that reflection lists.
    pub async fn services(&self) -> Result<Vec<String>, String> {
        let output = self.run(&[&self.address, "list"]).await?;
        Ok(output.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// The description of a service, method or message by reflection.
    pub async fn describe(&self, symbol: &str) -> Result<String, String> {
        self.run(&[&self.address, "describe", symbol]).await
    }

    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let program = tokio::task::spawn_blocking(program).await.expect("finding grpcurl does not panic");
        let mut command = Command::new(program);
        command.arg("--plaintext").kill_on_drop(true);
        if self.is_socket {
            command.args(["--unix", "--authority", "localhost"]);
        }
        command.args(arguments);
        let output = within("grpcurl", command.output()).await.expect("grpcurl starts");
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).expect("grpcurl prints text"));
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Finds grpcurl, or builds it once below the target directory.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(find).clone()
}

fn find() -> PathBuf {
    let tools = target_directory().join("tools");
    let path = std::env::var_os(GRPCURL_VARIABLE).map_or_else(|| tools.join("bin/grpcurl"), PathBuf::from);
    if path.is_file() {
        return path;
    }
    let is_given = std::env::var_os(GRPCURL_VARIABLE).is_some();
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(
        !is_given && !is_ci,
        "there is no {}; `scripts/test` builds grpcurl before the tests",
        path.display()
    );
    // Several test programs may need it at the same time.
    std::fs::create_dir_all(&tools).expect("the target directory is writable");
    let lock = File::create(tools.join("grpcurl.lock")).expect("the target directory is writable");
    flock(&lock, FlockOperation::LockExclusive).expect("files can be locked");
    if !path.is_file() {
        let mut install = cargo();
        install.args([
            "install",
            "--locked",
            "--quiet",
            "--debug",
            "grpcurl-rs",
            "--version",
            GRPCURL_VERSION,
        ]);
        install.arg("--root").arg(&tools).env("CARGO_TARGET_DIR", tools.join("build"));
        let output = install.output().expect("cargo starts");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the tests need grpcurl, and it cannot be built:\n{problem}");
    }
    path
}
