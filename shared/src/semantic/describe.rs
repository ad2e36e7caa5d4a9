//! An operator's rules as lines for people.

use super::{SemanticRegistry, SemanticRule};

/// Maximum number of lines of [`SemanticRegistry::describe_rules`].
pub const SEMANTIC_LINES_MAX: usize = 64;
/// Maximum length of one of these lines, in bytes.
const LINE_BYTES_MAX: usize = 200;

impl SemanticRegistry {
    /// The operator's rules in the order in which they are tried, one per line, at most [`SEMANTIC_LINES_MAX`]; the last
    /// line says how many more there are.
    pub fn describe_rules(&self) -> Vec<String> {
        let count = self.operator.described.len();
        let shown = if count > SEMANTIC_LINES_MAX { SEMANTIC_LINES_MAX - 1 } else { count };
        let mut lines: Vec<String> = self.operator.described[..shown].to_vec();
        if shown < count {
            lines.push(format!("and {} more", count - shown));
        }
        lines
    }
}

/// One rule on one line.
pub(super) fn describe(rule: &SemanticRule) -> String {
    let globs = (!rule.globs.is_empty()).then(|| rule.globs.join(", "));
    let magic = rule.magic.as_ref().map(|magic| match magic.offset {
        0 => format!("begins with bytes {}", magic.hex),
        offset => format!("has bytes {} at {offset}", magic.hex),
    });
    let kind = rule.kind.map(|kind| format!("is {}", kind.as_str()));
    let conditions: Vec<String> = globs.into_iter().chain(magic).chain(kind).collect();
    let line = format!("{}: {}", rule.priority, conditions.join(" and "));
    crate::bulletin::truncate_visibly(&line, LINE_BYTES_MAX)
}
