//! Records on disk: MessagePack behind a version and a checksum.
//!
//! Layout: one byte version (1), four bytes CRC-32 (little-endian) of what follows, then the record. Structs are written
//! as arrays in field order, so a field may be added at the end if it has a serde default; anything else is a new
//! version.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

const VERSION: u8 = 1;
pub(super) const HEADER_BYTES: usize = 5;

/// Encodes a record.
pub(super) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    rmp_serde::encode::write(&mut bytes, record).expect("records have no maps with unserializable keys");
    seal(&mut bytes);
    bytes
}

/// Writes the header before a body that begins behind it.
pub(super) fn seal(bytes: &mut [u8]) {
    bytes[0] = VERSION;
    let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
    bytes[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

/// A record with any body.
#[cfg(test)]
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; HEADER_BYTES], body].concat();
    seal(&mut bytes);
    bytes
}

/// Decodes a record of a table.
pub(super) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |problem: String| StoreError::Damaged { table, problem };
    rmp_serde::from_slice(body(table, bytes)?).map_err(|error| damaged(error.to_string()))
}

/// What stands behind the header of a record, if it is as it was written.
pub(super) fn body<'a>(table: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let damaged = |problem: String| StoreError::Damaged { table, problem };
    let Some((&[version, a, b, c, d], body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format!("it has {} bytes, at least {HEADER_BYTES} are needed", bytes.len())));
    };
    if version != VERSION {
        return Err(damaged(format!("it has version {version}, this program reads version {VERSION}")));
    }
    let (stored, actual) = (u32::from_le_bytes([a, b, c, d]), crc32fast::hash(body));
    if stored != actual {
        return Err(damaged(format!("its checksum is {actual:08x} and should be {stored:08x}")));
    }
    Ok(body)
}
