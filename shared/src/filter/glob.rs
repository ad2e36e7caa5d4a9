//! One glob: parsed from text, matched against the bytes of a path. Every byte of it counts.
//!
//! The grammar is that of a line of a `.gitignore`, except that nothing is trimmed and `#` is a normal character. A
//! leading `!` cancels the match of an earlier glob. A leading `/`, or one in the middle, anchors the glob at the base.
//! A trailing `/` matches directories only. `*` and `?` match within a name; `**` as a whole component matches any
//! number of directories. `[a-z]`, `[!a-z]` and `[[:alpha:]]` match one character, `{a,b}` either alternative, and a
//! backslash escapes the next character. `\xNN`, with two hexadecimal digits, is the byte NN, as in paths that are not
//! UTF-8.

use std::ops::RangeInclusive;

/// Maximum number of alternatives that the braces of one glob can make.
const ALTERNATIVES_MAX: usize = 256;

/// One glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    /// Whether it cancels the match of an earlier glob.
    pub(super) is_negated: bool,
    /// Whether it matches directories only.
    pub(super) is_directory_only: bool,
    /// One pattern for each combination of its braces.
    pub(super) patterns: Vec<Pattern>,
}

/// A glob without braces: a pattern for each name of a path, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) Vec<Component>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Component {
    /// Any number of directories, including none.
    AnyDepth,
    /// One name.
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    /// One character, or one byte if there is no valid character.
    One,
    /// Any number of bytes.
    Run,
    /// One character from a set.
    Class {
        is_negated: bool,
        ranges: Vec<RangeInclusive<char>>,
    },
}

impl Glob {
    /// Parses a glob.
    ///
    /// # Errors
    /// What is wrong with the glob, or why it could match nothing, as text that follows the glob.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("contains a NUL, which no name has".to_owned());
        }
        let (is_negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (is_directory_only, rest) = match rest.strip_suffix('/') {
            Some(before) if !ends_with_escape(before) => (true, before),
            Some(_) | None => (false, rest),
        };
        if rest.is_empty() {
            return Err("names nothing and would match nothing".to_owned());
        }
        let patterns = expand(rest)?.iter().map(|text| parse_pattern(text)).collect::<Result<_, _>>()?;
        Ok(Self { is_negated, is_directory_only, patterns })
    }
}

/// Whether a character after this text would be escaped.
fn ends_with_escape(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Expands braces to one text for each combination. Braces without a comma are normal characters.
fn expand(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        match first_braces(&text)? {
            None => done.push(text),
            Some((start, end, choices)) => {
                let (head, tail) = (&text[..start], &text[end..]);
                open.extend(choices.iter().rev().map(|choice| format!("{head}{choice}{tail}")));
            }
        }
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(format!("stands for more than {ALTERNATIVES_MAX} globs; give them one by one"));
        }
    }
    Ok(done)
}

/// The first braces with a comma: their start and end, and the parts between their commas.
fn first_braces(text: &str) -> Result<Option<(usize, usize, Vec<String>)>, String> {
    // For each open brace: its position, and those of its commas.
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut found: Option<(usize, usize, Vec<usize>)> = None;
    let mut class_start: Option<usize> = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
            continue;
        }
        if let Some(start) = class_start {
            // A bracket right after the opening one belongs to the class.
            let is_first =
                at == start + 1 || (at == start + 2 && matches!(text.as_bytes()[start + 1], b'!' | b'^'));
            if character == ']' && !is_first {
                class_start = None;
            }
            continue;
        }
        match character {
            '[' => class_start = Some(at),
            '{' => open.push((at, Vec::new())),
            ',' => {
                if let Some((_, commas)) = open.last_mut() {
                    commas.push(at);
                }
            }
            '}' => {
                if let Some((start, commas)) = open.pop()
                    && !commas.is_empty()
                    && found.as_ref().is_none_or(|(found, _, _)| start < *found)
                {
                    found = Some((start, at + 1, commas));
                }
            }
            _ => {}
        }
    }
    if !open.is_empty() {
        return Err("has a { without its }; write \\{ for the character".to_owned());
    }
    Ok(found.map(|(start, end, commas)| {
        let bounds = std::iter::once(start).chain(commas).chain(std::iter::once(end - 1)).collect::<Vec<_>>();
        let choices = bounds.windows(2).map(|pair| text[pair[0] + 1..pair[1]].to_owned()).collect();
        (start, end, choices)
    }))
}

fn parse_pattern(text: &str) -> Result<Pattern, String> {
    let is_anchored = text.contains('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut components = if is_anchored { Vec::new() } else { vec![Component::AnyDepth] };
    let parts: Vec<&str> = text.split('/').collect();
    for (index, part) in parts.iter().enumerate() {
        match *part {
            "" => return Err("has an empty name between two slashes and would match nothing".to_owned()),
            "." | ".." => {
                return Err(format!(
                    "has a {part:?} in it and would match nothing: name paths below the source as they are, for example /a/b"
                ));
            }
            "**" => {
                if index + 1 == parts.len() {
                    // What is below a directory, and not the directory itself.
                    components.push(Component::Name(vec![Token::Run]));
                }
                if components.last() != Some(&Component::AnyDepth) {
                    components.push(Component::AnyDepth);
                }
            }
            name => components.push(Component::Name(parse_name(name)?)),
        }
    }
    Ok(Pattern(components))
}

fn parse_name(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        match character {
            '*' => {
                if tokens.last() != Some(&Token::Run) {
                    tokens.push(Token::Run);
                }
                rest = after;
            }
            '?' => {
                tokens.push(Token::One);
                rest = after;
            }
            '[' => {
                let (class, behind) = parse_class(after)?;
                tokens.push(class);
                rest = behind;
            }
            '\\' => {
                if let Some((byte, behind)) = hexadecimal(after) {
                    if matches!(byte, 0 | b'/') {
                        return Err("names a byte that no name has".to_owned());
                    }
                    tokens.push(Token::Byte(byte));
                    rest = behind;
                    continue;
                }
                let escaped = after
                    .chars()
                    .next()
                    .ok_or_else(|| "ends with a backslash; write \\\\ for the character".to_owned())?;
                push_character(&mut tokens, escaped);
                rest = &after[escaped.len_utf8()..];
            }
            other => {
                push_character(&mut tokens, other);
                rest = after;
            }
        }
    }
    Ok(tokens)
}

fn push_character(tokens: &mut Vec<Token>, character: char) {
    tokens.extend(character.encode_utf8(&mut [0; 4]).bytes().map(Token::Byte));
}

/// The byte that `xNN` stands for, and the rest of the text.
fn hexadecimal(text: &str) -> Option<(u8, &str)> {
    let digits = text.strip_prefix('x')?.get(..2)?;
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)?;
    Some((byte, &text[3..]))
}

/// A class after its opening bracket, and the rest of the text.
fn parse_class(text: &str) -> Result<(Token, &str), String> {
    let unclosed = || "has a [ without its ]; write \\[ for the character".to_owned();
    let (is_negated, mut rest) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    let mut is_first = true;
    loop {
        if let Some(behind) = rest.strip_prefix(']').filter(|_| !is_first) {
            return Ok((Token::Class { is_negated, ranges }, behind));
        }
        is_first = false;
        if let Some(named) = rest.strip_prefix("[:") {
            let (name, behind) = named.split_once(":]").ok_or_else(unclosed)?;
            ranges.extend(named_class(name)?);
            rest = behind;
            continue;
        }
        let (first, behind) = class_character(rest).ok_or_else(unclosed)?;
        rest = behind;
        let range = rest.strip_prefix('-').filter(|behind| !behind.starts_with(']'));
        let last = match range {
            Some(behind) => {
                let (last, behind) = class_character(behind).ok_or_else(unclosed)?;
                rest = behind;
                last
            }
            None => first,
        };
        if last < first {
            return Err(format!("has the range {first}-{last}, which is empty and would match nothing"));
        }
        ranges.push(first..=last);
    }
}

fn class_character(text: &str) -> Option<(char, &str)> {
    let text = text.strip_prefix('\\').unwrap_or(text);
    let character = text.chars().next()?;
    Some((character, &text[character.len_utf8()..]))
}

fn named_class(name: &str) -> Result<Vec<RangeInclusive<char>>, String> {
    Ok(match name {
        "alpha" => vec!['a'..='z', 'A'..='Z'],
        "digit" => vec!['0'..='9'],
        "alnum" => vec!['a'..='z', 'A'..='Z', '0'..='9'],
        "upper" => vec!['A'..='Z'],
        "lower" => vec!['a'..='z'],
        "xdigit" => vec!['a'..='f', 'A'..='F', '0'..='9'],
        "blank" => vec![' '..=' ', '\t'..='\t'],
        "space" => vec![' '..=' ', '\t'..='\r'],
        "cntrl" => vec!['\0'..='\x1f', '\x7f'..='\x7f'],
        "print" => vec![' '..='~'],
        "graph" => vec!['!'..='~'],
        "punct" => vec!['!'..='/', ':'..='@', '['..='`', '{'..='~'],
        _ => return Err(format!("has an unknown class [:{name}:]")),
    })
}

impl Pattern {
    /// Whether it matches a path.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        wildcard(
            self.0.len(),
            names.len(),
            |at| self.0[at] == Component::AnyDepth,
            |at, name| match &self.0[at] {
                Component::AnyDepth => None,
                Component::Name(tokens) => matches_name(tokens, names[name]).then_some(1),
            },
        )
    }

    /// Whether something below a directory could match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let mut components = self.0.iter();
        for name in directory.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match components.next() {
                Some(Component::AnyDepth) => return true,
                Some(Component::Name(tokens)) if matches_name(tokens, name) => {}
                Some(Component::Name(_)) | None => return false,
            }
        }
        components.next().is_some()
    }

    /// The one path that it matches, if it is anchored and has no wildcards.
    pub(super) fn exact_path(&self) -> Option<Vec<u8>> {
        let names: Option<Vec<Vec<u8>>> = self.0.iter().map(Component::literal).collect();
        names.map(|names| names.join(&b'/'))
    }

    /// The one name that it matches at any depth, if it is such a pattern.
    pub(super) fn exact_name(&self) -> Option<Vec<u8>> {
        match self.0.as_slice() {
            [Component::AnyDepth, name] => name.literal(),
            _ => None,
        }
    }
}

impl Component {
    fn literal(&self) -> Option<Vec<u8>> {
        let Self::Name(tokens) = self else { return None };
        let bytes = tokens.iter().map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Run | Token::Class { .. } => None,
        });
        bytes.collect()
    }
}

fn matches_name(tokens: &[Token], name: &[u8]) -> bool {
    wildcard(
        tokens.len(),
        name.len(),
        |at| tokens[at] == Token::Run,
        |at, byte| match &tokens[at] {
            Token::Byte(wanted) => (*wanted == name[byte]).then_some(1),
            Token::One => Some(character(&name[byte..]).map_or(1, char::len_utf8)),
            Token::Class { is_negated, ranges } => {
                let found = character(&name[byte..]);
                let is_in = found.is_some_and(|found| ranges.iter().any(|range| range.contains(&found)));
                (is_in != *is_negated).then_some(found.map_or(1, char::len_utf8))
            }
            Token::Run => None,
        },
    )
}

/// The first character of a name, if its bytes are one.
fn character(name: &[u8]) -> Option<char> {
    name.utf8_chunks().next()?.valid().chars().next()
}

/// Whether a sequence of elements, some of which match runs of any length, matches a text: two pointers, with
/// backtracking to the last run only, so that the time is at most the product of both lengths.
fn wildcard(
    pattern_length: usize,
    text_length: usize,
    is_run: impl Fn(usize) -> bool,
    step: impl Fn(usize, usize) -> Option<usize>,
) -> bool {
    let (mut at, mut text) = (0, 0);
    // The position after the last run, and where in the text its match is tried.
    let mut back: Option<(usize, usize)> = None;
    loop {
        if at < pattern_length && is_run(at) {
            at += 1;
            back = Some((at, text));
            continue;
        }
        if text == text_length && at == pattern_length {
            return true;
        }
        if at < pattern_length
            && text < text_length
            && let Some(length) = step(at, text)
        {
            at += 1;
            text += length;
            continue;
        }
        match back {
            Some((behind, tried)) if tried < text_length => {
                at = behind;
                text = tried + 1;
                back = Some((behind, text));
            }
            Some(_) | None => return false,
        }
    }
}
