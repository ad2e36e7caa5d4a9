//! What a source answers to a pull, as the body of an HTTP response: gRPC messages whose payload is not copied.
//!
//! A codec writes each message into a buffer, payload and all. Here the head of a message is written and its payload
//! follows as it was read from the file. On the wire the two ways cannot be told apart.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::{Body, Frame};
use tonic::Status;

use crate::grpc::transfer::encode_parcel;
use crate::transfer::Parcel;

/// The body of a response to a pull.
pub(super) struct PullBody<S> {
    parcels: Pin<Box<S>>,
    ready: VecDeque<Bytes>,
    is_over: bool,
}

impl<S> PullBody<S> {
    pub(super) fn new(parcels: S) -> Self {
        Self { parcels: Box::pin(parcels), ready: VecDeque::new(), is_over: false }
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
            if let Some(bytes) = self.ready.pop_front() {
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
        self.is_over && self.ready.is_empty()
    }
}

/// How gRPC says at the end of a body how a call went.
fn trailers(status: Status) -> HeaderMap {
    let mut trailers = status.into_http::<()>().into_parts().0.headers;
    trailers.remove(CONTENT_TYPE);
    trailers
}
