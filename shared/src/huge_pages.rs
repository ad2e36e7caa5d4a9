//! Turns off transparent huge pages for the process.
//!
//! The allocator requests them, and some systems use them by default. With some dozens of threads that each use a
//! little memory of many sizes, 2 MiB are then cleared and resident where 64 KiB are used.

/// Asks the system not to use them for this process. A program calls it once at its start. If the system refuses, the
/// only effect is that the program uses more memory.
pub fn do_without() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_none_from_then_on() {
        do_without();
        // A system without them has nothing to turn off.
        let is_off = rustix::thread::transparent_huge_pages_are_disabled();
        assert!(is_off.is_err() || is_off == Ok(true), "{is_off:?}");
    }
}
