//! `orbit ping`: whether a coordinator or a Star serves. Meant for the health probes of containers and load balancers,
//! to which any exit code but 0 and 1 says something else.

use std::sync::Arc;

use orbit_identity::{Dialing, now};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::client::Client;
use crate::contexts::Target;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// Asks the server at `url`.
pub(crate) async fn ping(target: &Target, output: Output) -> Result<Outcome, CliError> {
    let url = target.url.as_str();
    match serving_status(target).await {
        Ok(ServingStatus::Serving) => {
            if output.is_json() {
                output.line(&serde_json::json!({"url": url, "status": "SERVING"}).to_string())?;
            } else {
                output.text(&format!("{url} serves"))?;
            }
            Ok(Outcome::Completed)
        }
        Ok(status) => Err(CliError::Failed(format!("{url} answers, but is {}", status.as_str_name()))),
        Err(CliError::Unreachable { problem }) => {
            Err(CliError::Failed(format!("nobody serves at {url}: {problem}")))
        }
        Err(other) => Err(other),
    }
}

async fn serving_status(target: &Target) -> Result<ServingStatus, CliError> {
    let url = target.url.as_str();
    let client = match url.starts_with("https://") {
        false => Client::connect(url, Arc::clone(&target.users)).await?,
        true => Client::connect_to_anybody(url, &dialing(target)?).await?,
    };
    // The empty name asks for the server as a whole.
    let answer = client.serving().check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status())
}

/// Connects with the identity, or without one if there is none; then the certificate of the authority is enough.
fn dialing(target: &Target) -> Result<Dialing, CliError> {
    let (url, directory) = (target.url.as_str(), target.directory()?);
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let found = Dialing::of_directory(&directory, now()).map_err(|error| failed(&error))?;
    found.ok_or_else(|| {
        CliError::Failed(format!(
            "{url} speaks TLS, and there is no ca.pem in {}; say with --identity where one is: the directory of an \
             identity, or identity in the coordinator's --data-dir",
            directory.display()
        ))
    })
}
