//! Composable prioritizers: the order of waiting items, as a chain of criteria.
//!
//! Every criterion compares in two forms: two items directly, and byte strings with the same order. The bytes of a
//! whole chain, followed by the item's sequence number, are the key of a durable queue. So "the next item" is the first
//! entry of an ordered index, and nothing is ever sorted. A property test checks that both forms agree.
//!
//! Aging is not part of the key, because a key that changes with time cannot be stored. It is applied when an item is
//! chosen: see [`AgingPolicy`].

mod aging;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::aging::{AgingConfig, AgingPolicy, Pick};
pub use crate::semantic::Priority;
use crate::time::{Monotonic, WallTime};

/// The properties of a waiting item that the criteria use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferItem {
    /// Its path below the job's root; bytes, since a path need not be UTF-8. No built-in criterion uses it.
    pub path: Vec<u8>,
    /// Its priority in the semantic registry.
    pub priority: Priority,
    /// Its size in bytes.
    pub size: u64,
    /// When the file was last modified; "oldest" and "newest" refer to this.
    pub modified_at: WallTime,
    /// When this process queued it. An item that is loaded after a restart counts from the load.
    pub queued_at: Monotonic,
    /// How often it has failed: the penalty count of its record.
    pub retry_count: u32,
    /// Its number in the order of the scan; breaks every tie.
    pub sequence: u64,
}

impl TransferItem {
    /// An item that has never failed, with sequence number 0 and queued when the clock started.
    pub fn new(path: impl Into<Vec<u8>>, priority: Priority, size: u64, modified_at: WallTime) -> Self {
        Self {
            path: path.into(),
            priority,
            size,
            modified_at,
            queued_at: Monotonic::ZERO,
            retry_count: 0,
            sequence: 0,
        }
    }
}

/// One criterion of a chain.
pub trait Prioritizer: fmt::Debug + Send + Sync {
    /// `Less` if `a` is taken before `b`.
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering;

    /// The criterion's name in configuration and in explanations.
    fn name(&self) -> &'static str;

    /// Number of bytes that [`Prioritizer::write_key`] appends, the same for every item.
    fn key_bytes(&self) -> usize;

    /// Appends exactly [`Prioritizer::key_bytes`] bytes, whose order as bytes is that of [`Prioritizer::compare`].
    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>);
}

/// Critical before Low.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SemanticPrioritizer;

impl Prioritizer for SemanticPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        a.priority.rank().cmp(&b.priority.rank())
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::Semantic.as_str()
    }

    fn key_bytes(&self) -> usize {
        1
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.push(item.priority.rank());
    }
}

/// Fewer bytes first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SmallestFirstPrioritizer;

impl Prioritizer for SmallestFirstPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        a.size.cmp(&b.size)
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::SmallestFirst.as_str()
    }

    fn key_bytes(&self) -> usize {
        8
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.extend(item.size.to_be_bytes());
    }
}

/// More bytes first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LargestFirstPrioritizer;

impl Prioritizer for LargestFirstPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        b.size.cmp(&a.size)
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::LargestFirst.as_str()
    }

    fn key_bytes(&self) -> usize {
        8
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.extend((!item.size).to_be_bytes());
    }
}

/// The file that was modified earlier first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OldestFirstPrioritizer;

impl Prioritizer for OldestFirstPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        a.modified_at.cmp(&b.modified_at)
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::OldestFirst.as_str()
    }

    fn key_bytes(&self) -> usize {
        WALL_TIME_KEY_BYTES
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.extend(wall_time_key(item.modified_at));
    }
}

/// The file that was modified later first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NewestFirstPrioritizer;

impl Prioritizer for NewestFirstPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        b.modified_at.cmp(&a.modified_at)
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::NewestFirst.as_str()
    }

    fn key_bytes(&self) -> usize {
        WALL_TIME_KEY_BYTES
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.extend(wall_time_key(item.modified_at).map(|byte| !byte));
    }
}

/// The item that has failed less often first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FewestRetriesPrioritizer;

impl Prioritizer for FewestRetriesPrioritizer {
    fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        a.retry_count.cmp(&b.retry_count)
    }

    fn name(&self) -> &'static str {
        PrioritizerKind::FewestRetries.as_str()
    }

    fn key_bytes(&self) -> usize {
        4
    }

    fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        key.extend(item.retry_count.to_be_bytes());
    }
}

/// Names a built-in criterion in configuration and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrioritizerKind {
    /// [`SemanticPrioritizer`].
    Semantic,
    /// [`SmallestFirstPrioritizer`].
    SmallestFirst,
    /// [`LargestFirstPrioritizer`].
    LargestFirst,
    /// [`OldestFirstPrioritizer`].
    OldestFirst,
    /// [`NewestFirstPrioritizer`].
    NewestFirst,
    /// [`FewestRetriesPrioritizer`].
    FewestRetries,
}

impl PrioritizerKind {
    /// All built-in criteria.
    pub const ALL: [Self; 6] = [
        Self::Semantic,
        Self::SmallestFirst,
        Self::LargestFirst,
        Self::OldestFirst,
        Self::NewestFirst,
        Self::FewestRetries,
    ];

    /// The chain used when a job names none: urgent, then small, then old.
    pub const DEFAULT_CHAIN: [Self; 3] = [Self::Semantic, Self::SmallestFirst, Self::OldestFirst];

    /// Its name in configuration and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Semantic => "semantic",
            Self::SmallestFirst => "smallest_first",
            Self::LargestFirst => "largest_first",
            Self::OldestFirst => "oldest_first",
            Self::NewestFirst => "newest_first",
            Self::FewestRetries => "fewest_retries",
        }
    }

    /// The criterion with this name.
    pub fn criterion(self) -> Box<dyn Prioritizer> {
        match self {
            Self::Semantic => Box::new(SemanticPrioritizer),
            Self::SmallestFirst => Box::new(SmallestFirstPrioritizer),
            Self::LargestFirst => Box::new(LargestFirstPrioritizer),
            Self::OldestFirst => Box::new(OldestFirstPrioritizer),
            Self::NewestFirst => Box::new(NewestFirstPrioritizer),
            Self::FewestRetries => Box::new(FewestRetriesPrioritizer),
        }
    }
}

impl fmt::Display for PrioritizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text does not name a built-in criterion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a prioritizer: semantic, smallest_first, largest_first, oldest_first, newest_first or fewest_retries"
)]
pub struct PrioritizerKindError {
    /// The text.
    pub text: String,
}

impl FromStr for PrioritizerKind {
    type Err = PrioritizerKindError;

    fn from_str(text: &str) -> Result<Self, PrioritizerKindError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| PrioritizerKindError { text: text.to_owned() })
    }
}

/// A chain of criteria; the first one that finds a difference decides.
#[derive(Debug)]
pub struct ComposablePrioritizer {
    chain: Vec<Box<dyn Prioritizer>>,
}

impl ComposablePrioritizer {
    /// A chain of any criteria, in order.
    pub fn new(chain: Vec<Box<dyn Prioritizer>>) -> Self {
        Self { chain }
    }

    /// A chain of built-in criteria.
    pub fn from_kinds(kinds: &[PrioritizerKind]) -> Self {
        Self::new(kinds.iter().map(|kind| kind.criterion()).collect())
    }

    /// Semantic, then smallest, then oldest.
    pub fn default_chain() -> Self {
        Self::from_kinds(&PrioritizerKind::DEFAULT_CHAIN)
    }

    /// The first result of the chain that is not `Equal`; `Equal` if there is none.
    pub fn compare(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        let decided = self.chain.iter().map(|criterion| criterion.compare(a, b));
        decided.fold(Ordering::Equal, Ordering::then)
    }

    /// As [`ComposablePrioritizer::compare`], and the sequence number breaks the tie: two items of one job are never
    /// equal.
    pub fn compare_total(&self, a: &TransferItem, b: &TransferItem) -> Ordering {
        self.compare(a, b).then_with(|| a.sequence.cmp(&b.sequence))
    }

    /// Bytes whose order is that of [`ComposablePrioritizer::compare_total`]. All keys of a chain have the same length,
    /// so they can be followed by other bytes.
    pub fn key(&self, item: &TransferItem) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.key_bytes());
        self.write_key(item, &mut key);
        key
    }

    /// Appends [`ComposablePrioritizer::key`] to a key that has already begun.
    pub fn write_key(&self, item: &TransferItem, key: &mut Vec<u8>) {
        let start = key.len();
        for criterion in &self.chain {
            criterion.write_key(item, key);
        }
        key.extend(item.sequence.to_be_bytes());
        assert_eq!(
            key.len() - start,
            self.key_bytes(),
            "a criterion of {:?} does not keep its width",
            self.chain
        );
    }

    /// The length of every key of this chain.
    pub fn key_bytes(&self) -> usize {
        let criteria: usize = self.chain.iter().map(|criterion| criterion.key_bytes()).sum();
        criteria + SEQUENCE_KEY_BYTES
    }

    /// The criteria's names in order.
    pub fn chain_names(&self) -> Vec<&'static str> {
        self.chain.iter().map(|criterion| criterion.name()).collect()
    }
}

impl Default for ComposablePrioritizer {
    fn default() -> Self {
        Self::default_chain()
    }
}

const SEQUENCE_KEY_BYTES: usize = 8;
const WALL_TIME_KEY_BYTES: usize = 12;

/// Seconds with the sign bit flipped, so that times before 1970 order first, then nanoseconds.
fn wall_time_key(time: WallTime) -> [u8; WALL_TIME_KEY_BYTES] {
    let seconds = time.seconds.cast_unsigned() ^ (1 << 63);
    let mut key = [0; WALL_TIME_KEY_BYTES];
    key[..8].copy_from_slice(&seconds.to_be_bytes());
    key[8..].copy_from_slice(&time.nanos.to_be_bytes());
    key
}
