//! The wire stays what it is: every message, field, enum value and method that `proto/baseline.txt` lists is still there,
//! with its number and type. Programs of two versions meet in every upgrade, and scripts hold on to names.
//!
//! New elements are welcome, and are written down by running this test with `ORBIT_UPDATE_BASELINE=1`. Lines are never
//! removed by that: to break the wire on purpose, delete them by hand and say so in the change log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.txt")
}

/// What must not change, an element a line.
fn elements() -> BTreeSet<String> {
    let pool =
        DescriptorPool::decode(orbit_proto::FILE_DESCRIPTOR_SET).expect("the build compiled the descriptors");
    let mut elements = BTreeSet::new();
    let is_ours = |package: &str| package == "orbit.v1";
    for message in pool.all_messages().filter(|message| is_ours(message.package_name())) {
        add_fields(&message, &mut elements);
    }
    for enumeration in pool.all_enums().filter(|enumeration| is_ours(enumeration.package_name())) {
        for value in enumeration.values() {
            elements.insert(format!(
                "value {}.{} = {}",
                enumeration.full_name(),
                value.name(),
                value.number()
            ));
        }
    }
    for service in pool.services().filter(|service| is_ours(service.package_name())) {
        for method in service.methods() {
            let stream = |is_stream| if is_stream { "stream " } else { "" };
            elements.insert(format!(
                "rpc {}({}{}) returns ({}{})",
                method.full_name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name(),
            ));
        }
    }
    elements
}

fn add_fields(message: &MessageDescriptor, elements: &mut BTreeSet<String>) {
    for field in message.fields() {
        let kind = match field.kind() {
            Kind::Message(inner) => inner.full_name().to_owned(),
            Kind::Enum(inner) => inner.full_name().to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        };
        let many = if field.is_list() { "repeated " } else { "" };
        elements.insert(format!(
            "field {}.{} = {}: {many}{kind}",
            message.full_name(),
            field.name(),
            field.number()
        ));
    }
}

#[test]
fn nothing_that_others_hold_on_to_has_changed() {
    let current = elements();
    let text = std::fs::read_to_string(baseline()).unwrap_or_default();
    let known: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    if std::env::var_os("ORBIT_UPDATE_BASELINE").is_some() {
        let all: Vec<&str> = known.union(&current).map(String::as_str).collect();
        std::fs::write(baseline(), all.join("\n") + "\n").expect("the baseline can be written");
        return;
    }
    let gone: Vec<&String> = known.difference(&current).collect();
    assert!(gone.is_empty(), "the wire would break; these were promised and are not there: {gone:#?}");
    let new: Vec<&String> = current.difference(&known).collect();
    assert!(
        new.is_empty(),
        "these are not in proto/baseline.txt yet; add them with ORBIT_UPDATE_BASELINE=1 cargo test -p orbit-proto --test breaking: {new:#?}"
    );
}
