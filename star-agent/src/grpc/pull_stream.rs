//! The destination's side of a pull: gRPC messages from the body of an HTTP response, whose payload is not copied.

use bytes::Buf as _;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use orbit_proto::v1 as wire;
use orbit_shared::trace_context::{TRACEPARENT, TraceContext};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::codec::{BufferSettings, EncodeBody};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstEncoder;

use crate::content::Content;
use crate::grpc::transfer::{MESSAGE_PREFIX_BYTES, PULL_PATH};
use crate::limits::MESSAGE_BYTES_MAX;

/// The messages of a pull.
#[derive(Debug)]
pub struct PullStream {
    body: Body,
    /// Bytes that have arrived and belong to no complete message yet.
    arrived: Content,
}

impl PullStream {
    /// Opens a pull that sends `requests`. Returns when the source has accepted it. `trace` is the parent span.
    ///
    /// # Errors
    /// The source refuses it, or cannot be reached.
    pub async fn open(
        mut channel: Channel,
        requests: mpsc::Receiver<wire::PullRequest>,
        trace: Option<TraceContext>,
    ) -> Result<Self, Status> {
        let requests = ReceiverStream::new(requests).map(Ok);
        let encoder = ProstEncoder::<wire::PullRequest>::new(BufferSettings::default());
        let body = EncodeBody::new_client(encoder, requests, None, Some(MESSAGE_BYTES_MAX));
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_static(PULL_PATH);
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(value) = trace.and_then(|trace| HeaderValue::from_str(&trace.to_string()).ok()) {
            request.headers_mut().insert(TRACEPARENT, value);
        }
        let broken = |error: tonic::transport::Error| Status::from_error(Box::new(error));
        std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(broken)?;
        let response = channel.call(request).await.map_err(broken)?;
        // If a call is refused at once, its status is in the headers.
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => return Err(status),
            Some(_) | None => {}
        }
        if response.status() != StatusCode::OK {
            return Err(Status::unavailable(format!("it answered with HTTP status {}", response.status())));
        }
        Ok(Self { body: response.into_body(), arrived: Content::default() })
    }

    /// The next message, without gRPC's prefix; `None` after the last one.
    ///
    /// # Errors
    /// The source ended the pull with this status, the connection broke, or the data is not a message.
    pub async fn message(&mut self) -> Result<Option<Content>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.arrived.push(bytes),
                    Err(frame) => return self.end(frame.trailers_ref().and_then(Status::from_header_map)),
                },
                Some(Err(status)) => return Err(status),
                None => return self.end(None),
            }
        }
    }

    fn end(&self, status: Option<Status>) -> Result<Option<Content>, Status> {
        match status {
            Some(status) if status.code() != Code::Ok => Err(status),
            Some(_) if self.arrived.is_empty() => Ok(None),
            Some(_) => Err(Status::unavailable("the answer ended in the middle of a message")),
            None => Err(Status::unavailable("the answer ended without saying how it went")),
        }
    }

    /// The first message, if all of it has arrived.
    fn take_message(&mut self) -> Result<Option<Content>, Status> {
        if self.arrived.len() < MESSAGE_PREFIX_BYTES {
            return Ok(None);
        }
        let mut prefix = [0; MESSAGE_PREFIX_BYTES];
        prefix.iter_mut().zip(self.arrived.pieces().flatten()).for_each(|(to, from)| *to = *from);
        let [compression, length @ ..] = prefix;
        if compression != 0 {
            return Err(Status::internal("a message is compressed, which was not agreed on"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            let text = format!("a message has {length} bytes, at most {MESSAGE_BYTES_MAX} are allowed");
            return Err(Status::out_of_range(text));
        }
        if self.arrived.len() < MESSAGE_PREFIX_BYTES + length {
            return Ok(None);
        }
        self.arrived.advance(MESSAGE_PREFIX_BYTES);
        Ok(Some(self.arrived.split_to(length)))
    }
}
