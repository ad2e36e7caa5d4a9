//! Every command of our programs in the documents is valid: it is parsed by their own command lines.
//!
//! Placeholders: a word of `PLACEHOLDERS` stands for the value beside it, any other word in capitals for itself,
//! brackets mark an optional word, and `...` stands for anything. A sentence can mention a command without the
//! arguments that it needs; what it does name must exist.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use orbit_coordinator::config::CoordinatorFlags;
use orbit_coordinator::token_tool::TokenFlags;
use orbit_program::settings::{SettingsError, parse_with_environment};
use orbit_star::StarFlags;
use orbit_star::vault_tool::VaultFlags;

use super::documents;
use super::snippets::{self, Snippet};

/// Placeholders in documents for values of a certain form.
const PLACEHOLDERS: [(&str, &str); 9] = [
    ("ID", "1"),
    ("ITEM", "1/0/42"),
    ("JOB", "1"),
    ("N", "1"),
    ("ROLE", "viewer"),
    ("SIZE", "1GiB"),
    ("SHELL", "bash"),
    ("URL", "http://127.0.0.1:7100"),
    ("WHEN", "auto"),
];
/// Minimum number of commands in the documents. Fewer mean that they are not found any more.
const COMMANDS_MIN: usize = 100;

/// A command with values instead of placeholders.
fn filled_in(words: &[String]) -> Vec<String> {
    let words = words.iter().filter(|word| *word != "...").map(|word| {
        let word = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
        let value = PLACEHOLDERS.iter().find(|(name, _)| *name == word);
        value.map_or(word, |(_, value)| value).to_owned()
    });
    words.collect()
}

/// The problem of a command; `None` if it is valid or not one of ours.
fn problem(snippet: &Snippet) -> Option<String> {
    let (program, arguments) = snippet.words.split_first()?;
    // A name alone is a name.
    if snippet.is_mention && arguments.is_empty() {
        return None;
    }
    let is_short = snippet.is_mention || snippet.words.iter().any(|word| word == "...");
    let words = filled_in(&snippet.words);
    let layered = |command: clap::Command| {
        let args = words.iter().map(OsString::from);
        match parse_with_environment(command, args, |_| None, file) {
            Ok(_) => None,
            Err(SettingsError::Usage(error)) => {
                refusal(&error, is_short || words.contains(&"--config".to_owned()))
            }
            Err(other) => Some(other.to_string()),
        }
    };
    match program.as_str() {
        "orbit" => layered(orbit_cli::command_line()),
        "orbit-coordinator" if arguments.first().is_some_and(|first| first == "token") => {
            TokenFlags::try_parse_from(&words[1..]).err().and_then(|error| refusal(&error, is_short))
        }
        "orbit-coordinator" => layered(CoordinatorFlags::command()),
        "orbit-star" if arguments.first().is_some_and(|first| first == "vault") => {
            VaultFlags::try_parse_from(&words[1..]).err().and_then(|error| refusal(&error, is_short))
        }
        "orbit-star" => layered(StarFlags::command()),
        _ => None,
    }
}

/// Files that commands name are those of the package, or empty.
fn file(path: &Path) -> std::io::Result<String> {
    let name = path.strip_prefix("/etc/orbit").ok();
    name.map_or(Ok(String::new()), |name| {
        std::fs::read_to_string(super::root().join("packaging/etc").join(name))
    })
}

fn refusal(error: &clap::Error, is_short: bool) -> Option<String> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if is_short =>
        {
            None
        }
        _ => Some(error.to_string()),
    }
}

#[test]
fn every_command_in_the_documents_is_one_that_the_programs_understand() {
    let mut problems = Vec::new();
    let mut count = 0;
    for (document, text) in documents() {
        for snippet in snippets::commands(&text) {
            count += usize::from(snippet.words.first().is_some_and(|word| word.starts_with("orbit")));
            if let Some(problem) = problem(&snippet) {
                let command = snippet.words.join(" ");
                problems.push(format!("{}:{}: {command}\n{problem}", document.display(), snippet.line));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= COMMANDS_MIN, "only {count} commands were found");
}

#[test]
fn what_does_not_exist_is_found_also_in_a_sentence() {
    let said =
        |document: &str| -> Vec<String> { snippets::commands(document).iter().filter_map(problem).collect() };
    for wrong in [
        "`orbit job make`",
        "`orbit job show --quick N`",
        "`orbit job show seven`",
        "`orbit-star vault rebuild DIR`",
        "`orbit-coordinator --data`",
        "```sh\norbit job show\n```",
        "```sh\norbit-star --star-id x\n```",
    ] {
        assert_eq!(said(wrong).len(), 1, "{wrong}");
    }
    for right in [
        "`orbit job create`",
        "`orbit job create ... --wait`",
        "`orbit job explain ITEM`",
        "`orbit`",
        "`orbit-star vault rebuild --vault DIR`",
        "```sh\norbit job show N\norbit-coordinator --config /etc/orbit/coordinator.toml\n```",
    ] {
        assert_eq!(said(right), [""; 0], "{right}");
    }
}
