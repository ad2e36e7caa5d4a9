//! Limits the memory of a process beyond what it uses: freed memory and transparent huge pages.
//!
//! Within a second, a Star frees tens of MiB of content that was written, and a coordinator the messages and records of
//! thousands of items, while the next ones are allocated elsewhere. The allocator's default is to keep freed memory for
//! a second, so both would be resident.
//!
//! The allocator also requests transparent huge pages, and some systems use them by default. With some dozens of
//! threads that each use a little memory of many sizes, 2 MiB are then cleared and resident where 64 KiB are used.

/// The allocator's option `purge_delay`: its index in the list of mimalloc's options, which is the same in versions 2
/// and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long the allocator keeps freed memory, in milliseconds. With a shorter time, memory that is needed again at once
/// would cost a page fault for every 4 KiB.
const PURGE_DELAY_MS: std::ffi::c_long = 10;

/// Makes the allocator return freed memory soon, unless the environment sets another value. A program that uses
/// mimalloc must call it first, before it starts a second thread.
#[expect(unsafe_code, reason = "the option can be set in no other way, except by the environment")]
pub fn return_freed_soon() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: this stores a number in a table of the allocator that lives as long as the process, before there is a
        // second thread.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    }
}

/// Asks the system not to use transparent huge pages for this process. A program calls it once at its start. If the
/// system refuses, the only effect is that the program uses more memory.
pub fn disable_huge_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator has no other way to be asked")]
    fn the_option_is_purge_delay() {
        // SAFETY: this reads a number from a table of the allocator.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        return_freed_soon();
        // SAFETY: as above.
        let after = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let is_told_otherwise = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
        assert!(after == PURGE_DELAY_MS || is_told_otherwise, "{before} became {after}");
    }

    #[test]
    fn the_process_has_no_huge_pages_from_then_on() {
        disable_huge_pages();
        // A system without them has nothing to turn off.
        let is_off = rustix::thread::transparent_huge_pages_are_disabled();
        assert!(is_off.is_err() || is_off == Ok(true), "{is_off:?}");
    }
}
