//! Transparent huge pages, which these programs do without.
//!
//! The allocator asks for them, and some systems give them unasked. With some dozens of threads that each use a little of
//! many sizes, 2 MiB are then cleared and held where 64 KiB are used.

/// Asks the system to give this process none. A program calls it once at its start; on a system that refuses it takes more
/// memory, and that is all.
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
