//! The semantic registry: the priority of a file, by its name and its first bytes.
//!
//! Rules are tried in order, and the first that matches decides. An operator's rules come before the built-in ones, in
//! the given order, so they overrule these. A file that no rule matches is [`Priority::Normal`].
//!
//! The registry neither opens files nor knows their sizes: the caller passes the path relative to the job's root and,
//! if [`SemanticRegistry::header_bytes`] asks for them, the first bytes. Only an operator's rules ask: for the built-in
//! ones alone, a scan that reads the head of every file would be as slow as a copy of small files.

mod built_in;
mod describe;
#[cfg(test)]
mod tests;

use std::fmt;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

pub use self::describe::SEMANTIC_LINES_MAX;

/// Number of the first bytes of a file that [`SemanticRegistry::classify`] uses. Further bytes are ignored.
pub const SEMANTIC_HEADER_BYTES: usize = 512;

/// Maximum number of rules in an operator's configuration, since every rule costs time for every scanned file.
pub const SEMANTIC_RULE_COUNT_MAX: usize = 256;

/// The priority of an item. The number is its rank: lower ranks are moved first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Priority {
    /// Configuration, keys and certificates: small, and useless if they arrive late.
    Critical = 0,
    /// Write-ahead logs and executables.
    High = 10,
    /// Files that no rule matches.
    #[default]
    Normal = 50,
    /// Media and archives: large, and seldom urgent.
    Low = 100,
}

impl Priority {
    /// Every priority, most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The rank; lower ranks are moved first.
    pub const fn rank(self) -> u8 {
        self as u8
    }

    /// The priority with this rank, if there is one.
    pub fn from_rank(rank: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.rank() == rank)
    }

    /// The name used in configuration and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The kind of content that a file's first bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentKind {
    /// A program or shared library: ELF, Mach-O, PE or WebAssembly.
    Executable,
    /// A compressed or bundled file: zip, tar, gzip, xz, zstd, packages.
    Archive,
    /// Sound.
    Audio,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// An office document, PDF or electronic book.
    Document,
}

impl ContentKind {
    /// The name used in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Archive => "archive",
            Self::Audio => "audio",
            Self::Image => "image",
            Self::Video => "video",
            Self::Document => "document",
        }
    }

    /// Recognises a header; `None` for an unknown one. A header shorter than the format's signature is not recognised.
    pub fn of(header: &[u8]) -> Option<Self> {
        if header.starts_with(b"\x7fELF") {
            return Some(Self::Executable);
        }
        let found = infer::get(header)?;
        match found.matcher_type() {
            infer::MatcherType::App => match found.extension() {
                "elf" | "exe" | "dll" | "mach" | "wasm" => Some(Self::Executable),
                // The others include signatures of two bytes, which plain text can match by chance.
                _ => None,
            },
            infer::MatcherType::Archive => match found.extension() {
                "pdf" | "rtf" | "ps" => Some(Self::Document),
                // The library counts these as archives; they are databases, fonts and firmware.
                "sqlite" | "eot" | "nes" | "dcm" | "msi" | "swf" => None,
                _ => Some(Self::Archive),
            },
            infer::MatcherType::Audio => Some(Self::Audio),
            infer::MatcherType::Image => Some(Self::Image),
            infer::MatcherType::Video => Some(Self::Video),
            infer::MatcherType::Book | infer::MatcherType::Doc => Some(Self::Document),
            infer::MatcherType::Font | infer::MatcherType::Text | infer::MatcherType::Custom => None,
        }
    }
}

/// Bytes expected at a fixed offset of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magic {
    /// The expected bytes as hexadecimal digits, for example `7f454c46`.
    pub hex: String,
    /// The offset.
    #[serde(default)]
    pub offset: usize,
}

/// One rule: all of its conditions must hold, and at least one must be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemanticRule {
    /// Any of these matches the path. A glob without `/` is matched against the last component, at any depth. One with
    /// `/` is matched against the whole path below the job's root, where `*` matches within one component, and `**`
    /// across components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub globs: Vec<String>,
    /// The header has these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magic: Option<Magic>,
    /// The header is of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ContentKind>,
    /// The priority of matching files.
    pub priority: Priority,
}

impl SemanticRule {
    /// A rule about names only.
    pub fn for_globs<S: Into<String>>(globs: impl IntoIterator<Item = S>, priority: Priority) -> Self {
        Self { globs: globs.into_iter().map(Into::into).collect(), magic: None, kind: None, priority }
    }

    /// A rule about bytes at a fixed offset.
    pub fn for_magic(bytes: &[u8], offset: usize, priority: Priority) -> Self {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { globs: Vec::new(), magic: Some(Magic { hex, offset }), kind: None, priority }
    }

    /// A rule about recognised content.
    pub fn for_kind(kind: ContentKind, priority: Priority) -> Self {
        Self { globs: Vec::new(), magic: None, kind: Some(kind), priority }
    }
}

/// Why an operator's rules were refused. `rule` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SemanticRuleError {
    /// There are more than [`SEMANTIC_RULE_COUNT_MAX`] rules.
    #[error("{count} semantic rules were given, at most {SEMANTIC_RULE_COUNT_MAX} are allowed")]
    TooMany {
        /// Their number.
        count: usize,
    },
    /// A rule without conditions would match every file.
    #[error("semantic rule {rule} has no condition; give globs, magic or kind")]
    Empty {
        /// Which rule.
        rule: usize,
    },
    /// A glob that cannot be compiled.
    #[error("semantic rule {rule}: {glob:?} is not a glob: {reason}")]
    Glob {
        /// Which rule.
        rule: usize,
        /// Its glob.
        glob: String,
        /// The problem.
        reason: String,
    },
    /// Magic bytes that are not hexadecimal digits, are empty, or are beyond the header.
    #[error(
        "semantic rule {rule}: magic {hex:?} at {offset} is not one or more bytes in hexadecimal within the first {SEMANTIC_HEADER_BYTES}"
    )]
    Magic {
        /// Which rule.
        rule: usize,
        /// Its digits.
        hex: String,
        /// Its offset.
        offset: usize,
    },
}

/// The ordered rules, compiled: the operator's first, then the built-in ones.
#[derive(Debug, Clone)]
pub struct SemanticRegistry {
    operator: RuleSet,
    built_in: RuleSet,
}

impl SemanticRegistry {
    /// The built-in rules only.
    pub fn built_in() -> Self {
        Self::new(&[]).expect("no operator rules are always valid")
    }

    /// An operator's rules, which have precedence over the built-in ones; among them the first that matches decides.
    ///
    /// # Errors
    ///
    /// The first rule that cannot be compiled, or too many rules.
    pub fn new(operator_rules: &[SemanticRule]) -> Result<Self, SemanticRuleError> {
        if operator_rules.len() > SEMANTIC_RULE_COUNT_MAX {
            return Err(SemanticRuleError::TooMany { count: operator_rules.len() });
        }
        let built_in = RuleSet::compile(&built_in::rules()).expect("the built-in rules compile");
        Ok(Self { operator: RuleSet::compile(operator_rules)?, built_in })
    }

    /// Number of the first bytes of the file at `path` that an operator's rules ask for, so that they can decide; 0 if its
    /// name is enough. At most [`SEMANTIC_HEADER_BYTES`].
    pub fn header_bytes(&self, path: &[u8]) -> usize {
        self.operator.header_bytes(path)
    }

    /// The priority of the file at `path`, whose content starts with `header` if that is known.
    ///
    /// Paths are bytes: a name need not be UTF-8. Built-in rules ignore the case of ASCII letters, since cameras and
    /// Windows write `.JPG`. An operator's globs are case-sensitive.
    pub fn classify(&self, path: &[u8], header: Option<&[u8]>) -> Priority {
        let mut content = Content { header: header.unwrap_or_default(), kind: None };
        let by_operator = self.operator.first_match(path, &mut content);
        by_operator
            .or_else(|| self.built_in.first_match(&path.to_ascii_lowercase(), &mut content))
            .unwrap_or_default()
    }
}

/// A header, and its kind once that was determined.
struct Content<'a> {
    header: &'a [u8],
    kind: Option<Option<ContentKind>>,
}

impl Content<'_> {
    fn kind(&mut self) -> Option<ContentKind> {
        *self.kind.get_or_insert_with(|| ContentKind::of(self.header))
    }

    fn has(&self, magic: &CompiledMagic) -> bool {
        self.header.get(magic.offset..).is_some_and(|tail| tail.starts_with(&magic.bytes))
    }
}

#[derive(Debug, Clone)]
struct CompiledMagic {
    bytes: Vec<u8>,
    offset: usize,
}

#[derive(Debug, Clone)]
struct CompiledRule {
    has_globs: bool,
    magic: Option<CompiledMagic>,
    kind: Option<ContentKind>,
    priority: Priority,
}

#[derive(Debug, Clone)]
struct RuleSet {
    rules: Vec<CompiledRule>,
    /// All globs of all rules in one automaton; `glob_owner` names the rule of each.
    globs: GlobSet,
    glob_owner: Vec<usize>,
    /// Each rule as a line for an operator.
    described: Vec<String>,
}

impl RuleSet {
    fn compile(rules: &[SemanticRule]) -> Result<Self, SemanticRuleError> {
        let mut globs = GlobSetBuilder::new();
        let mut glob_owner = Vec::new();
        let mut compiled = Vec::with_capacity(rules.len());
        for (rule, source) in rules.iter().enumerate() {
            if source.globs.is_empty() && source.magic.is_none() && source.kind.is_none() {
                return Err(SemanticRuleError::Empty { rule });
            }
            for glob in &source.globs {
                globs.add(compile_glob(rule, glob)?);
                glob_owner.push(rule);
            }
            let magic = source.magic.as_ref().map(|magic| compile_magic(rule, magic)).transpose()?;
            compiled.push(CompiledRule {
                has_globs: !source.globs.is_empty(),
                magic,
                kind: source.kind,
                priority: source.priority,
            });
        }
        let globs = globs.build().map_err(|error| SemanticRuleError::Glob {
            rule: rules.len().saturating_sub(1),
            glob: "(all together)".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            rules: compiled,
            globs,
            glob_owner,
            described: rules.iter().map(describe::describe).collect(),
        })
    }

    fn first_match(&self, path: &[u8], content: &mut Content<'_>) -> Option<Priority> {
        if self.rules.is_empty() {
            return None;
        }
        let named = self.named(path);
        let found = self.rules.iter().enumerate().find(|(index, rule)| {
            (!rule.has_globs || named.binary_search(index).is_ok())
                && rule.magic.as_ref().is_none_or(|magic| content.has(magic))
                && rule.kind.is_none_or(|kind| content.kind() == Some(kind))
        });
        found.map(|(_, rule)| rule.priority)
    }

    /// The rules with a glob that matches, in order.
    fn named(&self, path: &[u8]) -> Vec<usize> {
        let hits = self.globs.matches_candidate(&Candidate::from_bytes(path));
        let mut named: Vec<usize> = hits.into_iter().map(|glob| self.glob_owner[glob]).collect();
        named.sort_unstable();
        named
    }

    /// Number of bytes of the header that can matter: those of the rules before the first one that decides by the name.
    fn header_bytes(&self, path: &[u8]) -> usize {
        if self.rules.iter().all(|rule| rule.magic.is_none() && rule.kind.is_none()) {
            return 0;
        }
        let named = self.named(path);
        let mut bytes = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.has_globs && named.binary_search(&index).is_err() {
                continue;
            }
            match (&rule.magic, rule.kind) {
                (None, None) => break,
                (_, Some(_)) => bytes = SEMANTIC_HEADER_BYTES,
                (Some(magic), None) => bytes = bytes.max(magic.offset + magic.bytes.len()),
            }
        }
        bytes
    }
}

fn compile_glob(rule: usize, glob: &str) -> Result<globset::Glob, SemanticRuleError> {
    let anywhere = if glob.contains('/') { glob.to_owned() } else { format!("**/{glob}") };
    let built = GlobBuilder::new(&anywhere).literal_separator(true).build();
    built.map_err(|error| SemanticRuleError::Glob {
        rule,
        glob: glob.to_owned(),
        reason: error.kind().to_string(),
    })
}

fn compile_magic(rule: usize, magic: &Magic) -> Result<CompiledMagic, SemanticRuleError> {
    let refused = || SemanticRuleError::Magic { rule, hex: magic.hex.clone(), offset: magic.offset };
    let digits = magic.hex.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(refused());
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).ok_or_else(refused);
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        let byte = nibble(pair[0])? * 16 + nibble(pair[1])?;
        bytes.push(u8::try_from(byte).expect("two hexadecimal digits fit into a byte"));
    }
    let end = magic.offset.checked_add(bytes.len());
    if end.is_none_or(|end| end > SEMANTIC_HEADER_BYTES) {
        return Err(refused());
    }
    Ok(CompiledMagic { bytes, offset: magic.offset })
}
