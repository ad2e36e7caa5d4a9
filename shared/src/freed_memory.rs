//! Memory that was freed, which the system soon gets back.
//!
//! A Star frees tens of MiB of content that was written within a second, and a coordinator the messages and records of
//! thousands of items, while the next are taken elsewhere: kept for a second, which is the allocator's own choice, both
//! count.

/// The allocator's option `purge_delay`, by its place in the list of mimalloc's options, which is the same in its versions 2
/// and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long it keeps what was freed, in milliseconds. What comes back sooner is needed again at once, and costs a page fault
/// for every 4 KiB.
const PURGE_DELAY_MS: std::ffi::c_long = 10;

/// Makes the allocator give back soon what was freed, unless the environment says otherwise. A program whose allocator is
/// mimalloc calls it first of all, before it has a second thread.
#[expect(unsafe_code, reason = "the allocator has no other way to be told, except by the environment")]
pub fn return_soon() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: this stores a number in a table of the allocator that lives as long as the process, before there is a
        // second thread.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "the allocator has no other way to be asked")]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: this reads a number from a table of the allocator.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        return_soon();
        // SAFETY: as above.
        let after = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        let is_told_otherwise = std::env::var_os("MIMALLOC_PURGE_DELAY").is_some();
        assert!(after == PURGE_DELAY_MS || is_told_otherwise, "{before} became {after}");
    }
}
