//! Waits with a deadline: each names what it waits for, so that a test that hangs shows why.

use std::time::Duration;

/// Maximum time that a test waits for anything. It is far longer than anything takes, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Polling interval for conditions without an event.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The result of a future that must complete within [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Polls until `look` returns something. Only for conditions without an event.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
    .await
}
