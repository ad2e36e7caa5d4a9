//! The codec of every generated service and client: Protocol Buffers, through buffers that begin small.
//!
//! A call of tonic's own codec takes 8 KiB for either direction when it begins. Most calls need far less, and a session
//! that lasts for weeks keeps what it took, which ten thousand of them make 160 MiB. Here a buffer grows to what a message
//! needs, in one step.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// What a buffer begins with, in bytes: a heartbeat, or what little else an idle session says.
const BUFFER_BYTES: usize = 256;
/// Messages that are ready go out together until they have so many bytes; as in tonic.
const YIELD_BYTES: usize = 32 * 1024;

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}

/// Messages of one type out, of another in.
#[derive(Debug)]
pub struct LeanCodec<Out, In> {
    types: PhantomData<(Out, In)>,
}

impl<Out, In> Default for LeanCodec<Out, In> {
    fn default() -> Self {
        Self { types: PhantomData }
    }
}

impl<Out, In> Codec for LeanCodec<Out, In>
where
    Out: Message + 'static,
    In: Message + Default + 'static,
{
    type Encode = Out;
    type Decode = In;
    type Encoder = LeanEncoder<Out>;
    type Decoder = ProstDecoder<In>;

    fn encoder(&mut self) -> Self::Encoder {
        LeanEncoder { types: PhantomData }
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Out, In>::raw_decoder(settings())
    }
}

/// Encodes a message into room that was made for all of it.
#[derive(Debug)]
pub struct LeanEncoder<Out> {
    types: PhantomData<Out>,
}

impl<Out: Message> Encoder for LeanEncoder<Out> {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, message: Out, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message
            .encode(buffer)
            .map_err(|error| Status::internal(format!("a message cannot be encoded: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
