//! Counts gRPC calls by method and code. The code of a call stands at its end, in the trailers of its answer, so the
//! answer is followed until then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Code, Status};

use crate::meters::Meters;

/// Counts what passes.
pub(super) async fn count(State(meters): State<Arc<Meters>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    follow(response, move |code| meters.count_call(&path, code))
}

/// Follows an answer to its end, and says with which code it ended.
pub(super) fn follow(response: Response, ended: impl FnOnce(Code) + Send + 'static) -> Response {
    let mut call = Call { ended: Some(Box::new(ended)) };
    let (parts, body) = response.into_parts();
    // A refusal may be all there is.
    call.end(&parts.headers);
    Response::from_parts(parts, Body::new(Counted { body, call }))
}

/// A call; when it is dropped without an end, its caller has gone away.
struct Call {
    ended: Option<Box<dyn FnOnce(Code) + Send>>,
}

impl Call {
    fn end(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end_with(status.code());
        }
    }

    fn end_with(&mut self, code: Code) {
        if let Some(ended) = self.ended.take() {
            ended(code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end_with(Code::Cancelled);
    }
}

struct Counted {
    body: Body,
    call: Call,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.end(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
