//! The buffers of served pulls, which are reused when their content was sent.
//!
//! A buffer of 1 MiB that is allocated for every message costs a page fault for every 4 KiB of content, which is an
//! eighth of a source's work. All pulls share the buffers. A few are kept, and only while there is a pull; other memory
//! is returned to the system as soon as it is free.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::limits::{PARCEL_BUFFERS_KEPT_MAX as KEPT_MAX, PARCEL_BYTES};

/// The buffers of a Star, which are freed when no pull holds them.
#[derive(Debug, Default)]
pub(crate) struct SharedBuffers {
    held: Mutex<Weak<Buffers>>,
}

impl SharedBuffers {
    /// The buffers, for as long as the caller holds them.
    pub(crate) fn hold(&self) -> Arc<Buffers> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().unwrap_or_else(|| {
            let buffers = Arc::default();
            *held = Arc::downgrade(&buffers);
            buffers
        })
    }
}

/// Hands out buffers, and takes them back.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of this capacity.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.iter().position(|buffer| buffer.capacity() == capacity) {
            Some(kept) => free.swap_remove(kept),
            None => Vec::with_capacity(capacity),
        }
    }

    /// The content of a buffer, to be sent. The buffer comes back when all of that was dropped.
    pub(crate) fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < PARCEL_BYTES {
            return Bytes::from(buffer);
        }
        Bytes::from_owner(Lent { buffer, home: Arc::clone(self) })
    }

    /// Takes back a buffer whose content is no longer needed.
    pub(crate) fn take_back(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_MAX {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// A buffer that is being sent.
struct Lent {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.take_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers) -> Vec<u8> {
        let mut buffer = buffers.take(PARCEL_BYTES);
        buffer.extend_from_slice(b"content");
        buffer
    }

    #[test]
    fn a_buffer_comes_back_empty_once_all_of_its_content_is_dropped() {
        let buffers = Arc::new(Buffers::default());
        let buffer = filled(&buffers);
        let place = buffer.as_ptr();
        let content = buffers.lend(buffer);
        let part = content.slice(3..);
        drop(content);
        assert!(buffers.free.lock().unwrap().is_empty(), "a part of it is still held");
        assert_eq!(&part[..], b"tent");
        drop(part);
        let again = buffers.take(PARCEL_BYTES);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn pulls_share_buffers_and_the_last_one_frees_them() {
        let shared = SharedBuffers::default();
        let (first, second) = (shared.hold(), shared.hold());
        drop(first.lend(filled(&first)));
        drop(first);
        assert_eq!(second.free.lock().unwrap().len(), 1);
        drop(second);
        assert!(shared.hold().free.lock().unwrap().is_empty());
    }

    #[test]
    fn no_more_buffers_are_kept_than_the_limit_and_none_of_another_size_is_returned() {
        let buffers = Arc::new(Buffers::default());
        let lent: Vec<Bytes> = (0..2 * KEPT_MAX).map(|_| buffers.lend(filled(&buffers))).collect();
        drop(lent);
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT_MAX);
        assert_eq!(buffers.take(2 * PARCEL_BYTES).capacity(), 2 * PARCEL_BYTES);
        drop(buffers.lend(vec![1; 10]));
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT_MAX, "a small one is not kept");
    }
}
