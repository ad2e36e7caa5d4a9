//! A headless Chromium, controlled by the DevTools protocol: pages, clicks, errors in pages, and screenshots.
//!
//! Only the few commands that the tests need, over one WebSocket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::deadline::{eventually, within};

/// Environment variable with the path of the Chromium to use.
const CHROMIUM_VARIABLE: &str = "ORBIT_TEST_CHROMIUM";
/// Maximum size of a message, in bytes. A screenshot of a long page has some megabytes.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
const COMMANDS_MAX: usize = 64;

/// The window in which a page is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the window, in CSS pixels.
    pub width: u32,
    /// Height of the window.
    pub height: u32,
    /// Whether the reader prefers a dark colour scheme.
    pub is_dark: bool,
    /// Whether it is a phone.
    pub is_phone: bool,
}

impl Look {
    /// A desktop window in the light colour scheme.
    pub const DESK: Self = Self { width: 1360, height: 900, is_dark: false, is_phone: false };
    /// A desktop window in the dark colour scheme.
    pub const NIGHT: Self = Self { is_dark: true, ..Self::DESK };
    /// A phone.
    pub const PHONE: Self = Self { width: 390, height: 844, is_dark: false, is_phone: true };
}

/// A running browser. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    // The process ends before its directory is removed.
    _process: Child,
    wire: Wire,
    _directory: TempDir,
}

impl Browser {
    /// Starts a browser; `None` if there is none and none is required.
    pub async fn start() -> Option<Self> {
        let program = find()?;
        let directory = tempfile::Builder::new().prefix("orbit-browser-").tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.args([
            "--headless=new",
            // The tests run as root, where Chromium has no sandbox of its own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", directory.path().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.arg("about:blank").spawn().expect("Chromium starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = within("Chromium to say where it listens", async {
            loop {
                let line = lines.next_line().await.expect("Chromium speaks text").expect("Chromium ended");
                if let Some(address) = line.strip_prefix("DevTools listening on ") {
                    return address.trim().to_owned();
                }
            }
        })
        .await;
        // Its further output must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { _process: process, wire: Wire::connect(&address).await, _directory: directory })
    }

    /// Opens a page.
    pub async fn open(&self, url: &str, look: Look) -> Page {
        let made = self.wire.call(None, "Target.createTarget", json!({ "url": "about:blank" })).await;
        let asked = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = self.wire.call(None, "Target.attachToTarget", asked).await;
        let session = attached["sessionId"].as_str().expect("a session has an id").to_owned();
        let page = Page { wire: self.wire.clone(), session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.call(domain, json!({})).await;
        }
        page.look(look).await;
        page.go(url).await;
        page
    }
}

/// A page that is open.
#[derive(Debug, Clone)]
pub struct Page {
    wire: Wire,
    session: String,
}

impl Page {
    /// Changes the window.
    pub async fn look(&self, look: Look) {
        let metrics = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.is_phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if look.is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Goes to an address.
    pub async fn go(&self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// All visible text.
    pub async fn text(&self) -> String {
        self.value("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true in the page.
    pub async fn wait(&self, expression: &str) {
        let guarded =
            format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        let looked = tokio::time::timeout(
            crate::deadline::PATIENCE / 2,
            eventually(expression, async || (self.value(&guarded).await == true).then_some(())),
        );
        if looked.await.is_err() {
            panic!(
                "{expression} does not come true; errors {:?}; the page says:\n{}",
                self.errors(),
                self.text().await
            );
        }
    }

    /// Waits until a text is visible.
    pub async fn wait_text(&self, text: &str) {
        self.wait(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Clicks where an element is, as a mouse would.
    pub async fn click(&self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.wait(&format!("{found} && !{found}.disabled")).await;
        let place = self
            .value(&format!(
                "(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}}); \
                 const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] }})()"
            ))
            .await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Presses a key such as `Tab`, `Enter` or `Escape`.
    pub async fn press(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            other => panic!("{other} is no key of these tests"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "text": if kind == "keyDown" { text } else { "" },
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Takes a screenshot of the whole page.
    pub async fn picture(&self, path: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", asked).await;
        let text = answer["data"].as_str().expect("a picture");
        let bytes = BASE64.decode(text).expect("Chromium writes base64");
        std::fs::create_dir_all(path.parent().expect("a picture lies in a directory")).expect("writable");
        std::fs::write(path, bytes).expect("the target directory is writable");
    }

    /// The errors and warnings so far: of scripts, of the network and of the content security policy.
    pub fn errors(&self) -> Vec<String> {
        self.wire
            .troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&self.session)
            .cloned()
            .unwrap_or_default()
    }

    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.wire.call(Some(&self.session), method, parameters).await
    }
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// The connection to the browser, shared by its pages.
#[derive(Debug, Clone)]
struct Wire {
    commands: mpsc::Sender<(Value, oneshot::Sender<Result<Value, String>>)>,
    troubles: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Wire {
    async fn connect(address: &str) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let connected = tokio_tungstenite::connect_async_with_config(address, Some(config), true).await;
        let (socket, _) = connected.expect("Chromium takes a connection");
        let (mut sink, mut source) = socket.split();
        let (commands, mut asked) = mpsc::channel::<(Value, oneshot::Sender<_>)>(COMMANDS_MAX);
        let troubles = Arc::new(Mutex::new(BTreeMap::<String, Vec<String>>::new()));
        let waiting = Waiting::default();
        let (answers, kept) = (waiting.clone(), troubles.clone());
        tokio::spawn(async move {
            let mut number = 0;
            while let Some((mut command, answer)) = asked.recv().await {
                number += 1;
                command["id"] = json!(number);
                waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answer);
                if sink.send(Message::text(command.to_string())).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(message)) = source.next().await {
                let Ok(text) = message.to_text() else { continue };
                let Ok(said) = serde_json::from_str::<Value>(text) else { continue };
                if let Some(number) = said["id"].as_u64() {
                    let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                    let outcome = match said.get("error") {
                        Some(error) => Err(error.to_string()),
                        None => Ok(said["result"].clone()),
                    };
                    // The caller may have given up.
                    answer.map(|answer| answer.send(outcome));
                } else if let Some(trouble) = trouble(&said) {
                    let session = said["sessionId"].as_str().unwrap_or_default().to_owned();
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.entry(session).or_default().push(trouble);
                }
            }
        });
        Self { commands, troubles }
    }

    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let mut command = json!({ "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = json!(session);
        }
        let (answer, answered) = oneshot::channel();
        self.commands.send((command, answer)).await.expect("Chromium runs");
        let answered = within(method, answered).await.expect("Chromium runs");
        answered.unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

/// The text of an event of the browser that reports an error.
fn trouble(said: &Value) -> Option<String> {
    let parameters = &said["params"];
    match said["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled"
            if ["error", "warning", "assert"].contains(&parameters["type"].as_str()?) =>
        {
            Some(parameters["args"].to_string())
        }
        "Log.entryAdded" if ["error", "warning"].contains(&parameters["entry"]["level"].as_str()?) => {
            Some(format!("{} {}", parameters["entry"]["text"], parameters["entry"]["url"]))
        }
        _ => None,
    }
}

/// Finds Chromium. If everything is required, its absence is a failure.
fn find() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os(CHROMIUM_VARIABLE) {
        return Some(PathBuf::from(given));
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories)
        .flat_map(|directory| {
            ["chromium", "chromium-browser", "google-chrome"].map(|name| directory.join(name))
        })
        .find(|path| path.is_file());
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(found.is_some() || !is_ci, "there is no chromium; `scripts/test` installs it before the tests");
    found
}
