//! The process's limit on open files.
//!
//! A Star holds a few hundred files and directories open while it works, and a coordinator a connection for each Star: the
//! customary soft limit of 1,024 is too close to either.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this is never needed, and some programs close every descriptor up to the limit.
const OPEN_FILES: u64 = 16_384;

/// With fewer a program would fail at one file or the other again and again: threads, connections, the store and the
/// directories of one item need that many.
const OPEN_FILES_MIN: u64 = 96;

/// The process may have too few files open to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open at a time, and at least {OPEN_FILES_MIN} are needed: raise the limit \
     (`ulimit -n 1024` in a shell, LimitNOFILE= in a unit of systemd)"
)]
pub struct TooFewOpenFiles {
    /// How many it may have open.
    pub limit: u64,
}

/// Raises the soft limit as far as the hard limit allows. A program calls it once at its start; a limit that cannot be
/// raised stays as it is.
///
/// # Errors
/// The hard limit is lower than any program here needs.
pub fn raise_limit() -> Result<(), TooFewOpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        // Without it less can be open at a time, which shows where something cannot be opened.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    match self::limit() {
        limit @ 0..OPEN_FILES_MIN => Err(TooFewOpenFiles { limit }),
        _ => Ok(()),
    }
}

/// Files that this process may have open at a time.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// As many files as are wanted for one purpose, or an eighth of what may be open if that is less; at least one.
pub fn share(wanted: usize) -> usize {
    let eighth = usize::try_from(limit() / 8).unwrap_or(usize::MAX);
    wanted.min(eighth).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_an_eighth() {
        assert_eq!(share(1), 1);
        assert!(share(usize::MAX) as u64 <= limit() / 8);
    }

    #[test]
    fn the_soft_limit_is_raised_to_what_is_allowed() {
        raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        let allowed = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
        assert!(limit.current.is_none_or(|current| current >= allowed), "{limit:?}");
    }
}
