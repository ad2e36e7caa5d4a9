//! Shells whose words need more than clap's own scripts do: a colon, as in `star-1:/data`, ends a word for bash and begins a
//! description for zsh.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use clap_complete::CompletionCandidate;
use clap_complete::engine::complete;
use clap_complete::env::EnvCompleter;

/// Which word is completed, counted from the program's name.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// Which key asked, as bash has it in `COMP_TYPE`.
const COMP_TYPE: &str = "_CLAP_COMPLETE_COMP_TYPE";
/// The characters that end a word for bash.
const WORD_BREAKS: &str = "_ORBIT_WORD_BREAKS";
/// The `COMP_TYPE` of a list that is only shown, and not inserted.
const LISTING: &str = "63";

const BASH_SCRIPT: &str = r#"_orbit() {
    local line=${COMP_LINE:0:COMP_POINT} blanks word i
    local -a words=()
    # What no blank separates is one word, also where COMP_WORDBREAKS divides it.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blanks=${line%%[![:blank:]]*}
        line=${line#"$blanks"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$line
        if ((i == 0)) || [[ -n $blanks ]]; then
            words+=("$word")
        else
            words[${#words[@]} - 1]+=$word
        fi
        line=${line#"$word"}
    done
    mapfile -t COMPREPLY < <(_CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE \
        _ORBIT_WORD_BREAKS=$COMP_WORDBREAKS VARIABLE=bash COMPLETER -- "${words[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:=] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o nosort -F _orbit PROGRAM"#;

const ZSH_SCRIPT: &str = r#"#compdef PROGRAM
_orbit() {
    local line value
    local -a values shown open open_shown
    for line in "${(@f)$(_CLAP_COMPLETE_INDEX=$((CURRENT - 1)) VARIABLE=zsh COMPLETER -- "${(@Q)words}" 2>/dev/null)}"; do
        value=${line%%$'\t'*}
        [[ -n $value ]] || continue
        if [[ $line == *$'\t'* ]]; then line="$value  -- ${line#*$'\t'}"; fi
        if [[ $value == *[/:=] ]]; then
            open+=("$value") open_shown+=("$line")
        else
            values+=("$value") shown+=("$line")
        fi
    done
    (( $#open )) && compadd -V places -l -d open_shown -S '' -- "${open[@]}"
    (( $#values )) && compadd -V values -l -d shown -- "${values[@]}"
}
if [[ $funcstack[1] == _orbit ]]; then _orbit "$@"; else compdef _orbit PROGRAM; fi"#;

type WriteAnswer = fn(&mut clap::Command, Vec<OsString>, Option<&Path>, &mut dyn Write) -> io::Result<()>;

/// A shell with a script of ours.
pub(super) struct Scripted {
    name: &'static str,
    script: &'static str,
    /// Writes what the word under the cursor may become.
    answer: WriteAnswer,
}

/// Bash 4 and later.
pub(super) const BASH: Scripted = Scripted { name: "bash", script: BASH_SCRIPT, answer: answer_bash };

/// Zsh.
pub(super) const ZSH: Scripted = Scripted { name: "zsh", script: ZSH_SCRIPT, answer: answer_zsh };

impl EnvCompleter for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is(&self, name: &str) -> bool {
        name == self.name
    }

    fn write_registration(
        &self,
        var: &str,
        _: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let script = self.script.replace("VARIABLE", var).replace("PROGRAM", bin);
        writeln!(buf, "{}", script.replace("COMPLETER", completer))
    }

    fn write_complete(
        &self,
        cmd: &mut clap::Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        (self.answer)(cmd, args, current_dir, buf)
    }
}

/// The words come as they were typed, with quotes and backslashes. Bash inserts an answer as it is, in place of the text after the last
/// word break.
fn answer_bash(
    command: &mut clap::Command,
    args: Vec<OsString>,
    current_dir: Option<&Path>,
    buf: &mut dyn Write,
) -> io::Result<()> {
    let words: Vec<Typed> = args.into_iter().map(|word| Typed::read(&word)).collect();
    let Some(current) = words.get(index()).cloned() else { return Ok(()) };
    let words = words.into_iter().map(|word| OsString::from_vec(word.text)).collect();
    let candidates = candidates(command, words, index(), current_dir)?;
    let breaks = std::env::var_os(WORD_BREAKS).unwrap_or_default();
    let kept = if current.quote.is_some() { 0 } else { kept_bytes(&current.text, breaks.as_bytes()) };
    let is_listing = std::env::var(COMP_TYPE).is_ok_and(|kind| kind == LISTING) && candidates.len() > 1;
    for candidate in candidates {
        let value = candidate.get_value().as_bytes();
        let rest = if value.starts_with(&current.text[..kept]) { &value[kept..] } else { value };
        buf.write_all(&quoted(rest, current.quote))?;
        if let Some(help) = help(&candidate).filter(|_| is_listing) {
            write!(buf, "  ({help})")?;
        }
        writeln!(buf)?;
    }
    Ok(())
}

/// The words come without quotes. An answer is a value, a tab, and a description.
fn answer_zsh(
    command: &mut clap::Command,
    mut args: Vec<OsString>,
    current_dir: Option<&Path>,
    buf: &mut dyn Write,
) -> io::Result<()> {
    if args.len() == index() {
        args.push(OsString::new());
    }
    for candidate in candidates(command, args, index(), current_dir)? {
        buf.write_all(candidate.get_value().as_bytes())?;
        if let Some(help) = help(&candidate) {
            write!(buf, "\t{help}")?;
        }
        writeln!(buf)?;
    }
    Ok(())
}

fn index() -> usize {
    std::env::var(INDEX).ok().and_then(|index| index.parse().ok()).unwrap_or_default()
}

/// What a word may become. Flags are not offered for a word that is empty where something else fits.
fn candidates(
    command: &mut clap::Command,
    words: Vec<OsString>,
    index: usize,
    current_dir: Option<&Path>,
) -> io::Result<Vec<CompletionCandidate>> {
    let is_empty = words.get(index).is_none_or(|word| word.is_empty());
    let mut candidates = complete(command, words, index, current_dir)?;
    let is_flag = |candidate: &CompletionCandidate| candidate.get_value().as_bytes().starts_with(b"-");
    if is_empty && candidates.iter().any(|candidate| !is_flag(candidate)) {
        candidates.retain(|candidate| !is_flag(candidate));
    }
    Ok(candidates)
}

fn help(candidate: &CompletionCandidate) -> Option<String> {
    let help = candidate.get_help()?.to_string();
    help.lines().next().map(str::to_owned)
}

/// A word as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Typed {
    /// What it means, without quotes and backslashes.
    text: Vec<u8>,
    /// The quote within which it ends.
    quote: Option<u8>,
}

impl Typed {
    fn read(word: &OsStr) -> Self {
        let (mut text, mut quote) = (Vec::new(), None);
        let mut bytes = word.as_bytes().iter().copied();
        while let Some(byte) = bytes.next() {
            match (quote, byte) {
                (None, b'\'' | b'"') => quote = Some(byte),
                (Some(open), byte) if byte == open => quote = None,
                (None | Some(b'"'), b'\\') => text.extend(bytes.next()),
                (_, byte) => text.push(byte),
            }
        }
        Self { text, quote }
    }
}

/// How much of a word bash leaves as it is: up to the last character that ends a word for it.
fn kept_bytes(text: &[u8], breaks: &[u8]) -> usize {
    let ends_word = |byte: &u8| matches!(byte, b':' | b'=') && breaks.contains(byte);
    text.iter().rposition(ends_word).map_or(0, |at| at + 1)
}

/// A text as it is typed within an open quote, or outside of quotes.
fn quoted(text: &[u8], quote: Option<u8>) -> Vec<u8> {
    let mut typed = Vec::with_capacity(text.len());
    for &byte in text {
        match quote {
            Some(b'\'') if byte == b'\'' => typed.extend(br"'\'"),
            Some(b'\'') => {}
            // A backslash would keep the history from it, and stay in the word.
            Some(_) if byte == b'!' => {
                typed.extend(br#""'!'""#);
                continue;
            }
            Some(_) if br#""\$`"#.contains(&byte) => typed.push(b'\\'),
            Some(_) => {}
            None if is_plain(byte) => {}
            None => typed.push(b'\\'),
        }
        typed.push(byte);
    }
    typed
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"%+,-./:=@_^".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(word: &str) -> (String, Option<u8>) {
        let typed = Typed::read(OsStr::new(word));
        (String::from_utf8(typed.text).unwrap(), typed.quote)
    }

    #[test]
    fn a_word_means_what_it_means_to_bash() {
        assert_eq!(typed(r"a\ b"), ("a b".into(), None));
        assert_eq!(typed(r#""a b\"c"#), ("a b\"c".into(), Some(b'"')));
        assert_eq!(typed(r"'a\b'c"), (r"a\bc".into(), None));
    }

    #[test]
    fn what_is_offered_means_itself_to_bash() {
        let text = br#"/tmp/a b'"$(touch /tmp/never)`id`\!*;&|<>#~[x]{y}?"#;
        assert_eq!(quoted(b"/tmp/a b'$", None), br"/tmp/a\ b\'\$");
        for quote in [None, Some(b'"'), Some(b'\'')] {
            let around = quote.map(|quote| vec![quote]).unwrap_or_default();
            let word = [around.clone(), quoted(text, quote), around].concat();
            let script = [b"printf %s ".to_vec(), word].concat();
            let output = std::process::Command::new("bash")
                .arg("-c")
                .arg(OsStr::from_bytes(&script))
                .output()
                .unwrap();
            assert_eq!(output.stdout, text, "within {quote:?}: {}", String::from_utf8_lossy(&script));
        }
    }

    #[test]
    fn bash_keeps_what_is_before_the_last_word_break() {
        assert_eq!(kept_bytes(b"star-1:/da", b" \t\n:="), 7);
        assert_eq!(kept_bytes(b"--star=st", b" \t\n:="), 7);
        assert_eq!(kept_bytes(b"star-1:/da", b" \t\n"), 0);
    }
}
