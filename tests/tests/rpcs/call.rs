//! Calls any RPC by its descriptor, with messages as JSON.

use orbit_proto::json::of_dynamic;
use orbit_tests::deadline::within;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The answers of a call, and its status if it was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<Value>,
    pub(crate) end: Result<(), Box<Status>>,
}

/// A connection to a server, and the descriptors of its services.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    channel: Channel,
    pool: DescriptorPool,
}

impl Caller {
    pub(crate) fn new(channel: Channel, pool: DescriptorPool) -> Self {
        Self { channel, pool }
    }

    pub(crate) async fn connect(address: &str) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address makes a URL");
        within("a connection", endpoint.connect()).await.expect("the server is there")
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// A method by `package.Service/Method`.
    fn method(&self, path: &str) -> MethodDescriptor {
        let (service, name) = path.split_once('/').expect("Service/Method");
        let service = self.pool.get_service_by_name(service);
        let service = service.unwrap_or_else(|| panic!("{path}: there is no such service"));
        let method = service.methods().find(|method| method.name() == name);
        method.unwrap_or_else(|| panic!("{path}: there is no such method"))
    }

    /// Calls a method with some messages and reads until the end, or until `is_enough`. The client's side of the stream
    /// stays open until then.
    pub(crate) async fn call(
        &self,
        path: &str,
        requests: &[Value],
        is_enough: impl Fn(&[Value]) -> bool,
    ) -> Answer {
        let method = self.method(path);
        let encoded: Vec<Vec<u8>> = requests.iter().map(|request| encode(&method, request)).collect();
        let (sender, waiting) = tokio::sync::mpsc::channel(encoded.len().max(1));
        for message in encoded {
            sender.send(message).await.expect("there is room");
        }
        // A call with a single message ends with it.
        let open = method.is_client_streaming().then_some(sender);
        let waiting = tokio_stream::wrappers::ReceiverStream::new(waiting);
        let mut grpc = Grpc::new(self.channel.clone());
        let reading = async {
            let mut messages = Vec::new();
            let end = async {
                grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                let codec = Dynamic { output: method.output() };
                let path = format!("/{path}").parse().expect("a path");
                let mut answers = grpc.streaming(Request::new(waiting), path, codec).await?.into_inner();
                while let Some(message) = answers.message().await? {
                    messages.push(of_dynamic(&message).expect("an answer has a JSON form"));
                    if is_enough(&messages) {
                        break;
                    }
                }
                Ok(())
            };
            let end = end.await.map_err(Box::new);
            Answer { messages, end }
        };
        let answer = within(path, reading).await;
        drop(open);
        answer
    }
}

fn encode(method: &MethodDescriptor, request: &Value) -> Vec<u8> {
    let message = DynamicMessage::deserialize(method.input(), request);
    message.unwrap_or_else(|error| panic!("{}: {request}: {error}", method.full_name())).encode_to_vec()
}

/// A codec: encoded messages out, messages of a type in.
#[derive(Debug, Clone)]
struct Dynamic {
    output: MessageDescriptor,
}

impl Codec for Dynamic {
    type Encode = Vec<u8>;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = DynamicMessage::decode(self.output.clone(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
