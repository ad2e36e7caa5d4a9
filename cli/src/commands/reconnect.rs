//! Watches that outlive a restart of the coordinator.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Response, Status, Streaming};

use crate::errors::CliError;
use crate::output::Output;

const DELAY_FIRST: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// After this long without a word a watch gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a stream, gives `on_message` what arrives until it breaks off with a value, and opens the stream again when the
/// connection is lost. What `open` asks for should therefore start after what has arrived.
pub(crate) async fn watch<T, B>(
    output: Output,
    mut open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    mut on_message: impl FnMut(T) -> Result<ControlFlow<B>, CliError>,
) -> Result<B, CliError> {
    let mut patience = Patience::new(output);
    loop {
        let error = match open().await {
            Err(status) => CliError::from(status),
            Ok(answer) => {
                let mut stream = answer.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            patience.renew();
                            if let ControlFlow::Break(value) = on_message(message)? {
                                return Ok(value);
                            }
                        }
                        Ok(None) => break CliError::Unreachable { problem: "the watch ended".to_owned() },
                        Err(status) => break CliError::from(status),
                    }
                }
            }
        };
        patience.bear(error).await?;
    }
}

/// Decides whether a watch that broke is tried again, and waits before it is.
#[derive(Debug)]
struct Patience {
    output: Output,
    broken_since: Option<Instant>,
    delay: Duration,
}

impl Patience {
    fn new(output: Output) -> Self {
        Self { output, broken_since: None, delay: DELAY_FIRST }
    }

    /// Something arrived: the next break is a new one.
    fn renew(&mut self) {
        self.broken_since = None;
        self.delay = DELAY_FIRST;
    }

    /// Waits for a moment after a break, or returns the error if it will not pass or lasts too long.
    async fn bear(&mut self, error: CliError) -> Result<(), CliError> {
        if !error.is_passing() {
            return Err(error);
        }
        match self.broken_since {
            None => {
                self.output.note("The connection to the coordinator is lost; trying again.");
                self.broken_since = Some(Instant::now());
            }
            Some(since) if since.elapsed() > PATIENCE => return Err(error),
            Some(_) => {}
        }
        sleep(self.delay).await;
        self.delay = (self.delay * 2).min(DELAY_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    fn lost() -> CliError {
        CliError::Unreachable { problem: "connection refused".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_break_is_borne_for_a_while_and_then_reported() {
        let mut patience = Patience::new(Output::new(false, Color::Never));
        let start = Instant::now();
        while patience.bear(lost()).await.is_ok() {}
        assert!(start.elapsed() > PATIENCE && start.elapsed() < PATIENCE + 2 * DELAY_MAX);
        patience.renew();
        assert!(patience.bear(lost()).await.is_ok());
    }

    #[tokio::test]
    async fn a_refusal_is_not_borne() {
        let refusal = CliError::from(tonic::Status::not_found("there is no job 7"));
        assert!(Patience::new(Output::new(false, Color::Never)).bear(refusal).await.is_err());
    }
}
