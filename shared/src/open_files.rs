//! The process's limit on open files.
//!
//! A Star holds a few hundred files and directories open while it works, and a coordinator a connection for each Star: the
//! customary soft limit of 1,024 is too close to either.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this is never needed, and some programs close every descriptor up to the limit.
const OPEN_FILES: u64 = 16_384;

/// Raises the soft limit as far as the hard limit allows. A program calls it once at its start; a limit that cannot be
/// raised stays as it is.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        // Without it less can be open at a time, which shows where something cannot be opened.
        let _ = setrlimit(Resource::Nofile, raised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_what_is_allowed() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        let allowed = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
        assert!(limit.current.is_none_or(|current| current >= allowed), "{limit:?}");
    }
}
