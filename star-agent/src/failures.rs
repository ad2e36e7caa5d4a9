//! Converts an error of the operating system to the failure of an item: its cause, whose fault it is, and its text.

use orbit_shared::entry::display_path;
use orbit_shared::session::{Failure, FailureCause, Fault};
use rustix::io::Errno;

/// The operating system's text for an error number.
pub fn errno_words(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// A failure of `action` on `path` at the source Star.
pub fn at_source(errno: Errno, action: &str, path: &[u8]) -> Failure {
    let (cause, fault) = match errno {
        Errno::NOENT | Errno::NOTDIR => (FailureCause::SourceMissing, Fault::Item),
        Errno::ACCESS | Errno::PERM | Errno::NAMETOOLONG | Errno::ISDIR | Errno::NXIO => {
            (FailureCause::Permanent, Fault::Item)
        }
        // A path that was no symbolic link when it was scanned is one now. Links are never followed.
        Errno::LOOP => (FailureCause::Permanent, Fault::Item),
        _ => (FailureCause::Transient, Fault::Source),
    };
    Failure { cause, fault, message: message(errno, action, path) }
}

/// A failure of `action` on `path` at the destination Star.
pub fn at_destination(errno: Errno, action: &str, path: &[u8]) -> Failure {
    let (cause, fault) = match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO => {
            (FailureCause::DestinationError, Fault::Destination)
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR => {
            (FailureCause::Transient, Fault::Destination)
        }
        _ => (FailureCause::DestinationError, Fault::Item),
    };
    Failure { cause, fault, message: message(errno, action, path) }
}

/// A lost or silent source. It is retried, and counts against the source Star.
pub fn source_unavailable(message: String) -> Failure {
    Failure { cause: FailureCause::Transient, fault: Fault::Source, message }
}

/// A source that could not be reached. It does not count against any item.
pub fn source_unreachable(message: String) -> Failure {
    Failure { cause: FailureCause::Transient, fault: Fault::Link, message }
}

/// An error at the destination that does not depend on the item. It is retried.
pub fn destination_failed(message: String) -> Failure {
    Failure { cause: FailureCause::Transient, fault: Fault::Destination, message }
}

/// A disk without enough space for an item. Nothing was written.
pub fn no_room(message: String) -> Failure {
    Failure { cause: FailureCause::DestinationError, fault: Fault::Destination, message }
}

/// A file that changed while it was read.
pub fn changed_while_read(path: &[u8]) -> Failure {
    Failure {
        cause: FailureCause::Transient,
        fault: Fault::Item,
        message: format!("{} changed while it was read", display_path(path)),
    }
}

/// Whether a file changed while it was read. It is the only failure of a single file that ends by itself.
pub fn is_of_change(failure: &Failure) -> bool {
    failure.cause == FailureCause::Transient && failure.fault == Fault::Item
}

/// A failure that no retry can help.
pub fn permanent(message: String) -> Failure {
    Failure { cause: FailureCause::Permanent, fault: Fault::Item, message }
}

/// Something at the destination that is in the way of one item.
pub fn in_the_way(message: String) -> Failure {
    Failure { cause: FailureCause::InTheWay, fault: Fault::Item, message }
}

fn message(errno: Errno, action: &str, path: &[u8]) -> String {
    format!("cannot {action} {}: {}", display_path(path), errno_words(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_broken_disk_is_the_destinations_fault_and_a_refused_permission_the_items() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO] {
            let failure = at_destination(errno, "write", b"/data/a");
            assert_eq!((failure.cause, failure.fault), (FailureCause::DestinationError, Fault::Destination));
            assert!(failure.message.contains("/data/a"), "{}", failure.message);
        }
        assert_eq!(at_destination(Errno::ACCESS, "write", b"a").fault, Fault::Item);
    }

    #[test]
    fn source_errors_distinguish_missing_refused_and_broken_files() {
        let cause = |errno| at_source(errno, "open", b"a").cause;
        assert_eq!(cause(Errno::NOENT), FailureCause::SourceMissing);
        assert_eq!(cause(Errno::ACCESS), FailureCause::Permanent);
        assert_eq!(cause(Errno::IO), FailureCause::Transient);
        assert_eq!(at_source(Errno::IO, "read", b"a").fault, Fault::Source);
    }
}
