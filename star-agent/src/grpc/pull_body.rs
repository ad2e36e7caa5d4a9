//! A source's answer to a pull, as the body of an HTTP response: gRPC messages whose payload is not copied.
//!
//! A codec would copy each message into a buffer, including its payload. Here only the head of a message is written;
//! its payload follows as it was read from the file. The bytes on the wire are the same.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame};
use tokio::time::Sleep;
use tonic::Status;

use crate::grpc::transfer::encode_parcel;
use crate::source::pace::Pace;
use crate::transfer::Parcel;

/// The body of a response to a pull.
pub(super) struct PullBody<S> {
    parcels: Pin<Box<S>>,
    ready: VecDeque<Bytes>,
    /// Applies the job's bandwidth limit.
    pace: Option<Arc<Pace>>,
    /// A piece that waits for its time, and the timer.
    turn: Option<(Pin<Box<Sleep>>, Bytes)>,
    is_over: bool,
}

impl<S> PullBody<S> {
    pub(super) fn new(parcels: S, pace: Option<Arc<Pace>>) -> Self {
        Self { parcels: Box::pin(parcels), ready: VecDeque::new(), pace, turn: None, is_over: false }
    }

    /// The next piece that is ready, once its time has come. Messages that are not ready are polled later.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.turn.is_none() {
            let Some(mut bytes) = self.ready.pop_front() else { return Poll::Ready(None) };
            let Some(pace) = &self.pace else { return Poll::Ready(Some(bytes)) };
            let piece = bytes.split_to(bytes.len().min(pace.piece_max()));
            if !bytes.is_empty() {
                self.ready.push_front(bytes);
            }
            let at = pace.take_turn(orbit_program::clock::now(), piece.len());
            self.turn = Some((Box::pin(tokio::time::sleep_until(at)), piece));
        }
        if let Some((sleep, _)) = &mut self.turn {
            ready!(sleep.as_mut().poll(context));
        }
        Poll::Ready(self.turn.take().map(|(_, piece)| piece))
    }
}

impl<S: Stream<Item = Result<Parcel, Status>>> Body for PullBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(bytes) = ready!(self.poll_piece(context)) {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            let status = match ready!(self.parcels.as_mut().poll_next(context)) {
                Some(Ok(parcel)) => {
                    self.ready.extend(encode_parcel(parcel).pieces().cloned());
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.is_over = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.ready.is_empty() && self.turn.is_none()
    }
}

/// The trailers with which gRPC ends a body: the status of the call.
fn trailers(status: Status) -> HeaderMap {
    let mut trailers = status.into_http::<()>().into_parts().0.headers;
    trailers.remove(CONTENT_TYPE);
    trailers
}
