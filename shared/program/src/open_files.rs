//! The process's limit on open files.
//!
//! A Star has a few hundred files and directories open while it works, and a coordinator a connection for each Star:
//! the usual soft limit of 1,024 is not far above either.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that is set, at most. More is never needed, and some programs close every descriptor up to the limit.
const OPEN_FILES: u64 = 16_384;

/// Minimum that a program needs to work: with fewer, it would repeatedly fail to open threads, connections, the store,
/// or the directories of one item.
const OPEN_FILES_MIN: u64 = 96;

/// The limit on open files is too low to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open at a time, and at least {OPEN_FILES_MIN} are needed: raise the limit \
     (`ulimit -n 1024` in a shell, LimitNOFILE= in a unit of systemd)"
)]
pub struct TooFewOpenFiles {
    /// The limit.
    pub limit: u64,
}

/// Raises the soft limit as far as the hard limit allows. A program calls it once at its start. If the limit cannot be
/// raised, it stays as it is.
///
/// # Errors
/// The hard limit is below the minimum of every program here.
pub fn raise_limit() -> Result<(), TooFewOpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        // If this fails, fewer files can be open, which shows when one cannot be opened.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    match self::limit() {
        limit @ 0..OPEN_FILES_MIN => Err(TooFewOpenFiles { limit }),
        _ => Ok(()),
    }
}

/// Maximum number of files that this process can have open at a time.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The number of files for one purpose: `wanted`, but at most an eighth of the limit, and at least one.
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
