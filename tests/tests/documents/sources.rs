//! Checks the texts of the programs: none contains code that a replacement across files left there.

use std::path::Path;

use super::structure::sources;

/// The string literals of a source, without those in comments.
fn texts(source: &str) -> Vec<&str> {
    let (mut texts, mut rest) = (Vec::new(), source);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        let from = &rest[at..];
        if from.starts_with("//") {
            rest = from.find('\n').map_or("", |end| &from[end..]);
        } else if let Some(text) = from.strip_prefix('"') {
            let hashes = rest[..at].bytes().rev().take_while(|byte| *byte == b'#').count();
            let is_raw = rest[..at - hashes].ends_with('r');
            let end = if is_raw { raw_end(text, hashes) } else { end(text) };
            texts.push(&text[..end]);
            rest = text.get(end + 1..).unwrap_or_default();
        } else {
            // A character, which may be a quote; or a lifetime.
            let length = ["'\\\"'", "'\"'", "'\\''"].into_iter().find(|quote| from.starts_with(quote));
            rest = &from[length.map_or(1, str::len)..];
        }
    }
    texts
}

/// The end of a string literal with escapes.
fn end(text: &str) -> usize {
    let mut is_escaped = false;
    let quote = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    quote.unwrap_or(text.len())
}

/// The end of a raw string literal.
fn raw_end(text: &str, hashes: usize) -> usize {
    text.find(&format!("\"{}", "#".repeat(hashes))).unwrap_or(text.len())
}

/// Whether a text contains `turn.` followed by a name, which is code. A sentence may end with "turn.".
fn has_code(text: &str) -> bool {
    text.match_indices("turn.").any(|(at, word)| {
        let is_word = !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let is_followed = text[at + word.len()..].starts_with(|next: char| next.is_ascii_lowercase());
        is_word && is_followed
    })
}

fn found_in(path: &Path) -> Vec<String> {
    let source = std::fs::read_to_string(path).expect("a source is text");
    let texts = texts(&source).into_iter().filter(|text| has_code(text));
    texts.map(|text| format!("{}: {text:?}", path.display())).collect()
}

#[test]
fn no_text_has_a_piece_of_code_in_it() {
    let sources = sources();
    assert!(sources.len() > 100, "{} sources", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|path| found_in(path)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn code_in_texts_is_found_and_code_beside_them_is_not() {
    let source = r##"
        // "turn.now in a comment"
        let (quote, now) = ('"', turn.now);
        say("wait for turn.now", "it waits for its turn.", r#"a "raw" turn.actor"#, "return.code", "an \" and turn.notes");
    "##;
    let found: Vec<&str> = texts(source).into_iter().filter(|text| has_code(text)).collect();
    assert_eq!(found, ["wait for turn.now", r#"a "raw" turn.actor"#, r#"an \" and turn.notes"#]);
    assert_eq!(texts(source).len(), 5);
}
