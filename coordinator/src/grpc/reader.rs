//! Between a watch and its reader: a few messages that wait to be taken, and how the stream ends.
//!
//! A reader that takes nothing for [`WATCH_PATIENCE`] is cut off: what waits for it is dropped at once, and when it reads
//! again the stream ends with a status that says how far it came. So a reader that never reads holds no more than what
//! its connection has taken already.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::status::not_read;
use crate::core::limits::{WATCH_PATIENCE, WATCH_WAITING_MAX};

/// A message of a watch.
pub(super) trait Watched: Send + 'static {
    /// The field of the request that takes a position. `None` if a watch begins with the current state, so that a new
    /// one misses nothing.
    const RESUMED_BY: Option<&'static str>;

    /// The position at which a new watch continues after this message.
    fn position(&self) -> u64;
}

/// The end of a stream.
#[derive(Debug)]
enum End {
    /// With a status that is still to be told.
    Told(Box<Status>),
    /// Over.
    Over,
}

#[derive(Debug)]
struct Shared<T> {
    waiting: VecDeque<T>,
    /// How many were taken, and the position of the last.
    taken: u64,
    last: u64,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Where messages are put.
#[derive(Debug)]
pub(super) struct Feeder<T> {
    shared: Arc<Mutex<Shared<T>>>,
    room: Arc<Notify>,
    gone: CancellationToken,
}

/// Where they are taken.
#[derive(Debug)]
pub(super) struct Reader<T> {
    shared: Arc<Mutex<Shared<T>>>,
    room: Arc<Notify>,
    gone: CancellationToken,
}

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// Both ends, for a reader that has everything up to `position`.
pub(super) fn reader<T: Watched>(position: u64) -> (Feeder<T>, Reader<T>) {
    let shared = Shared { waiting: VecDeque::new(), taken: 0, last: position, end: None, waker: None };
    let (shared, room, gone) =
        (Arc::new(Mutex::new(shared)), Arc::new(Notify::new()), CancellationToken::new());
    let reader = Reader { shared: shared.clone(), room: room.clone(), gone: gone.clone() };
    (Feeder { shared, room, gone }, reader)
}

fn locked<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Shared<T> {
    fn finish(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl<T: Watched> Feeder<T> {
    /// Puts a message, once there is room for it.
    pub(super) async fn put(&self, message: T) -> Result<(), Gone> {
        loop {
            let taken = {
                let mut shared = locked(&self.shared);
                if shared.waiting.len() < WATCH_WAITING_MAX {
                    shared.waiting.push_back(message);
                    if let Some(waker) = shared.waker.take() {
                        waker.wake();
                    }
                    return Ok(());
                }
                shared.taken
            };
            tokio::select! {
                () = self.gone.cancelled() => return Err(Gone),
                () = self.room.notified() => {}
                () = tokio::time::sleep(WATCH_PATIENCE) => {
                    if self.cut(taken) {
                        return Err(Gone);
                    }
                }
            }
        }
    }

    /// Ends the stream of a reader that has taken no more than it had then.
    fn cut(&self, taken: u64) -> bool {
        let mut shared = locked(&self.shared);
        if shared.taken != taken {
            return false;
        }
        shared.waiting = VecDeque::new();
        tracing::info!(
            message_type = std::any::type_name::<T>(),
            position = shared.last,
            "a watch is cut off, since its messages were not read for {} s",
            WATCH_PATIENCE.as_secs()
        );
        let status = not_read(WATCH_PATIENCE, T::RESUMED_BY.map(|field| (field, shared.last)));
        shared.finish(End::Told(Box::new(status)));
        true
    }

    /// Ends the stream with a status, behind what waits.
    pub(super) fn end(&self, status: Status) {
        locked(&self.shared).finish(End::Told(Box::new(status)));
    }

    /// Waits until nobody reads any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

impl<T> Drop for Feeder<T> {
    fn drop(&mut self) {
        locked(&self.shared).finish(End::Over);
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl<T: Watched> Stream for Reader<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = locked(&self.shared);
        if let Some(message) = shared.waiting.pop_front() {
            shared.taken += 1;
            shared.last = message.position();
            self.room.notify_one();
            return Poll::Ready(Some(Ok(message)));
        }
        match shared.end.replace(End::Over) {
            Some(End::Told(status)) => Poll::Ready(Some(Err(*status))),
            Some(End::Over) => Poll::Ready(None),
            None => {
                shared.end = None;
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_stream::StreamExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Numbered(u64);

    impl Watched for Numbered {
        const RESUMED_BY: Option<&'static str> = Some("after_id");

        fn position(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn what_is_written_about_patience_is_so() {
        let documents = [
            include_str!("../../../proto/orbit/v1/bulletin.proto"),
            include_str!("../../../proto/orbit/v1/job.proto"),
            include_str!("../../../proto/orbit/v1/provenance.proto"),
            include_str!("../../../proto/orbit/v1/star.proto"),
            include_str!("../../../docs/grpcurl.md"),
        ];
        let said = format!("takes nothing for {} seconds", WATCH_PATIENCE.as_secs());
        for document in documents {
            let words = document.split_whitespace().filter(|word| *word != "//").collect::<Vec<_>>();
            assert!(words.join(" ").contains(&said), "{said:?} is not in {document}");
        }
    }

    async fn fill(feeder: &Feeder<Numbered>, from: u64) -> u64 {
        let end = from + WATCH_WAITING_MAX as u64;
        for number in from..end {
            feeder.put(Numbered(number)).await.expect("there is room");
        }
        end
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_reads_is_cut_off_and_told_what_was_taken_last() {
        let (feeder, mut reader) = reader(7);
        let next = fill(&feeder, 8).await;
        assert_eq!(reader.next().await.expect("a message").expect("good"), Numbered(8));
        feeder.put(Numbered(next)).await.expect("one was taken");
        let start = Instant::now();
        assert_eq!(feeder.put(Numbered(next + 1)).await, Err(Gone));
        assert_eq!(start.elapsed(), WATCH_PATIENCE);
        assert_eq!(locked(&feeder.shared).waiting.capacity(), 0, "what waited is kept");
        let status = reader.next().await.expect("an end").expect_err("a status");
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().expect("details");
        assert_eq!((&info.reason[..], &info.metadata["last_position"][..]), ("READER_TOO_SLOW", "8"));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for() {
        let (feeder, mut reader) = reader(0);
        let next = fill(&feeder, 1).await;
        let put = tokio::spawn(async move {
            for number in next..next + 3 {
                feeder.put(Numbered(number)).await?;
            }
            Ok::<_, Gone>(())
        });
        for number in 1..next + 3 {
            tokio::time::sleep(WATCH_PATIENCE - Duration::from_millis(1)).await;
            assert_eq!(reader.next().await.expect("a message").expect("good"), Numbered(number));
        }
        assert_eq!(put.await.expect("no panic"), Ok(()));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn an_end_comes_behind_what_waits_and_a_reader_that_goes_is_noticed() {
        let (feeder, mut reader) = reader(0);
        feeder.put(Numbered(1)).await.expect("there is room");
        feeder.end(Status::unavailable("stops"));
        assert_eq!(reader.next().await.expect("a message").expect("good"), Numbered(1));
        assert_eq!(reader.next().await.expect("an end").expect_err("a status").code(), Code::Unavailable);
        assert!(reader.next().await.is_none());
        drop(reader);
        feeder.gone().await;
    }
}
