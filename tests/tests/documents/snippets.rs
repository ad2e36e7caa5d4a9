//! The code in a document: blocks, and code within sentences.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::shell::{self, Words};

/// Code in a document.
#[derive(Debug)]
pub(crate) enum Code {
    /// A block with its language.
    Block(String, String),
    /// Code in a sentence.
    Span(String),
}

/// A command, and its place.
#[derive(Debug)]
pub(crate) struct Snippet {
    pub(crate) line: usize,
    pub(crate) words: Words,
    /// Whether it is in a sentence, which can mention a command without all of its arguments.
    pub(crate) is_mention: bool,
}

/// All code of a document with the numbers of the first lines.
pub(crate) fn code(document: &str) -> Vec<(usize, Code)> {
    let line_of = |range: &Range<usize>| document[..range.start].matches('\n').count() + 1;
    let mut found = Vec::new();
    let mut block: Option<(usize, String, String)> = None;
    for (event, range) in Parser::new_ext(document, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                block = Some((line_of(&range), language, String::new()));
            }
            Event::Text(text) => {
                if let Some((_, _, content)) = &mut block {
                    content.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) => {
                let ended = block.take().map(|(line, language, text)| (line, Code::Block(language, text)));
                found.extend(ended);
            }
            Event::Code(text) => found.push((line_of(&range), Code::Span(text.into_string()))),
            _ => {}
        }
    }
    found
}

/// All commands of a document: in blocks of `sh` every line, in others those after `$ `, and in a sentence code that
/// begins with a program's name and continues.
pub(crate) fn commands(document: &str) -> Vec<Snippet> {
    let mut snippets = Vec::new();
    for (line, code) in code(document) {
        let (commands, is_mention) = match &code {
            Code::Block(language, text) if language == "sh" => (shell::commands(text), false),
            Code::Block(_, text) => (prompted(text), false),
            Code::Span(text) => {
                (alternatives(text).iter().flat_map(|text| shell::commands(text)).collect(), true)
            }
        };
        snippets.extend(commands.into_iter().map(|words| Snippet {
            line,
            words: unwrapped(words),
            is_mention,
        }));
    }
    snippets
}

/// The commands after `$ `.
fn prompted(text: &str) -> Vec<Words> {
    let starts = text.match_indices("$ ").map(|(start, _)| start);
    let lines = starts.filter(|&start| start == 0 || text[..start].ends_with('\n'));
    lines.flat_map(|start| shell::first_line(&text[start + 2..])).collect()
}

/// `orbit snapshot ls|show` stands for two commands.
fn alternatives(text: &str) -> Vec<String> {
    let of_which = text.split(' ').find(|word| word.trim_matches('|').contains('|'));
    match of_which {
        Some(word) => word.split('|').map(|one| text.replacen(word, one, 1)).collect(),
        None => vec![text.to_owned()],
    }
}

/// A command without its wrapper: `sudo`, a container, a loop.
fn unwrapped(words: Words) -> Words {
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    let rest: &[&str] = match texts.as_slice() {
        ["sudo" | "do" | "then" | "exec", rest @ ..] => rest,
        ["docker", "compose", "exec", _, rest @ ..] | ["docker-compose", "exec", _, rest @ ..] => rest,
        ["cargo", "run", "--release", "-p", "orbit-cli", "--", rest @ ..] => {
            let orbit = std::iter::once("orbit").chain(rest.iter().copied());
            return orbit.map(str::to_owned).collect();
        }
        [assignment, rest @ ..] if is_assignment(assignment) => rest,
        _ => return words,
    };
    unwrapped(rest.iter().map(|&word| word.to_owned()).collect())
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

#[test]
fn commands_are_found_wherever_they_stand() {
    let document = "Say `orbit job ls|show` or `no command`.\n\n```sh\nsudo A=b orbit x # y\n```\n\n```console\n\
                    $ orbit 'a\nb'\nsaid $ not this\n```\n\n```json\norbit no\n```\n\n| `orbit t` |\n";
    let found: Vec<String> = commands(document)
        .into_iter()
        .filter(|snippet| snippet.words[0] == "orbit")
        .map(|snippet| format!("{} {} {}", snippet.line, snippet.words.join(" "), snippet.is_mention))
        .collect();
    let expected = [
        "1 orbit job ls true",
        "1 orbit job show true",
        "3 orbit x false",
        "7 orbit a\nb false",
        "17 orbit t true",
    ];
    assert_eq!(found, expected);
}
