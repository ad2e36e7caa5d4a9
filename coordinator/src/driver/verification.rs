//! Verifies a store that is too large to be verified at the start, while the coordinator works.
//!
//! Damage that is found becomes a bulletin and a log line. The coordinator goes on: what is damaged may never be needed,
//! and each record is checked again when it is read.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Inbox;
use crate::core::Event;
use crate::store::Store;

/// Starts the verification, unless opening the store was one. It ends with `stop`.
pub(crate) fn start(store: Arc<dyn Store>, inbox: Inbox, stop: CancellationToken) {
    if store.is_verified() {
        return;
    }
    tokio::spawn(async move {
        tracing::info!("the store is too large to be verified at the start; it is verified while it is used");
        let goes_on = stop.clone();
        let verifying = tokio::task::spawn_blocking(move || store.verify(&|| !goes_on.is_cancelled()));
        // Nothing is lost with a task that the end of the runtime has cancelled.
        let Ok(verified) = verifying.await else { return };
        match verified {
            Ok(records) if !stop.is_cancelled() => tracing::info!(records, "the store is verified"),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the store is damaged");
                // An inbox that is closed belongs to a coordinator that is stopping; the log line stays.
                let _ = inbox.event(Event::StoreDamaged { problem: error.to_string() }).await;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::inbox::Request;
    use orbit_shared::bulletin::SharedBulletinBoard;

    use super::*;
    use crate::core::{Change, Counters};
    use crate::store::EmbeddedStore;

    /// What the driver hears of the verification of a store; nothing once there is nothing more to hear.
    async fn heard(store: EmbeddedStore) -> Option<Event> {
        let (inbox, mut requests, _turns, _ends): (_, mpsc::Receiver<Request>, _, _) =
            Inbox::new(SharedBulletinBoard::new(1));
        start(Arc::new(store), inbox, CancellationToken::new());
        match requests.recv().await {
            Some(Request::Event(event)) => Some(event),
            Some(_) => panic!("a verification only reports"),
            None => None,
        }
    }

    #[tokio::test]
    async fn damage_of_a_store_that_is_too_large_to_be_verified_at_the_start_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = EmbeddedStore::open(&path).unwrap();
        let counters = Counters { job: 0x0123_4567_89ab_cdef, ..Counters::default() };
        store.commit(&[Change::PutCounters(counters)]).unwrap();
        drop(store);
        assert!(heard(EmbeddedStore::open(&path).unwrap()).await.is_none(), "was verified at its opening");
        assert!(heard(EmbeddedStore::open_verified(&path, 0).unwrap()).await.is_none(), "is whole");

        let mut bytes = std::fs::read(&path).unwrap();
        let wanted = 0x0123_4567_89ab_cdef_u64.to_be_bytes();
        let places: Vec<_> = (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == wanted).collect();
        assert!(!places.is_empty(), "MessagePack writes a number in big-endian order");
        for at in places {
            bytes[at + 3] ^= 1;
        }
        std::fs::write(&path, bytes).unwrap();
        let store = EmbeddedStore::open_verified(&path, 0).unwrap();
        assert!(!store.is_verified());
        let event = heard(store).await;
        assert!(
            matches!(&event, Some(Event::StoreDamaged { problem }) if problem.contains("meta") && problem.contains("backup")),
            "{event:?}"
        );
    }
}
