//! The name of a chunk: the BLAKE3 hash of its bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of a [`ChunkHash`].
pub const CHUNK_HASH_BYTES: usize = 32;

/// The BLAKE3 hash that names a chunk. Its text form is 64 lower-case hexadecimal digits.
///
/// Serde writes the text to formats for people and 32 bytes to binary ones.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub [u8; CHUNK_HASH_BYTES]);

impl ChunkHash {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The raw hash.
    pub const fn as_bytes(&self) -> &[u8; CHUNK_HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkHash({self})")
    }
}

/// Why something is not a chunk's hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's hash is 32 bytes, written as 64 hexadecimal digits")]
pub struct ChunkHashError;

impl FromStr for ChunkHash {
    type Err = ChunkHashError;

    fn from_str(text: &str) -> Result<Self, ChunkHashError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| ChunkHashError)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl TryFrom<&[u8]> for ChunkHash {
    type Error = ChunkHashError;

    fn try_from(bytes: &[u8]) -> Result<Self, ChunkHashError> {
        bytes.try_into().map(Self).map_err(|_| ChunkHashError)
    }
}

impl Serialize for ChunkHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for ChunkHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(ChunkHashVisitor)
        } else {
            deserializer.deserialize_bytes(ChunkHashVisitor)
        }
    }
}

struct ChunkHashVisitor;

impl<'de> Visitor<'de> for ChunkHashVisitor {
    type Value = ChunkHash;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chunk's hash: 32 bytes or 64 hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ChunkHash, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ChunkHash, E> {
        ChunkHash::try_from(bytes).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ChunkHash, A::Error> {
        let mut hash = [0; CHUNK_HASH_BYTES];
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        match sequence.next_element::<u8>()? {
            None => Ok(ChunkHash(hash)),
            Some(_) => Err(A::Error::invalid_length(CHUNK_HASH_BYTES + 1, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_round_trip_as_hexadecimal() {
        let hash = ChunkHash::of(b"orbit");
        let text = hash.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ChunkHash>(&format!("\"{text}\"")).unwrap(), hash);
    }

    #[test]
    fn the_hash_of_nothing_is_the_published_one() {
        let known = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ChunkHash::of(b"").to_string(), known);
    }

    #[test]
    fn what_is_not_a_hash_is_refused() {
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<ChunkHash>(), Err(ChunkHashError), "{text:?}");
        }
        assert_eq!(ChunkHash::try_from(&[0; 31][..]), Err(ChunkHashError));
    }

    #[test]
    fn binary_forms_of_the_wrong_length_are_refused() {
        use serde::de::IntoDeserializer;
        use serde::de::value::{BytesDeserializer, Error, SeqDeserializer};
        let from_bytes = |length: usize| {
            let bytes = vec![7; length];
            ChunkHashVisitor.visit_bytes::<Error>(&bytes)
        };
        assert_eq!(from_bytes(32), Ok(ChunkHash([7; 32])));
        assert!(from_bytes(31).is_err() && from_bytes(33).is_err());
        let from_sequence = |length: usize| {
            let deserializer = SeqDeserializer::<_, Error>::new(std::iter::repeat_n(7_u8, length));
            ChunkHashVisitor.visit_seq(deserializer)
        };
        assert_eq!(from_sequence(32), Ok(ChunkHash([7; 32])));
        assert!(from_sequence(31).is_err() && from_sequence(33).is_err());
        let text: BytesDeserializer<'_, Error> = b"short".as_slice().into_deserializer();
        assert!(ChunkHash::deserialize(text).is_err());
    }
}
