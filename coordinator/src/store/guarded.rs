//! A store whose engine may panic.
//!
//! The engine trusts what it reads: a page that rotted after the file was opened can make it panic in any call. A panic of
//! the engine is damage of the store, so it is reported as such: a reader gets an error, and a commit that fails ends the
//! coordinator with a sentence instead of a backtrace. Nothing of a transaction that panicked is committed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use orbit_shared::entry::Entry;
use orbit_shared::words::{ItemId, JobId};

use super::{QueuePage, Store, StoreError, StoredItem, Transaction};
use crate::core::{Change, Recovered};

/// A store, each call of which returns even if the engine panics.
#[derive(Debug)]
pub struct Guarded<S>(pub S);

/// A transaction with the same property.
struct GuardedTransaction(Box<dyn Transaction>);

/// Calls the engine. The store is shared after a panic: it holds no lock of its own, and the engine marks what it left
/// half done.
fn guard<T>(doing: &'static str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
        Err(StoreError::Panicked { doing, problem: said.to_owned() })
    })
}

impl<S: Store> Store for Guarded<S> {
    fn begin(&self, changes: &[Change]) -> Result<Box<dyn Transaction>, StoreError> {
        let begun = guard("writing changes", || self.0.begin(changes))?;
        Ok(Box::new(GuardedTransaction(begun)))
    }

    fn check(&self) -> Result<(), StoreError> {
        guard("looking for its file", || self.0.check())
    }

    fn recover(&self) -> Result<Recovered, StoreError> {
        guard("recovering", || self.0.recover())
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        guard("copying", || self.0.copy_to(path))
    }

    fn queue_page(
        &self,
        job: JobId,
        destination: u32,
        after: &[u8],
        limit: usize,
    ) -> Result<QueuePage, StoreError> {
        guard("reading a queue", || self.0.queue_page(job, destination, after, limit))
    }

    fn item(&self, id: ItemId) -> Result<Option<StoredItem>, StoreError> {
        guard("reading an item", || self.0.item(id))
    }

    fn items(
        &self,
        job: JobId,
        destinations: u32,
        start: u64,
        limit: usize,
    ) -> Result<Vec<(Entry, Vec<StoredItem>)>, StoreError> {
        guard("listing items", || self.0.items(job, destinations, start, limit))
    }

    fn is_verified(&self) -> bool {
        self.0.is_verified()
    }

    fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<u64, StoreError> {
        guard("verifying", || self.0.verify(goes_on))
    }
}

impl Transaction for GuardedTransaction {
    fn commit(self: Box<Self>, more: &[Change]) -> Result<(), StoreError> {
        guard("committing", || self.0.commit(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine that panics in every call.
    struct Rotten;

    impl Store for Rotten {
        fn begin(&self, _changes: &[Change]) -> Result<Box<dyn Transaction>, StoreError> {
            Ok(Box::new(Self))
        }

        fn check(&self) -> Result<(), StoreError> {
            panic!("no sense")
        }

        fn recover(&self) -> Result<Recovered, StoreError> {
            panic!("page {} makes no sense", 7)
        }

        fn copy_to(&self, _path: &Path) -> Result<(), StoreError> {
            panic!("no sense")
        }

        fn queue_page(&self, _: JobId, _: u32, _: &[u8], _: usize) -> Result<QueuePage, StoreError> {
            panic!("no sense")
        }

        fn item(&self, _id: ItemId) -> Result<Option<StoredItem>, StoreError> {
            panic!("no sense")
        }

        fn items(
            &self,
            _: JobId,
            _: u32,
            _: u64,
            _: usize,
        ) -> Result<Vec<(Entry, Vec<StoredItem>)>, StoreError> {
            panic!("no sense")
        }

        fn is_verified(&self) -> bool {
            false
        }

        fn verify(&self, _goes_on: &dyn Fn() -> bool) -> Result<u64, StoreError> {
            panic!("no sense")
        }
    }

    impl Transaction for Rotten {
        fn commit(self: Box<Self>, _more: &[Change]) -> Result<(), StoreError> {
            panic!("no sense")
        }
    }

    #[test]
    fn a_panic_of_the_engine_is_an_error_of_the_call() {
        let store = Guarded(Rotten);
        let item = ItemId { job: JobId(1), destination: 0, sequence: 0 };
        let error = store.recover().expect_err("is damaged").to_string();
        assert!(error.contains("page 7 makes no sense") && error.contains("backup"), "{error}");
        assert!(matches!(store.copy_to(Path::new("copy")), Err(StoreError::Panicked { .. })));
        assert!(matches!(store.queue_page(JobId(1), 0, b"", 1), Err(StoreError::Panicked { .. })));
        assert!(matches!(store.item(item), Err(StoreError::Panicked { .. })));
        assert!(matches!(store.items(JobId(1), 1, 0, 1), Err(StoreError::Panicked { .. })));
        assert!(matches!(store.verify(&|| true), Err(StoreError::Panicked { .. })));
        let begun = store.begin(&[]).expect("begins");
        assert!(matches!(begun.commit(&[]), Err(StoreError::Panicked { .. })));
    }
}
