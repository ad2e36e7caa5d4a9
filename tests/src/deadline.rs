//! Waits that end: each says what it waits for, so that a test that hangs tells why.

use std::time::Duration;

/// How long a test waits for anything at most. Far more than anything takes, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often something without an event is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The outcome of a future that must end within [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Looks again and again until `look` finds something. Only for what has no event to wait for.
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
