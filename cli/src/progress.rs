//! How far a job is, on standard error: one bar that moves when a person watches, a line now and then otherwise.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use orbit_proto::v1::{Job, JobProgress, JobState};
use tokio::time::Instant;

use crate::output::{Output, human, is_watched};

/// A job that ends sooner needs no line before its summary.
const FIRST_LINE_DELAY: Duration = Duration::from_secs(1);
/// Between two lines when nobody watches.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const TICK_INTERVAL: Duration = Duration::from_millis(120);
/// The bar is drawn in parts of a million, since items and bytes both count.
const BAR_LENGTH: u64 = 1_000_000;

/// The progress of one job.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
    start: Instant,
    line: Option<(JobState, Instant)>,
}

impl Progress {
    /// Progress on standard error.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bar: is_watched().then(new_bar), start: Instant::now(), line: None }
    }

    /// Shows the job as it is now.
    pub(crate) fn show(&mut self, job: &Job) {
        let text = describe(job);
        if let Some(bar) = &self.bar {
            bar.set_position(position(&job.progress.unwrap_or_default()));
            bar.set_message(text);
        } else if self.is_line_due(job.state()) {
            self.line = Some((job.state(), Instant::now()));
            self.output.note(&text);
        }
    }

    fn is_line_due(&self, state: JobState) -> bool {
        match self.line {
            // The summary says it better.
            _ if matches!(
                state,
                JobState::Completed | JobState::PartiallyCompleted | JobState::Cancelled
            ) =>
            {
                false
            }
            None => self.start.elapsed() >= FIRST_LINE_DELAY,
            Some((before, at)) => before != state || at.elapsed() >= LINE_INTERVAL,
        }
    }

    /// For saying something while the progress is shown.
    pub(crate) fn notes(&self) -> Notes {
        Notes { output: self.output, bar: self.bar.clone() }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says things without tearing the bar.
#[derive(Debug)]
pub(crate) struct Notes {
    output: Output,
    bar: Option<ProgressBar>,
}

impl Notes {
    /// Writes a line to standard error.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(BAR_LENGTH);
    let style = ProgressStyle::with_template("{spinner} {bar:16} {percent:>3}%  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

/// How much is done, in parts of [`BAR_LENGTH`]: bytes and items count half each, since either alone stands still while
/// the other moves.
fn position(progress: &JobProgress) -> u64 {
    let part = |done: u64, total: u64| if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let items_done = progress.items_stored + progress.items_skipped + progress.items_dead;
    if progress.items_total == 0 {
        return 0;
    }
    let done = part(items_done, progress.items_total) + part(progress.bytes_stored, progress.bytes_total);
    (done / 2.0 * BAR_LENGTH as f64) as u64
}

/// One line about a job.
pub(crate) fn describe(job: &Job) -> String {
    let progress = job.progress.unwrap_or_default();
    let is_scanning = job.state() == JobState::Scanning;
    let items_done = progress.items_stored + progress.items_skipped;
    let open_end = if is_scanning { "+" } else { "" };
    let mut parts = vec![
        format!("{}/{}{open_end} items", human::count(items_done), human::count(progress.items_total)),
        format!("{}/{}{open_end}", human::bytes(progress.bytes_stored), human::bytes(progress.bytes_total)),
        human::rate(progress.bytes_per_second),
    ];
    if let Some(remaining) = human::wire_duration(progress.estimated_remaining.as_ref()) {
        parts.push(format!("{} left", human::duration(remaining)));
    }
    let counts = [
        (progress.items_in_flight, "in flight"),
        (progress.items_penalized, "penalized"),
        (progress.items_dead, "dead"),
    ];
    for (number, what) in counts {
        if number > 0 {
            parts.push(format!("{} {what}", human::count(number)));
        }
    }
    let verb = match job.state() {
        JobState::Unspecified => "",
        JobState::Scanning => "scanning: ",
        JobState::Running => "copying: ",
        JobState::Paused => "paused: ",
        JobState::Completed => "completed: ",
        JobState::PartiallyCompleted => "partially completed: ",
        JobState::Failed => "failed: ",
        JobState::Cancelled => "cancelled: ",
    };
    // While items move, the reason only says that they do.
    let is_told = progress.items_in_flight == 0 && !job.state_reason.is_empty();
    let why = if is_told { format!(" ({})", human::plain(&job.state_reason)) } else { String::new() };
    format!("{verb}{}{why}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    fn job(state: JobState) -> Job {
        let progress = JobProgress {
            items_total: 2000,
            items_stored: 990,
            items_skipped: 10,
            items_dead: 2,
            items_in_flight: 3,
            bytes_total: 4 << 20,
            bytes_stored: 1 << 20,
            bytes_per_second: 512 << 10,
            estimated_remaining: Some(prost_types::Duration { seconds: 6, nanos: 0 }),
            ..JobProgress::default()
        };
        Job { state: state.into(), progress: Some(progress), ..Job::default() }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_what_is_stuck() {
        assert_eq!(
            describe(&job(JobState::Running)),
            "copying: 1,000/2,000 items, 1.0 MiB/4.0 MiB, 512.0 KiB/s, 6.0 s left, 3 in flight, 2 dead"
        );
        let mut waiting = Job { state_reason: "star-2 is draining".into(), ..job(JobState::Scanning) };
        assert!(!describe(&waiting).contains("draining"));
        waiting.progress = waiting.progress.map(|progress| JobProgress { items_in_flight: 0, ..progress });
        let text = describe(&waiting);
        assert!(text.contains("2,000+ items") && text.ends_with("(star-2 is draining)"), "{text}");
    }

    #[test]
    fn the_bar_counts_items_and_bytes_half_each() {
        let progress = job(JobState::Running).progress.unwrap();
        assert_eq!(position(&JobProgress { items_dead: 0, ..progress }), 375_000);
        assert_eq!(position(&JobProgress::default()), 0);
        let only_items = JobProgress { items_total: 4, items_stored: 4, ..JobProgress::default() };
        assert_eq!(position(&only_items), BAR_LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_at_a_modest_pace_and_at_a_change() {
        let mut progress = Progress {
            output: Output::new(false, Color::Never),
            bar: None,
            start: Instant::now(),
            line: None,
        };
        assert!(!progress.is_line_due(JobState::Scanning), "it may end at once");
        tokio::time::advance(FIRST_LINE_DELAY).await;
        assert!(progress.is_line_due(JobState::Scanning));
        progress.line = Some((JobState::Scanning, Instant::now()));
        assert!(!progress.is_line_due(JobState::Scanning) && progress.is_line_due(JobState::Running));
        assert!(!progress.is_line_due(JobState::Completed), "the summary says it");
        tokio::time::advance(LINE_INTERVAL).await;
        assert!(progress.is_line_due(JobState::Scanning));
    }
}
