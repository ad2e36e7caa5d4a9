//! Who this program is to a coordinator that speaks TLS: where its identity is, and how it gets one.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orbit_identity::{Credentials, EnrollError, JoinToken, Name, NewKey, Role, now};
use tonic::transport::Endpoint;

use crate::args::JoinArgs;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// What somebody without an identity is told.
const HOW_TO_JOIN: &str = "ask an operator for `orbit token create --role operator`, or on the coordinator's machine run \
                           `orbit-coordinator token create --data-dir DIR --role operator`, then `orbit join TOKEN \
                           --coordinator URL`";

/// Where the identity is: as said, or where this user's settings are.
pub(crate) fn directory(said: Option<&Path>) -> Result<PathBuf, CliError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".config"));
    let settings = || set("XDG_CONFIG_HOME").or_else(home).map(|settings| settings.join("orbit"));
    said.map(Path::to_owned).or_else(settings).ok_or_else(|| {
        CliError::Usage(
            "--identity: neither XDG_CONFIG_HOME nor HOME is set, so say which directory".to_owned(),
        )
    })
}

/// The identity in a directory, which must be there and still good.
pub(crate) fn credentials(directory: &Path, url: &str) -> Result<Arc<Credentials>, CliError> {
    let shown = directory.display();
    let held = Credentials::load(directory).map_err(|error| CliError::Failed(error.to_string()))?;
    let held = held.ok_or_else(|| {
        CliError::Failed(format!("{url} speaks TLS, and there is no identity in {shown} yet: {HOW_TO_JOIN}"))
    })?;
    if held.facts().not_after <= now() {
        let who = held.facts().identity;
        return Err(CliError::Failed(format!(
            "the certificate of {who} in {shown} has expired: {HOW_TO_JOIN}"
        )));
    }
    Ok(Arc::new(held))
}

/// `orbit join`.
pub(crate) async fn join(
    args: JoinArgs,
    url: &str,
    directory: &Path,
    output: Output,
) -> Result<Outcome, CliError> {
    if !url.starts_with("https://") {
        let text = format!(
            "--coordinator {url}: a coordinator without TLS gives nobody an identity; write https://"
        );
        return Err(CliError::Usage(text));
    }
    let text = token_text(&args.token)?;
    let bad = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let token = JoinToken::read(&text).map_err(|error| bad(&error))?;
    if token.role == Role::Star {
        let text = "the join token is one for a Star, which joins when it starts: orbit-star --join TOKEN";
        return Err(CliError::Usage(text.to_owned()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| CliError::Usage(format!("--coordinator {url}: write a URL such as https://HOST:7100")))?
        .connect_timeout(crate::client::CONNECT_TIMEOUT);
    let name = args.name.or_else(|| token.name.clone()).or_else(user).or_else(machine);
    let name =
        name.ok_or_else(|| CliError::Usage("--name: the join token names nobody, so say a name".to_owned()))?;
    let key = NewKey::prepare(directory).map_err(|error| CliError::Failed(error.to_string()))?;
    let joined = orbit_identity::join(&endpoint, &text, key, Some(&name)).await.map_err(refused)?;
    let who = joined.facts().identity;
    let shown = directory.display();
    if output.is_json() {
        let value = serde_json::json!({
            "role": who.role.as_str(), "name": who.name.as_str(), "directory": shown.to_string(),
        });
        output.line(&value.to_string())?;
    } else {
        output.text(&format!("joined as {who}; the identity is in {shown}"))?;
    }
    Ok(Outcome::Completed)
}

/// The token, which `-` says is on standard input, where no list of processes shows it.
fn token_text(said: &str) -> Result<String, CliError> {
    if said != "-" {
        return Ok(said.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
    read.map_err(|error| CliError::Failed(format!("the token cannot be read from standard input: {error}")))?;
    Ok(text)
}

/// What this user is called, if that can be a name.
fn user() -> Option<Name> {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()?;
    Name::new(user).ok()
}

/// What this machine is called; services and containers often have no user's name.
fn machine() -> Option<Name> {
    let name = rustix::system::uname();
    Name::new(name.nodename().to_str().ok()?).ok()
}

fn refused(error: EnrollError) -> CliError {
    match error {
        EnrollError::Refused { status, .. } => CliError::Refused(status),
        EnrollError::Unreachable { problem, .. } => CliError::Unreachable { problem },
        EnrollError::Token(_) | EnrollError::Credentials(_) => CliError::Failed(error.to_string()),
    }
}
