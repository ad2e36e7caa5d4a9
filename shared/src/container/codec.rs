//! How a chunk is stored: unchanged, or as one zstd frame if that saves enough.
//!
//! A frame is followed by its CRC-32. The hash of a chunk is that of its raw bytes, and a frame has bits that do not
//! affect those. With the CRC every changed bit is noticed, and a damaged frame never reaches the decoder.

use std::borrow::Cow;
use std::cell::RefCell;

use super::format::CHUNK_BYTES_MAX;

/// Size of the sample that is checked before a chunk is compressed, in bytes.
const SAMPLE_BYTES: usize = 4096;
/// Number of bytes of a large chunk that are compressed as a trial.
const TRIAL_BYTES: usize = 64 * 1024;
/// Length of the CRC-32 after a frame, in bytes.
const CHECK_BYTES: usize = 4;
/// Minimum size of a chunk that is compressed, in bytes. Below it the header of a frame costs what it saves.
const WORTHWHILE_BYTES_MIN: usize = 64;
/// A chunk is stored compressed if that saves at least one part in this many.
const SAVING_PARTS: usize = 16;

/// The bytes of a chunk as they go into a container.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// The bytes in the file.
    pub bytes: Cow<'a, [u8]>,
    /// Length of the raw chunk in bytes.
    pub raw_length: u32,
}

impl<'a> Stored<'a> {
    /// Uncompressed.
    pub fn raw(bytes: &'a [u8]) -> Self {
        // A chunk that is too large for its length to fit is refused when it is appended.
        let raw_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self { bytes: Cow::Borrowed(bytes), raw_length }
    }

    /// Its length in the file, in bytes.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Decides how chunks are stored, one after the other, with buffers that it reuses.
pub struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    room: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder at this level of zstd.
    ///
    /// # Errors
    ///
    /// There is no such level, or no memory.
    pub fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { compressor: zstd::bulk::Compressor::new(level)?, room: Vec::new() })
    }

    /// The stored form of a chunk: compressed if a sample suggests that it saves enough, and it does.
    pub fn encode<'a>(&'a mut self, bytes: &'a [u8]) -> Stored<'a> {
        let raw = Stored::raw(bytes);
        if bytes.len() < WORTHWHILE_BYTES_MIN || looks_random(bytes) {
            return raw;
        }
        // A large chunk whose beginning does not shrink is stored uncompressed.
        if bytes.len() > 2 * TRIAL_BYTES && !self.shrinks(&bytes[..TRIAL_BYTES]) {
            return raw;
        }
        if !self.shrinks(bytes) {
            return raw;
        }
        let check = crc32fast::hash(&self.room);
        self.room.extend_from_slice(&check.to_le_bytes());
        Stored { bytes: Cow::Borrowed(&self.room), raw_length: raw.raw_length }
    }

    /// Compresses a part. Returns whether that saves enough.
    fn shrinks(&mut self, part: &[u8]) -> bool {
        self.room.clear();
        self.room.reserve(zstd::zstd_safe::compress_bound(part.len()) + CHECK_BYTES);
        match self.compressor.compress_to_buffer(part, &mut self.room) {
            Ok(length) => length + CHECK_BYTES + part.len() / SAVING_PARTS < part.len(),
            Err(_) => false,
        }
    }
}

thread_local! {
    /// A decoder is expensive to make. It belongs to one thread at a time.
    static DECODER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The raw bytes of a compressed chunk, if it is undamaged and has exactly this length. Never allocates more.
pub fn decompress(stored: &[u8], raw_length: u32) -> Option<Vec<u8>> {
    let (frame, check) = stored.split_last_chunk::<CHECK_BYTES>()?;
    if raw_length > CHUNK_BYTES_MAX || crc32fast::hash(frame).to_le_bytes() != *check {
        return None;
    }
    let raw = DECODER.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = zstd::bulk::Decompressor::new().ok();
        }
        kept.as_mut()?.decompress(frame, raw_length as usize).ok()
    })?;
    (raw.len() == raw_length as usize).then_some(raw)
}

/// Whether all byte values are nearly equally frequent in a sample, as in encrypted and compressed content: counts the
/// pairs of equal bytes, of which random content has one in 256.
fn looks_random(bytes: &[u8]) -> bool {
    let sample = if bytes.len() <= SAMPLE_BYTES {
        bytes
    } else {
        let start = (bytes.len() - SAMPLE_BYTES) / 2;
        &bytes[start..start + SAMPLE_BYTES]
    };
    if sample.len() < 512 {
        return false;
    }
    let mut counts = [0_u64; 256];
    for byte in sample {
        counts[usize::from(*byte)] += 1;
    }
    let length = sample.len() as u64;
    let pairs: u64 = counts.iter().map(|count| count * count.saturating_sub(1)).sum();
    // Random content has length * (length - 1) / 256 of them; text has several times as many.
    pairs * 256 * 10 < length * (length - 1) * 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_compressible_chunk_is_compressed_and_restored() {
        let text = b"the quick brown fox jumps over the lazy dog; ".repeat(5000);
        let mut encoder = Encoder::new(3).unwrap();
        let stored = encoder.encode(&text);
        assert!(stored.length() < text.len() as u64 / 10);
        assert_eq!(decompress(&stored.bytes, stored.raw_length).unwrap(), text);
        assert_eq!(decompress(&stored.bytes, stored.raw_length - 1), None);
        assert_eq!(decompress(&stored.bytes, stored.raw_length + 1), None);
        assert_eq!(decompress(&stored.bytes, u32::MAX), None);
        assert_eq!(decompress(&stored.bytes[1..], stored.raw_length), None);
        for bit in 0..stored.bytes.len() * 8 {
            let mut changed = stored.bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decompress(&changed, stored.raw_length), None, "bit {bit}");
        }
    }

    #[test]
    fn an_incompressible_chunk_is_stored_unchanged() {
        let mut encoder = Encoder::new(3).unwrap();
        for length in [0, 1, 63, 600, 5000, 300_000] {
            let bytes = noise(length);
            let stored = encoder.encode(&bytes);
            assert_eq!(stored.bytes, bytes, "{length}");
            assert_eq!(stored.raw_length as usize, length);
        }
        assert!(looks_random(&noise(4096)) && !looks_random(&b"some text, ".repeat(100)));
    }
}
