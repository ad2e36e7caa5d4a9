//! The lint's rules over compiled descriptors. One finding is one line: file, element, what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// Field numbers of `descriptor.proto`, of which the paths of comments are made.
mod path {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_SERVICE: i32 = 6;
    pub(super) const SERVICE_METHOD: i32 = 2;
    pub(super) const MESSAGE_FIELD: i32 = 2;
    pub(super) const MESSAGE_NESTED: i32 = 3;
    pub(super) const MESSAGE_ENUM: i32 = 4;
    pub(super) const MESSAGE_ONEOF: i32 = 8;
    pub(super) const ENUM_VALUE: i32 = 2;
}

/// Names that a Timestamp may have beside `*_time`: the bounds of a filter.
const TIME_NAMES: [&str; 3] = ["time", "since", "until"];

/// Everything wrong with the files, in the order of files and elements.
pub(crate) fn lint(files: &[&FileDescriptorProto]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let mut linter = Linter::new(file);
        linter.file();
        findings.append(&mut linter.findings);
    }
    findings.extend(shared_messages(files));
    findings
}

struct Linter<'a> {
    file: &'a FileDescriptorProto,
    comments: BTreeMap<&'a [i32], &'a str>,
    findings: Vec<String>,
}

impl<'a> Linter<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations
            .filter_map(|location| Some((location.path.as_slice(), location.leading_comments.as_deref()?)))
            .collect();
        Self { file, comments, findings: Vec::new() }
    }

    fn add(&mut self, element: &str, problem: impl AsRef<str>) {
        self.findings.push(format!("{}: {element}: {}", self.file.name(), problem.as_ref()));
    }

    fn file(&mut self) {
        let file = self.file;
        self.place();
        self.imports();
        // What descriptors keep of a line comment is a space, its text and a line break.
        let is_line =
            |comment: &str| comment.ends_with('\n') && comment.lines().all(|line| line.starts_with(' '));
        if !self.comments.values().all(|comment| is_line(comment)) {
            self.add(file.name(), "a comment is not written with // and a space");
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(message, message.name(), &[path::FILE_MESSAGE, index]);
        }
        for (index, one) in (0..).zip(&file.enum_type) {
            self.enumeration(one, one.name(), &[path::FILE_ENUM, index]);
        }
        for (index, service) in (0..).zip(&file.service) {
            self.service(service, &[path::FILE_SERVICE, index]);
        }
    }

    fn place(&mut self) {
        let file = self.file;
        let (directory, base) = file.name().rsplit_once('/').unwrap_or(("", file.name()));
        let package = file.package();
        let expected = package.replace('.', "/");
        if directory != expected {
            self.add(base, format!("lies in {directory}, its package {package} belongs in {expected}"));
        }
        if !package.split('.').all(is_lower_snake) {
            self.add(base, format!("the package {package} is not lower_snake_case"));
        }
        let version = package.rsplit('.').next().and_then(|last| last.strip_prefix('v'));
        if !version.is_some_and(|digits| digits.parse::<u32>().is_ok_and(|number| number > 0)) {
            self.add(base, format!("the package {package} has no version such as v1"));
        }
        if !base.strip_suffix(".proto").is_some_and(is_lower_snake) {
            self.add(base, "is not lower_snake_case");
        }
        if file.syntax() != "proto3" {
            self.add(base, "does not say syntax = \"proto3\"");
        }
    }

    fn imports(&mut self) {
        let file = self.file;
        if !file.public_dependency.is_empty() || !file.weak_dependency.is_empty() {
            self.add(file.name(), "imports publicly or weakly");
        }
        let used = type_names(file);
        for import in &file.dependency {
            let stem = import.rsplit('/').next().unwrap_or(import).trim_end_matches(".proto");
            // A well-known type is named as its file; an own import must be of a package that some type name has.
            let is_used = if import.starts_with("google/") {
                used.iter().any(|name| {
                    name.eq_ignore_ascii_case(&format!(".google.protobuf.{}", stem.replace('_', "")))
                })
            } else {
                used.iter().any(|name| !is_own(file, name) && !name.starts_with(".google."))
            };
            if !is_used {
                self.add(file.name(), format!("imports {import} without using it"));
            }
        }
    }

    fn message(&mut self, message: &DescriptorProto, name: &str, at: &[i32]) {
        // The entry types that maps compile to are not written by anybody.
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let element = format!("message {name}");
        if !is_pascal(message.name()) {
            self.add(&element, "is not PascalCase");
        }
        self.named_comment(&element, message.name(), at);
        for (index, field) in (0..).zip(&message.field) {
            self.field(field, name, &below(at, path::MESSAGE_FIELD, index));
        }
        for (index, oneof) in (0..).zip(&message.oneof_decl) {
            // An `optional` field is alone in a oneof that the compiler made.
            let is_made =
                message.field.iter().any(|field| field.proto3_optional() && field.oneof_index == Some(index));
            if is_made {
                continue;
            }
            let element = format!("oneof {name}.{}", oneof.name());
            if !is_lower_snake(oneof.name()) {
                self.add(&element, "is not lower_snake_case");
            }
            self.comment(&element, &below(at, path::MESSAGE_ONEOF, index));
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            let name = format!("{name}.{}", nested.name());
            self.message(nested, &name, &below(at, path::MESSAGE_NESTED, index));
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            let name = format!("{name}.{}", nested.name());
            self.enumeration(nested, &name, &below(at, path::MESSAGE_ENUM, index));
        }
    }

    fn field(&mut self, field: &FieldDescriptorProto, message: &str, at: &[i32]) {
        let element = format!("{message}.{}", field.name());
        if !is_lower_snake(field.name()) {
            self.add(&element, "is not lower_snake_case");
        }
        self.comment(&element, at);
        let is_time = field.type_name() == ".google.protobuf.Timestamp";
        if field.name().ends_with("_time") && !is_time {
            self.add(&element, "is named as a time but is no Timestamp");
        }
        if is_time && !field.name().ends_with("_time") && !TIME_NAMES.contains(&field.name()) {
            self.add(&element, "is a Timestamp and must be named *_time");
        }
        if field.type_name() == ".google.protobuf.FieldMask" {
            self.add(&element, "is a FieldMask, whose JSON clients disagree about");
        }
    }

    fn enumeration(&mut self, one: &EnumDescriptorProto, name: &str, at: &[i32]) {
        let element = format!("enum {name}");
        if !is_pascal(one.name()) {
            self.add(&element, "is not PascalCase");
        }
        self.named_comment(&element, one.name(), at);
        if one.options.as_ref().is_some_and(|options| options.allow_alias()) {
            self.add(&element, "allows aliases");
        }
        let prefix = format!("{}_", upper_snake(one.name()));
        for (index, value) in (0..).zip(&one.value) {
            let is_zero_name = value.name() == format!("{prefix}UNSPECIFIED");
            if (index == 0) != is_zero_name || (value.number() == 0) != (index == 0) {
                self.add(value.name(), format!("the zero value must be {prefix}UNSPECIFIED, first and only"));
            }
            if !value.name().starts_with(&prefix) {
                self.add(value.name(), format!("must begin with {prefix}"));
            }
            if !is_upper_snake(value.name()) {
                self.add(value.name(), "is not UPPER_SNAKE_CASE");
            }
            self.comment(value.name(), &below(at, path::ENUM_VALUE, index));
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto, at: &[i32]) {
        let element = format!("service {}", service.name());
        if !is_pascal(service.name()) {
            self.add(&element, "is not PascalCase");
        }
        if !service.name().ends_with("Service") {
            self.add(&element, "must end in Service");
        }
        self.named_comment(&element, service.name(), at);
        for (index, method) in (0..).zip(&service.method) {
            let element = format!("rpc {}.{}", service.name(), method.name());
            if !is_pascal(method.name()) {
                self.add(&element, "is not PascalCase");
            }
            self.named_comment(&element, method.name(), &below(at, path::SERVICE_METHOD, index));
            let package = self.file.package();
            let own = |name: &str| format!(".{package}.{}{name}", method.name());
            if method.input_type() != own("Request") {
                let got = last(method.input_type());
                self.add(&element, format!("asks with {got}, must be {}Request", method.name()));
            }
            if method.output_type() != own("Response") {
                let got = last(method.output_type());
                self.add(&element, format!("answers with {got}, must be {}Response", method.name()));
            }
        }
    }

    fn comment(&mut self, element: &str, at: &[i32]) -> Option<&'a str> {
        let Some(comment) = self.comments.get(at).map(|comment| comment.trim()) else {
            self.add(element, "has no comment");
            return None;
        };
        if !comment.ends_with('.') {
            self.add(element, "the comment does not end with a period");
        }
        Some(comment)
    }

    /// The comment of an element that is described apart from its surroundings says its name first.
    fn named_comment(&mut self, element: &str, name: &str, at: &[i32]) {
        let Some(comment) = self.comment(element, at) else { return };
        if !comment.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')) {
            self.add(element, "the comment must begin with its name");
        }
    }
}

/// A request or response that two calls share cannot grow for one of them.
fn shared_messages(files: &[&FileDescriptorProto]) -> Vec<String> {
    let methods = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for method in methods {
        for name in [method.input_type(), method.output_type()] {
            if !seen.insert(name) {
                findings.push(format!("message {}: is used by more than one rpc", last(name)));
            }
        }
    }
    findings
}

fn type_names(file: &FileDescriptorProto) -> Vec<&str> {
    fn of_message<'a>(message: &'a DescriptorProto, names: &mut Vec<&'a str>) {
        names.extend(message.field.iter().filter_map(|field| field.type_name.as_deref()));
        for nested in &message.nested_type {
            of_message(nested, names);
        }
    }
    let mut names = Vec::new();
    for message in &file.message_type {
        of_message(message, &mut names);
    }
    for method in file.service.iter().flat_map(|service| &service.method) {
        names.extend([method.input_type(), method.output_type()]);
    }
    names
}

fn is_own(file: &FileDescriptorProto, type_name: &str) -> bool {
    let own = |name: &str| type_name == format!(".{}.{name}", file.package());
    file.message_type.iter().any(|message| own(message.name()))
        || file.enum_type.iter().any(|one| own(one.name()))
}

fn below(at: &[i32], field: i32, index: i32) -> Vec<i32> {
    let mut path = at.to_vec();
    path.extend([field, index]);
    path
}

fn last(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}

fn is_lower_snake(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.ends_with('_')
        && !name.contains("__")
}

fn is_upper_snake(name: &str) -> bool {
    is_lower_snake(&name.to_ascii_lowercase()) && !name.contains(|letter: char| letter.is_ascii_lowercase())
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn upper_snake(pascal: &str) -> String {
    let mut snake = String::new();
    for letter in pascal.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}
