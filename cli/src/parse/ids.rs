//! Numbers of jobs and of what is recorded about them.

/// Parses the number of a job.
pub(crate) fn job(text: &str) -> Result<u64, String> {
    number(text, "job ids are numbers", "orbit job ls")
}

/// Parses the number of a schedule.
pub(crate) fn schedule(text: &str) -> Result<u64, String> {
    number(text, "schedule ids are numbers", "orbit schedule ls")
}

/// Parses the number of a dead letter.
pub(crate) fn dead_letter(text: &str) -> Result<u64, String> {
    number(text, "dead letter ids are numbers", "orbit dead-letters ls")
}

/// Parses the number of a bulletin.
pub(crate) fn bulletin(text: &str) -> Result<u64, String> {
    number(text, "bulletin ids are numbers", "orbit bulletins")
}

/// Parses the number of an event.
pub(crate) fn event(text: &str) -> Result<u64, String> {
    number(text, "event ids are numbers", "orbit provenance")
}

fn number(text: &str, rule: &str, list: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{rule}; `{list}` shows them"))
}
