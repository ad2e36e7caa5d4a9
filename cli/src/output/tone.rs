//! What a word on the screen means to an operator, and the colour for it: good is green, what waits or warns is yellow, what
//! is bad is red, and nothing else has a colour.
//!
//! Text is painted without a look at where it goes. [`Output`](super::Output) takes the colours out again where nobody
//! would see them.

use anstyle::{AnsiColor, Style};
use orbit_proto::v1::{AdvisoryType, ItemState, Job, JobState, Liveness, Severity, Star, StarState};

/// The style of headings above columns and of names beside values.
pub(crate) const HEADING: Style = Style::new().dimmed();
/// The style of a heading above a whole section.
pub(crate) const TITLE: Style = Style::new().bold();

/// What a word means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tone {
    /// Nothing to do, and nothing to be glad of.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// It waits, or it may become bad.
    Warning,
    /// Somebody should do something.
    Bad,
}

impl Tone {
    /// Its colour, if it has one.
    pub(crate) fn color(self) -> Option<AnsiColor> {
        match self {
            Self::Plain => None,
            Self::Good => Some(AnsiColor::Green),
            Self::Warning => Some(AnsiColor::Yellow),
            Self::Bad => Some(AnsiColor::Red),
        }
    }

    /// Its colour as a style.
    pub(crate) fn style(self) -> Style {
        Style::new().fg_color(self.color().map(Into::into))
    }

    /// The text in this tone's colour. The text must be plain itself.
    pub(crate) fn paint(self, text: &str) -> String {
        paint(self.style(), text)
    }
}

/// The text in a style; nothing stays nothing.
pub(crate) fn paint(style: Style, text: &str) -> String {
    if text.is_empty() || style.is_plain() {
        return text.to_owned();
    }
    format!("{style}{text}{style:#}")
}

/// How a job fares.
pub(crate) fn of_job(job: &Job) -> Tone {
    match job.state() {
        JobState::Scanning | JobState::Running | JobState::Completed => Tone::Good,
        JobState::Paused | JobState::PartiallyCompleted => Tone::Warning,
        JobState::Failed => Tone::Bad,
        JobState::Cancelled | JobState::Unspecified => Tone::Plain,
    }
}

/// What becomes of an item.
pub(crate) fn of_item(state: ItemState) -> Tone {
    match state {
        ItemState::Stored | ItemState::Skipped => Tone::Good,
        ItemState::Penalized => Tone::Warning,
        ItemState::Dead => Tone::Bad,
        ItemState::Queued | ItemState::InFlight | ItemState::Unspecified => Tone::Plain,
    }
}

/// Whether a Star is in service.
pub(crate) fn of_star(star: &Star) -> Tone {
    match star.state() {
        StarState::Scheduled => Tone::Good,
        StarState::Registered | StarState::Draining => Tone::Warning,
        StarState::Shutdown | StarState::Unspecified => Tone::Plain,
    }
}

/// Whether a Star is heard. Of one that was shut down nothing else is expected.
pub(crate) fn of_liveness(star: &Star) -> Tone {
    match (star.liveness(), star.state()) {
        (_, StarState::Shutdown) => Tone::Plain,
        (Liveness::Alive, _) => Tone::Good,
        (Liveness::Suspect | Liveness::Unspecified, _) => Tone::Warning,
        (Liveness::Lost, _) => Tone::Bad,
    }
}

/// How grave a bulletin is.
pub(crate) fn of_severity(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warning,
        Severity::Info | Severity::Unspecified => Tone::Plain,
    }
}

/// What a piece of advice asks for.
pub(crate) fn of_advice(advice: AdvisoryType) -> Tone {
    match advice {
        AdvisoryType::Healthy => Tone::Good,
        AdvisoryType::VaultIncomplete | AdvisoryType::VaultReadOnly | AdvisoryType::DiskCritical => Tone::Bad,
        AdvisoryType::DiskWarning
        | AdvisoryType::DiskExhaustionPredicted
        | AdvisoryType::ThroughputLow
        | AdvisoryType::ErrorRateHigh => Tone::Warning,
        AdvisoryType::Unspecified => Tone::Plain,
    }
}

/// A number that should be 0.
pub(crate) fn of_losses(count: u64) -> Tone {
    if count == 0 { Tone::Plain } else { Tone::Bad }
}

/// Something that is off most of the time and holds work up while it is on.
pub(crate) fn of_obstacle(is_set: bool) -> Tone {
    if is_set { Tone::Warning } else { Tone::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_a_colour_around_the_text_and_nothing_around_nothing() {
        assert_eq!(Tone::Good.paint("alive"), "\x1b[32malive\x1b[0m");
        assert_eq!(Tone::Warning.paint("suspect"), "\x1b[33msuspect\x1b[0m");
        assert_eq!(Tone::Bad.paint("lost"), "\x1b[31mlost\x1b[0m");
        assert_eq!(Tone::Plain.paint("info"), "info");
        assert_eq!(Tone::Bad.paint(""), "");
        assert_eq!(paint(TITLE, ""), "");
    }

    #[test]
    fn a_star_that_was_shut_down_is_not_missed() {
        let lost = Star { liveness: Liveness::Lost.into(), ..Star::default() };
        let ended = Star { state: StarState::Shutdown.into(), ..lost.clone() };
        assert_eq!((of_liveness(&lost), of_liveness(&ended)), (Tone::Bad, Tone::Plain));
    }

    #[test]
    fn what_failed_stands_out_from_what_waits() {
        let job = |state: JobState| of_job(&Job { state: state.into(), ..Job::default() });
        assert_eq!(
            [JobState::Running, JobState::Paused, JobState::Failed, JobState::Cancelled].map(job),
            [Tone::Good, Tone::Warning, Tone::Bad, Tone::Plain]
        );
        assert!(
            of_item(ItemState::Dead) > of_item(ItemState::Penalized),
            "the worst of several is the largest"
        );
    }
}
