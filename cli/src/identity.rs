//! Who this program is to a coordinator that speaks TLS: where its identity is, and how it gets one.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use orbit_identity::{Credentials, EnrollError, Invitation, Name, NewKey, Role, now};
use tonic::transport::Endpoint;

use crate::args::{ContextCommand, GlobalArgs, JoinArgs};
use crate::contexts::Contexts;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::{Output, human};

/// What somebody without an identity is told.
const HOW_TO_JOIN: &str = "ask an operator for `orbit token create --role operator`, or on the coordinator's machine run \
                           `orbit-coordinator token create --data-dir DIR --role operator`, then `orbit join TOKEN \
                           --coordinator URL`";

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
    (url, global): (&str, &GlobalArgs),
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
    let token = Invitation::read(&text).map_err(|error| bad(&error))?;
    if token.role == Role::Star {
        let text = "the join token is one for a Star, which joins when it starts: orbit-star --join TOKEN";
        return Err(CliError::Usage(text.to_owned()));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| CliError::Usage(format!("--coordinator {url}: write a URL such as https://HOST:7100")))?
        .connect_timeout(crate::client::CONNECT_TIMEOUT);
    let name = match args.name.or_else(|| token.name.clone()) {
        // The coordinator knows the one that it is good for.
        None if token.has_name => None,
        said => Some(said.or_else(user).or_else(machine).ok_or_else(|| {
            CliError::Usage("--name: the join token is good for any name, so say one".to_owned())
        })?),
    };
    let (contexts, context) = match &global.identity {
        Some(_) => (None, None),
        None => {
            let contexts = Contexts::open()?;
            let context = contexts.for_joining(&token, global.context.as_deref(), url)?;
            (Some(contexts), Some(context))
        }
    };
    let directory = context.as_ref().map(|context| context.directory.clone());
    let directory = &directory.or_else(|| global.identity.clone()).unwrap_or_default();
    let key = NewKey::prepare(directory).map_err(|error| CliError::Failed(error.to_string()))?;
    let joined = orbit_identity::join(&endpoint, &text, key, name.as_ref()).await.map_err(refused)?;
    let who = joined.facts().identity;
    let shown = directory.display();
    if let (Some(contexts), Some(context)) = (&contexts, &context) {
        contexts.keep(context, url)?;
    }
    let name = context.map(|context| context.name);
    if output.is_json() {
        let value = serde_json::json!({
            "role": who.role.as_str(), "name": who.name.as_str(), "directory": shown.to_string(), "context": name,
        });
        output.line(&value.to_string())?;
    } else {
        let in_use = name.map(|name| format!("; context {name} is in use")).unwrap_or_default();
        output.text(&format!("joined as {who}; the identity is in {shown}{in_use}"))?;
    }
    Ok(Outcome::Completed)
}

/// `orbit context`.
pub(crate) fn context(command: ContextCommand, output: Output) -> Result<Outcome, CliError> {
    let contexts = Contexts::open()?;
    match command {
        ContextCommand::Use { name } => {
            let context = contexts.take(&name)?;
            let coordinator = context.coordinator.unwrap_or_default();
            if output.is_json() {
                let value = serde_json::json!({ "context": name, "coordinator": coordinator });
                output.line(&value.to_string())?;
            } else {
                output.text(&format!("context {name} is in use: {coordinator}"))?;
            }
        }
        ContextCommand::Ls => list_contexts(&contexts, output)?,
    }
    Ok(Outcome::Completed)
}

fn list_contexts(contexts: &Contexts, output: Output) -> Result<(), CliError> {
    let current = contexts.current().map(|context| context.name);
    let all = contexts.all();
    let mut table = Table::new(&["IN USE", "NAME", "COORDINATOR", "IDENTITY", "DIRECTORY"]);
    for context in &all {
        let held = Credentials::load(&context.directory).ok().flatten();
        let who = held.map(|held| held.facts().identity.to_string()).unwrap_or_default();
        let is_current = current.as_ref() == Some(&context.name);
        let (directory, coordinator) =
            (context.directory.display().to_string(), context.coordinator.clone().unwrap_or_default());
        if output.is_json() {
            let value = serde_json::json!({
                "context": context.name, "coordinator": coordinator, "identity": who, "directory": directory,
                "isInUse": is_current,
            });
            output.line(&value.to_string())?;
        }
        table.row([human::flag(is_current), context.name.clone(), coordinator, who, directory]);
    }
    if output.is_json() {
        return Ok(());
    }
    if all.is_empty() {
        output.note("No grid was joined yet. Join one with `orbit join TOKEN --coordinator URL`.");
        return Ok(());
    }
    output.text(&table.render(true))
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
