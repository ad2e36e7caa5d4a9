//! Conversions between the wire types of `orbit.v1` and the words of `orbit-shared`.
//!
//! Towards the wire they cannot fail. From the wire they check everything that the cores rely on (enumerations are
//! known, identifiers well-formed, paths confined, counts within the bounds of the session) and name the field that is
//! wrong. They never panic, whatever arrives. What a message *means* is not judged here.

mod entry;
mod session;
#[cfg(test)]
mod tests;
mod time;
mod vault;

use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::session::limits;

pub use self::session::{lifecycle_from_wire, lifecycle_to_wire};
pub use self::time::{duration_from_wire, duration_to_wire, timestamp_from_wire, timestamp_to_wire};

/// Why a message from the wire is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// The field that is wrong, as the proto file names it, with the messages around it: `assign.items.entry.path`.
    pub field: String,
    /// What is wrong with it, in words.
    pub problem: String,
}

impl ConvertError {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same error, seen from the message around it.
    fn within(mut self, outer: &str) -> Self {
        self.field.insert(0, '.');
        self.field.insert_str(0, outer);
        self
    }
}

/// A message field that must be there.
fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// A list that must not be longer than its bound.
fn bounded<T>(field: &str, list: Vec<T>, count_max: usize) -> Result<Vec<T>, ConvertError> {
    if list.len() <= count_max {
        Ok(list)
    } else {
        Err(ConvertError::new(field, format!("has {} elements, at most {count_max} are allowed", list.len())))
    }
}

/// A name, an address or the like, which must not be longer than its bound.
fn short(field: &str, text: String) -> Result<String, ConvertError> {
    if text.len() <= limits::NAME_BYTES_MAX {
        return Ok(text);
    }
    let problem = format!("has {} bytes, at most {} are allowed", text.len(), limits::NAME_BYTES_MAX);
    Err(ConvertError::new(field, problem))
}

/// Text for people, cut visibly where it is too long.
fn words(text: &str) -> String {
    truncate_visibly(text, limits::WORDS_BYTES_MAX)
}

/// The size of a file.
fn file_size(field: &str, bytes: u64) -> Result<u64, ConvertError> {
    if bytes <= limits::BYTES_MAX {
        Ok(bytes)
    } else {
        Err(ConvertError::new(field, format!("is {bytes}, and no file has more than {}", limits::BYTES_MAX)))
    }
}

/// A count that is shown and added up. No honest one is near the bound.
fn count(value: u64) -> u64 {
    value.min(limits::BYTES_MAX)
}

/// An enumeration value that this version knows and that is not the unspecified one.
fn unknown_enum(field: &str, value: i32) -> ConvertError {
    ConvertError::new(field, format!("{value} is not a value of this enumeration"))
}
