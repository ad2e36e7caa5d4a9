//! Messages as canonical proto3 JSON, the form in which every face but gRPC itself shows them.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET)
        .expect("the descriptors were written by the compiler of this build")
});

/// The descriptors of every file of `orbit.v1` and its imports, comments included.
pub fn descriptors() -> &'static DescriptorPool {
    &POOL
}

/// A message as JSON. Fields with their default value are left out, 64-bit numbers are strings.
///
/// # Panics
///
/// If `name` is not the full name of the message's type.
pub fn of_message(name: &str, message: &impl Message) -> Value {
    let descriptor = POOL.get_message_by_name(name).expect("the name of a message of orbit.v1");
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("a message decodes as its own type");
    of_dynamic(&dynamic).expect("every message that this process made has a JSON form")
}

/// The same of a message whose type is known only while the program runs.
///
/// # Errors
///
/// When it holds a time or a duration beyond what JSON can say.
pub fn of_dynamic(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn a_message_has_camel_case_names_prefixed_enums_and_numbers_as_strings() {
        let job = v1::Job { job_id: 7, state: v1::JobState::Running.into(), ..v1::Job::default() };
        let json = of_message("orbit.v1.Job", &job);
        assert_eq!(json, serde_json::json!({"jobId": "7", "state": "JOB_STATE_RUNNING"}));
    }
}
