//! Lints `orbit/v1/*.proto`: the STANDARD rules that schema linters agree on, and the house rules on comments, times
//! and field masks. Wire compatibility is not its business.

mod rules;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use rules::lint;

#[test]
fn every_proto_file_keeps_the_rules() {
    let set =
        FileDescriptorSet::decode(orbit_proto::FILE_DESCRIPTOR_SET).expect("the compiled descriptors decode");
    let own: Vec<_> = set.file.iter().filter(|file| !file.name().starts_with("google/")).collect();
    assert!(own.len() >= 10, "only {} files of orbit.v1 were compiled", own.len());
    let findings = lint(&own);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// A path, a planted fault in the file there, and a piece of the finding that must name it.
const CASES: &[(&str, &str, &str)] = &[
    ("a/v1/x.proto", "package b.v1;", "lies in a/v1, its package b.v1 belongs in b/v1"),
    ("a/x.proto", "package a;", "has no version"),
    ("a/v1/Xy.proto", "package a.v1;", "Xy.proto: is not lower_snake_case"),
    ("a/v1/x.proto", "package a.v1; // foo is it.\nmessage foo {}", "message foo: is not PascalCase"),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it.\nmessage Foo { // It.\n int32 BarBaz = 1; }",
        "Foo.BarBaz: is not lower_snake_case",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it.\nmessage Foo { // It.\n oneof Bar { // A.\n int32 a = 1; } }",
        "oneof Foo.Bar: is not lower_snake_case",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // FooBar is it.\nenum FooBar { // No.\n FOO_BAR_NONE = 0; }",
        "FOO_BAR_NONE: the zero value must be FOO_BAR_UNSPECIFIED",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // FooBar is it.\nenum FooBar { // No.\n FOO_BAR_UNSPECIFIED = 0; // One.\n ONE = 1; }",
        "ONE: must begin with FOO_BAR_",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // FooBar is it.\nenum FooBar { // No.\n FOO_BAR_UNSPECIFIED = 0; // One.\n FOO_BAR_One = 1; }",
        "FOO_BAR_One: is not UPPER_SNAKE_CASE",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // FooBar is it.\nenum FooBar { option allow_alias = true; // No.\n FOO_BAR_UNSPECIFIED = 0; // One.\n FOO_BAR_ONE = 0; }",
        "allows aliases",
    ),
    ("a/v1/x.proto", "package a.v1; // Foo is it.\nservice Foo {}", "service Foo: must end in Service"),
    (
        "a/v1/x.proto",
        "package a.v1; // DoRequest is it.\nmessage DoRequest {} // DoReply is it.\nmessage DoReply {} // FooService is it.\nservice FooService { // Do it.\n rpc Do(DoRequest) returns (DoReply); }",
        "rpc FooService.Do: answers with DoReply, must be DoResponse",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // Ask is it.\nmessage Ask {} // DoResponse is it.\nmessage DoResponse {} // FooService is it.\nservice FooService { // Do it.\n rpc Do(Ask) returns (DoResponse); }",
        "rpc FooService.Do: asks with Ask, must be DoRequest",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // DoRequest is it.\nmessage DoRequest {} // DoResponse is it.\nmessage DoResponse {} // FooService is it.\nservice FooService { // Do it.\n rpc Do(DoRequest) returns (DoResponse); } // BarService is it.\nservice BarService { // Do it.\n rpc Do(DoRequest) returns (DoResponse); }",
        "DoRequest: is used by more than one rpc",
    ),
    ("a/v1/x.proto", "package a.v1; message Foo {}", "message Foo: has no comment"),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it\nmessage Foo {}",
        "message Foo: the comment does not end with a period",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // This is it.\nmessage Foo {}",
        "message Foo: the comment must begin with its name",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it.\nmessage Foo { int32 bar = 1; }",
        "Foo.bar: has no comment",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it.\nmessage Foo { // Foo is another.\n message Bar { int32 baz = 1; } }",
        "Foo.Bar.baz: has no comment",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; /* Foo is it. */\nmessage Foo {}",
        "x.proto: a comment is not written with //",
    ),
    (
        "a/v1/x.proto",
        "package a.v1; // Foo is it.\nmessage Foo { // It.\n int64 end_time = 1; }",
        "Foo.end_time: is named as a time but is no Timestamp",
    ),
    (
        "a/v1/x.proto",
        "import \"google/protobuf/timestamp.proto\"; package a.v1; // Foo is it.\nmessage Foo { // It.\n google.protobuf.Timestamp ended = 1; }",
        "Foo.ended: is a Timestamp",
    ),
    (
        "a/v1/x.proto",
        "import \"google/protobuf/field_mask.proto\"; package a.v1; // Foo is it.\nmessage Foo { // It.\n google.protobuf.FieldMask mask = 1; }",
        "Foo.mask: is a FieldMask",
    ),
    (
        "a/v1/x.proto",
        "import \"google/protobuf/duration.proto\"; package a.v1;",
        "imports google/protobuf/duration.proto without using it",
    ),
    ("a/v1/x.proto", "import public \"google/protobuf/duration.proto\"; package a.v1;", "imports publicly"),
];

#[test]
fn every_rule_finds_its_planted_fault() {
    for (path, text, expected) in CASES {
        let findings = lint(&[&compiled(path, text)]);
        assert!(
            findings.iter().any(|finding| finding.contains(expected)),
            "{text}\nmust be found as {expected:?}, found: {findings:?}"
        );
    }
}

fn compiled(path: &str, body: &str) -> prost_types::FileDescriptorProto {
    let mut resolver = protox::file::ChainFileResolver::new();
    // A comment on the line of another element would be that element's.
    let body = body.replace("//", "\n//");
    resolver.add(OneFile { path: path.to_owned(), text: format!("syntax = \"proto3\";\n{body}\n") });
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).open_file(path).unwrap_or_else(|error| panic!("{body}\n{error}"));
    let set = compiler.file_descriptor_set();
    set.file.into_iter().find(|file| file.name() == path).expect("the file that was opened was compiled")
}

struct OneFile {
    path: String,
    text: String,
}

impl protox::file::FileResolver for OneFile {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name == self.path {
            protox::file::File::from_source(name, &self.text)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}
