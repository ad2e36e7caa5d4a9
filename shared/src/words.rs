//! The grid's identifiers, each with its own type, so that one kind of number cannot be used for another.
//!
//! Each term has exactly one meaning, and each thing one term; the glossary in `ARCHITECTURE.md` and the types here
//! agree.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The id of a job: 1, 2, 3, ... in the order of creation, never reused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an assignment: one attempt at a batch of items. Never reused, even after a restart of the coordinator.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssignmentId(pub u64);

impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a session of one Star identity. Messages of an older epoch are refused.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an item: one entry of a job's source tree, for one of the job's destinations.
///
/// Its text form, `job/destination/sequence`, is the `item_key` of the API.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemId {
    /// The job it belongs to.
    pub job: JobId,
    /// Index into the job's destinations, from 0.
    pub destination: u32,
    /// The entry's number in the order the scan found it, from 0; the same for every destination.
    pub sequence: u64,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.job, self.destination, self.sequence)
    }
}

/// Why a text is not an item key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an item key is JOB/DESTINATION/SEQUENCE, three numbers, for example 7/0/42")]
pub struct ItemKeyError;

impl FromStr for ItemId {
    type Err = ItemKeyError;

    fn from_str(text: &str) -> Result<Self, ItemKeyError> {
        let mut parts = text.split('/');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(ItemKeyError);
        let (job, destination, sequence) = (number()?, number()?, number()?);
        if parts.next().is_some() {
            return Err(ItemKeyError);
        }
        let destination = u32::try_from(destination).map_err(|_| ItemKeyError)?;
        Ok(Self { job: JobId(job), destination, sequence })
    }
}

/// Names one snapshot in any vault of any grid. Its text form is 32 hexadecimal digits.
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(pub [u8; 16]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({self})")
    }
}

/// Why a text does not name a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot's name is 32 hexadecimal digits; `orbit snapshot ls` shows them")]
pub struct SnapshotIdError;

impl FromStr for SnapshotId {
    type Err = SnapshotIdError;

    fn from_str(text: &str) -> Result<Self, SnapshotIdError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SnapshotIdError);
        }
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| SnapshotIdError)
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = SnapshotIdError;

    fn try_from(text: String) -> Result<Self, SnapshotIdError> {
        text.parse()
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.to_string()
    }
}

/// How a destination stores what it receives.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Plain files at the destination path.
    #[default]
    Files,
    /// Chunks in the destination's vault, which become a snapshot when the job ends.
    Packed,
}

/// Maximum length of a Star's name, in bytes.
pub const STAR_ID_BYTES_MAX: usize = 64;

/// The name an operator gave a Star: 1 to 64 of `a-z A-Z 0-9 . _ -`, starting with a letter or digit.
///
/// The alphabet leaves out `:` and `/`, so `star-1:/data/photos` always splits in one way. A copy shares its text: every
/// event of every item names a Star.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StarId(Arc<str>);

/// Why a text does not name a Star.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a Star's name: 1 to {STAR_ID_BYTES_MAX} of a-z A-Z 0-9 . _ -, starting with a letter or digit"
)]
pub struct StarIdError {
    /// What was given.
    pub text: String,
}

impl StarId {
    /// Checks a name against the alphabet and length above.
    pub fn new(text: impl Into<String>) -> Result<Self, StarIdError> {
        let text = text.into();
        let is_valid = (1..=STAR_ID_BYTES_MAX).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if is_valid { Ok(Self(text.into())) } else { Err(StarIdError { text }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StarId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for StarId {
    type Err = StarIdError;

    fn from_str(text: &str) -> Result<Self, StarIdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for StarId {
    type Error = StarIdError;

    fn try_from(text: String) -> Result<Self, StarIdError> {
        Self::new(text)
    }
}

impl From<StarId> for String {
    fn from(id: StarId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Borrow<str> for StarId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_key_round_trips_through_its_text() {
        let id = ItemId { job: JobId(7), destination: 1, sequence: 42 };
        assert_eq!(id.to_string(), "7/1/42");
        assert_eq!("7/1/42".parse(), Ok(id));
    }

    #[test]
    fn a_malformed_item_key_is_refused() {
        for text in ["", "7", "7/1", "7/1/42/0", "a/b/c", "7//42", "-1/0/0", "7/99999999999/0"] {
            assert_eq!(text.parse::<ItemId>(), Err(ItemKeyError), "{text:?}");
        }
    }

    #[test]
    fn a_snapshot_name_is_thirty_two_digits_and_nothing_else() {
        let id = SnapshotId(0x00c0_ffee_u128.to_be_bytes());
        assert_eq!(id.to_string(), "00000000000000000000000000c0ffee");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "c0ffee", "+0000000000000000000000000c0ffee", "00000000000000000000000000c0ffeg"] {
            assert_eq!(text.parse::<SnapshotId>(), Err(SnapshotIdError), "{text:?}");
        }
    }

    #[test]
    fn a_star_name_keeps_to_its_alphabet() {
        for good in ["star-1", "a", "9", "Nas.lab_2"] {
            assert_eq!(StarId::new(good).map(|id| id.as_str().to_owned()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", ".a", "a:b", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(StarId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn item_ids_order_by_job_then_destination_then_sequence() {
        let id = |job, destination, sequence| ItemId { job: JobId(job), destination, sequence };
        assert!(id(1, 9, 9) < id(2, 0, 0) && id(1, 0, 9) < id(1, 1, 0) && id(1, 1, 0) < id(1, 1, 1));
    }
}
