//! One connection: the place that it holds while the server waits for its peer, and its end when the peer does not read.
//!
//! A connection holds a place of the resting ones while no request of it is being answered, and while a body arrives. It
//! holds one of the unread ones while the peer leaves bytes unread. When either are all taken, the address that holds
//! most loses its oldest, so that connections which cost their peer nothing keep no others out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use orbit_identity::{Origin, Place, PlainStream, Silent};
use orbit_program::open_files;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// Connections that are between requests, or whose request has not arrived whole.
const RESTING_MAX: usize = 256;
/// Connections whose peer leaves bytes unread. Each may hold a whole answer in memory.
const UNREAD_MAX: usize = 64;
/// How long a peer may read nothing of what is waiting for it.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// The places of all connections.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Of those that rest.
    pub(super) resting: Silent,
    unread: Silent,
}

impl Places {
    /// As many as the process may have files open for.
    pub(super) fn new() -> Self {
        Self {
            resting: Silent::new(open_files::share(RESTING_MAX)),
            unread: Silent::new(open_files::share(UNREAD_MAX)),
        }
    }
}

/// What the requests of one connection know of it. A clone is the same connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    origin: Origin,
    places: Places,
    cut: CancellationToken,
    resting: Arc<Mutex<Option<Place>>>,
}

impl Link {
    /// For a connection that was just accepted. It rests.
    pub(super) fn new(origin: Origin, places: Places) -> Self {
        let link = Self { origin, places, cut: CancellationToken::new(), resting: Arc::default() };
        link.rest();
        link
    }

    /// The link of the connection that a request came on.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Where the peer is.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Cancelled, it ends the connection, whatever is still to be written there.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// A place for as long as the server waits for the peer to send.
    pub(super) fn waiting(&self) -> Place {
        self.places.resting.enter_with(self.origin, self.cut.clone())
    }

    /// A request has arrived.
    pub(super) fn work(&self) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn rest(&self) {
        *self.resting.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.waiting());
    }
}

/// The body of an answer. When it has been handed over, the connection rests.
pub(super) struct AnswerBody {
    body: Body,
    link: Link,
}

impl AnswerBody {
    /// An answer on this connection.
    pub(super) fn new(body: Body, link: Link) -> Self {
        Self { body, link }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.link.rest();
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The stream of a connection.
pub(super) struct LinkStream {
    stream: PlainStream,
    link: Link,
    /// While the peer leaves bytes unread: the place, and when its time is over.
    unread: Option<(Place, Pin<Box<Sleep>>)>,
}

impl LinkStream {
    /// The stream of this link.
    pub(super) fn new(stream: PlainStream, link: Link) -> Self {
        Self { stream, link, unread: None }
    }

    /// What a write came to, unless the peer has read nothing for too long.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let link = &self.link;
        let (_, patience) = self.unread.get_or_insert_with(|| {
            let place = link.places.unread.enter_with(link.origin, link.cut.clone());
            (place, Box::pin(tokio::time::sleep(READ_PATIENCE)))
        });
        ready!(patience.as_mut().poll(context));
        tracing::debug!(address = %link.origin, "a peer has read nothing for {READ_PATIENCE:?} and is cut off");
        link.cut.cancel();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        if self.link.cut.is_cancelled() {
            // What the kernel still holds for the peer goes too.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
