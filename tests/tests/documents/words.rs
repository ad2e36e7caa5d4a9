//! Checks that sources and documents are written in plain technical English: words that were replaced do not come back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::structure::members;
use super::{documents, root};

/// Words that are not used, each with what to write instead.
const WORDS: [(&str, &str); 6] = [
    ("anew", "\"again\", or \"new\" with a noun"),
    ("whoever", "\"the caller\", \"the client\", or another noun"),
    ("lest", "\"so that ... not\""),
    ("hence", "\"so\", or \"from now on\""),
    ("thereof", "\"of it\", or a noun"),
    ("hereby", "nothing: leave it out"),
];

/// The Rust and protobuf sources of the workspace, except this one, which has to contain the words.
fn sources() -> BTreeSet<PathBuf> {
    let mut directories: BTreeSet<PathBuf> = members().iter().map(|name| root().join(name)).collect();
    let mut sources = BTreeSet::new();
    while let Some(directory) = directories.pop_first() {
        for entry in std::fs::read_dir(&directory).expect("the workspace can be read") {
            let path = entry.expect("the workspace can be read").path();
            let is_source =
                path.extension().is_some_and(|extension| extension == "rs" || extension == "proto");
            if path.is_dir() {
                directories.insert(path);
            } else if is_source && !path.ends_with("tests/tests/documents/words.rs") {
                sources.insert(path);
            }
        }
    }
    sources
}

/// The words of [`WORDS`] in a text, one message for each place. Parts of a name such as `is_anew` are words too.
fn found_in(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric()) {
            if let Some((word, instead)) = WORDS.iter().find(|(one, _)| word.eq_ignore_ascii_case(one)) {
                let place = format!("{}:{}", path.display(), index + 1);
                found.push(format!("{place}: replace {word:?}; write {instead}"));
            }
        }
    }
    found
}

#[test]
fn sources_and_documents_use_none_of_the_replaced_words() {
    let sources = sources();
    assert!(sources.len() > 400, "{} sources", sources.len());
    let mut found: Vec<String> = documents().iter().flat_map(|(path, text)| found_in(path, text)).collect();
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a source is text");
        found.extend(found_in(&path, &text));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_replaced_word_is_found_with_its_line_and_its_replacement() {
    let found = found_in(Path::new("a.rs"), "fine\n// Whoever asks\nlet is_done_anew = harvest;\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.rs:2: replace \"whoever\"; write \"the caller\""), "{found:?}");
    assert!(found[1].starts_with("a.rs:3: replace \"anew\"; write \"again\""), "{found:?}");
}
