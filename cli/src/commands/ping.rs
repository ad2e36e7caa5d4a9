//! `orbit ping`: whether a coordinator or a Star serves. Meant for the health probes of containers and load balancers,
//! to which any exit code but 0 and 1 says something else.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::client::{Client, normalize_url};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// Asks whoever is at `url`.
pub(crate) async fn ping(url: &str, output: Output) -> Result<Outcome, CliError> {
    let url = normalize_url(url);
    match serving_status(&url).await {
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

async fn serving_status(url: &str) -> Result<ServingStatus, CliError> {
    let client = Client::connect(url).await?;
    // The empty name asks for the server as a whole.
    let answer = client.serving().check(HealthCheckRequest { service: String::new() }).await?;
    Ok(answer.into_inner().status())
}
