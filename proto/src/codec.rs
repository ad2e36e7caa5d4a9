//! The codec of the data plane: prost, with buffers as large as its messages.
//!
//! The default codec grows an 8 KiB buffer and yields every 32 KiB, which costs most of a core's throughput once
//! messages carry a mebibyte.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes that an encode or decode buffer starts with.
const BUFFER_BYTES: usize = 512 * 1024;
/// Encoded bytes after which the encoder hands its buffer to the connection.
const YIELD_BYTES: usize = 256 * 1024;

/// Encodes `T` and decodes `U` with prost, in large buffers.
#[derive(Debug, Clone)]
pub struct DataPlaneCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for DataPlaneCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for DataPlaneCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
