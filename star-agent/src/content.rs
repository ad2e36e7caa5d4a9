//! Content from a file or from the network: bytes in one or several pieces.
//!
//! A message of the data plane arrives in as many pieces as it had HTTP/2 frames. Joining them would copy every byte
//! once more, so they stay separate: cutting, hashing and writing work on pieces.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::chunker;
use crate::transfer::ChunkHash;

/// A sequence of bytes in pieces, none of which is empty.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Content {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }

    /// Removes and returns the first `length` bytes. There must be as many.
    pub fn split_to(&mut self, length: usize) -> Self {
        assert!(length <= self.length, "{length} bytes of {}", self.length);
        self.length -= length;
        let mut taken = Self { pieces: VecDeque::with_capacity(1), length };
        let mut missing = length;
        while let Some(first) = self.pieces.front_mut().filter(|_| missing > 0) {
            if first.len() > missing {
                taken.pieces.push_back(first.split_to(missing));
                break;
            }
            missing -= first.len();
            taken.pieces.extend(self.pieces.pop_front());
        }
        taken
    }

    /// The BLAKE3 hash of the bytes, which names them as a chunk.
    pub fn hash(&self) -> ChunkHash {
        if let [piece] = self.pieces.as_slices().0
            && piece.len() == self.length
        {
            return chunker::hash(piece);
        }
        let mut hasher = blake3::Hasher::new();
        for piece in &self.pieces {
            hasher.update(piece);
        }
        *hasher.finalize().as_bytes()
    }
}

impl From<Bytes> for Content {
    fn from(piece: Bytes) -> Self {
        let mut content = Self::default();
        content.push(piece);
        content
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.pieces.iter().flatten().eq(other.pieces.iter().flatten())
    }
}

impl Eq for Content {}

impl Buf for Content {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, count: usize) {
        drop(self.split_to(count));
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let mut taken = self.split_to(length);
        match taken.pieces.len() {
            0 => Bytes::new(),
            1 => taken.pieces.pop_front().unwrap_or_default(),
            _ => {
                let mut joined = BytesMut::with_capacity(length);
                taken.pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
                joined.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(pieces: &[Vec<u8>]) -> Content {
        let mut content = Content::default();
        pieces.iter().for_each(|piece| content.push(Bytes::copy_from_slice(piece)));
        content
    }

    proptest! {
        #[test]
        fn however_it_is_pieced_and_cut_the_bytes_are_the_same(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            cuts in prop::collection::vec(0_usize..12, 0..8),
        ) {
            let whole = pieces.concat();
            let mut rest = content(&pieces);
            prop_assert_eq!(&rest, &Content::from(Bytes::from(whole.clone())));
            prop_assert_eq!(rest.hash(), chunker::hash(&whole));
            let mut start = 0;
            for cut in cuts {
                let end = whole.len().min(start + cut);
                let part = if cut % 2 == 0 {
                    rest.split_to(end - start)
                } else {
                    Content::from(rest.copy_to_bytes(end - start))
                };
                prop_assert_eq!(part.len(), end - start);
                prop_assert_eq!(part.pieces().flatten().copied().collect::<Vec<_>>(), &whole[start..end]);
                prop_assert!(part.pieces().all(|piece| !piece.is_empty()));
                start = end;
            }
            prop_assert_eq!(rest.len(), whole.len() - start);
            prop_assert_eq!(rest.has_remaining(), start < whole.len());
        }
    }
}
