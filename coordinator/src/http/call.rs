//! One RPC called by its descriptor, in this process: the same service, the same checks and the same refusals as over
//! gRPC. Nothing here knows any message.

use bytes::Buf as _;
use orbit_proto::json;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::service::Routes;
use tonic::{Request, Status};

use super::routes::Route;

/// An answer is made in this process and read in it; what bounds it is the size of a page.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One method of one service.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    method: MethodDescriptor,
    path: PathAndQuery,
}

impl Rpc {
    /// The RPC behind a route.
    ///
    /// # Panics
    ///
    /// If the table names a method that does not exist, which a test rules out.
    pub(crate) fn of(route: &Route) -> Self {
        let service = json::descriptors().get_service_by_name(&format!("orbit.v1.{}", route.service));
        let service = service.expect("a route names a service of orbit.v1");
        let method = service.methods().find(|method| method.name() == route.method);
        let method = method.expect("a route names a method of its service");
        let path = format!("/{}/{}", service.full_name(), method.name());
        Self { method, path: path.parse().expect("the name of a method makes a path") }
    }

    /// What it is asked with.
    pub(crate) fn input(&self) -> MessageDescriptor {
        self.method.input()
    }

    /// What it answers.
    pub(crate) fn output(&self) -> MessageDescriptor {
        self.method.output()
    }

    /// The method itself.
    pub(crate) fn method(&self) -> &MethodDescriptor {
        &self.method
    }

    /// Calls it.
    pub(crate) async fn call(
        &self,
        services: Routes,
        request: DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let mut client = Grpc::new(services).max_decoding_message_size(ANSWER_BYTES_MAX);
        let Ok(()) = client.ready().await;
        let codec = Dynamic { answer: self.method.output() };
        let answered = client.unary(Request::new(request), self.path.clone(), codec).await?;
        Ok(answered.into_inner())
    }
}

/// Encodes any message, and decodes those of one type.
struct Dynamic {
    answer: MessageDescriptor,
}

struct DynamicEncoder;

struct DynamicDecoder {
    answer: MessageDescriptor,
}

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder { answer: self.answer.clone() }
    }
}

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(format!("a request does not fit: {error}")))
    }
}

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let decoded = DynamicMessage::decode(self.answer.clone(), bytes);
        decoded.map(Some).map_err(|error| Status::internal(format!("an answer is damaged: {error}")))
    }
}
