//! The enums of `orbit.v1` in an operator's words: `JOB_STATE_PARTIALLY_COMPLETED` is `partially-completed`.
//!
//! The words are read from the compiled descriptors, so a value added to a proto is known here at once, on the command
//! line as in tables.

use std::sync::LazyLock;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use prost_reflect::{DescriptorPool, EnumDescriptor};

/// The descriptors of everything in `orbit.v1`.
pub(crate) static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(orbit_proto::FILE_DESCRIPTOR_SET).expect("the build compiled the descriptors")
});

/// One enum of `orbit.v1`.
#[derive(Debug, Clone)]
pub(crate) struct Vocabulary {
    descriptor: EnumDescriptor,
    prefix: String,
}

impl Vocabulary {
    /// The enum of this name in `orbit.v1`, such as `JobState`.
    pub(crate) fn of(name: &str) -> Self {
        let descriptor = DESCRIPTORS
            .get_enum_by_name(&format!("orbit.v1.{name}"))
            .expect("callers name enums that the protos define");
        let zero = descriptor.default_value();
        let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned();
        Self { descriptor, prefix }
    }

    /// The word for a value; a number for one that is newer than this program.
    pub(crate) fn word(&self, number: i32) -> String {
        match self.descriptor.get_value(number) {
            Some(value) => self.shorten(value.name()),
            None => number.to_string(),
        }
    }

    /// Every word but the unspecified one, in the order of the proto.
    pub(crate) fn words(&self) -> Vec<String> {
        let named = self.descriptor.values().filter(|value| value.number() != 0);
        named.map(|value| self.shorten(value.name())).collect()
    }

    fn number(&self, word: &str) -> Option<i32> {
        let mut values = self.descriptor.values();
        values.find(|value| self.shorten(value.name()) == word).map(|value| value.number())
    }

    fn shorten(&self, name: &str) -> String {
        name.strip_prefix(&self.prefix).unwrap_or(name).to_lowercase().replace('_', "-")
    }
}

/// The word for a value of the enum with this name.
pub(crate) fn word(name: &str, number: i32) -> String {
    Vocabulary::of(name).word(number)
}

/// Parses a flag's value as one of the words of an enum, which its help then lists.
pub(crate) fn parser(name: &'static str) -> impl TypedValueParser<Value = i32> {
    PossibleValuesParser::new(Vocabulary::of(name).words()).map(move |word| {
        Vocabulary::of(name).number(&word).expect("clap lets through only the words it was given")
    })
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::{JobState, ProvenanceType};

    use super::*;

    #[test]
    fn words_are_the_values_without_their_prefix() {
        assert_eq!(word("JobState", JobState::PartiallyCompleted.into()), "partially-completed");
        assert_eq!(word("ProvenanceType", ProvenanceType::ChunkDeadLettered.into()), "chunk-dead-lettered");
        assert_eq!(word("JobState", 99), "99");
    }

    #[test]
    fn words_lead_back_to_their_values() {
        let severities = Vocabulary::of("Severity");
        assert_eq!(severities.words(), ["info", "warning", "error"]);
        assert_eq!(severities.number("warning"), Some(2));
        assert_eq!(severities.number("loud"), None);
    }
}
