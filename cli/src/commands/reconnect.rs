//! Watches that outlive a restart of the coordinator, and go on where they were as far as the coordinator still can.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt as _;

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
    open: impl AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
    on_message: impl FnMut(T) -> Result<ControlFlow<B>, CliError>,
) -> Result<B, CliError> {
    follow(output, None, open, on_message).await
}

/// The same for a watch of what has numbers. Where the coordinator cannot go on at the position, the operator is told what
/// is missed, and the watch goes on with what there is.
pub(crate) async fn follow<T, B>(
    output: Output,
    position: Option<&Position>,
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
        match position.and_then(|position| position.mend(&error)) {
            Some(note) => {
                output.note(&note);
                sleep(DELAY_FIRST).await;
            }
            None => patience.bear(error).await?,
        }
    }
}

/// Where a watch is among what has numbers that grow.
#[derive(Debug)]
pub(crate) struct Position {
    what: &'static str,
    /// Where it asks to start.
    after: Cell<u64>,
    /// The last that was shown.
    shown: Cell<u64>,
}

impl Position {
    /// A watch of `what`, in the plural, that has everything up to a number.
    pub(crate) fn new(what: &'static str, after: u64) -> Self {
        Self { what, after: Cell::new(after), shown: Cell::new(after) }
    }

    /// What the next watch asks for.
    pub(crate) fn after(&self) -> u64 {
        self.after.get()
    }

    /// Takes what has arrived; says whether it is new.
    pub(crate) fn take(&self, id: u64) -> bool {
        let is_new = id > self.shown.get();
        if is_new {
            self.shown.set(id);
            self.after.set(id);
        }
        is_new
    }

    /// Takes the position that a refusal names, and gives what the operator is to know.
    fn mend(&self, error: &CliError) -> Option<String> {
        let CliError::Refused(status) = error else { return None };
        let info = status.get_details_error_info()?;
        let number = |name: &str| info.metadata.get(name)?.parse::<u64>().ok();
        let (what, resume_at) = (self.what, number("resume_at")?);
        match info.reason.as_str() {
            "POSITION_GONE" => {
                self.after.set(resume_at);
                let (last, oldest) = (number("last_position")?, number("oldest_available")?);
                Some(format!(
                    "Some {what} after {last} were removed before they were shown here; going on with what is kept, \
                     from {oldest}."
                ))
            }
            "POSITION_UNKNOWN" => {
                self.after.set(resume_at);
                self.shown.set(resume_at);
                let (last, newest) = (number("last_position")?, number("newest_available")?);
                Some(format!(
                    "The coordinator's {what} end at {newest}, before {last}: it belongs to another grid, or was restored \
                     from a backup. Going on with what it has."
                ))
            }
            _ => None,
        }
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
                self.output.note(match &error {
                    CliError::Refused(status) if status.code() == Code::Aborted => {
                        "The coordinator cut this watch off, since it was not read; going on where it was."
                    }
                    _ => "The connection to the coordinator is lost; trying again.",
                });
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

    fn lost_position(reason: &str, resume_at: u64) -> CliError {
        let numbers = [
            ("last_position", 5),
            ("oldest_available", 12),
            ("newest_available", 40),
            ("resume_at", resume_at),
        ];
        let metadata = numbers.map(|(name, number): (_, u64)| (name.to_owned(), number.to_string()));
        let details = tonic_types::ErrorDetails::with_error_info(reason, "orbit.v1", metadata);
        CliError::from(Status::with_error_details(Code::OutOfRange, "gone", details))
    }

    #[test]
    fn what_is_missed_is_told_and_nothing_is_shown_twice() {
        let position = Position::new("bulletins", 3);
        assert!(position.take(5) && !position.take(4));
        let note = position.mend(&lost_position("POSITION_GONE", 0)).expect("a note");
        assert!(note.contains("bulletins after 5") && note.contains("from 12"), "{note}");
        assert_eq!(position.after(), 0);
        assert_eq!([2, 5, 12, 13].map(|id| position.take(id)), [false, false, true, true]);
        assert_eq!(position.after(), 13);
    }

    #[test]
    fn another_grid_begins_with_its_own_numbers() {
        let position = Position::new("events", 500);
        let note = position.mend(&lost_position("POSITION_UNKNOWN", 0)).expect("a note");
        assert!(note.contains("end at 40"), "{note}");
        assert!(position.take(1));
        assert!(position.mend(&lost_position("SOMETHING_ELSE", 0)).is_none());
        assert!(position.mend(&lost()).is_none());
    }

    #[tokio::test]
    async fn a_refusal_is_not_borne() {
        let refusal = CliError::from(tonic::Status::not_found("there is no job 7"));
        assert!(Patience::new(Output::new(false, Color::Never)).bear(refusal).await.is_err());
    }
}
