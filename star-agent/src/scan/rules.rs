//! The operator's rules for the priority of files: a TOML file of `[[rule]]` tables, which `docs/patterns.md` describes.

use std::path::{Path, PathBuf};

use orbit_shared::semantic::{SemanticRegistry, SemanticRule, SemanticRuleError};
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    rule: Vec<Spanned<SemanticRule>>,
}

/// Why the operator's rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("--semantic-rules {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: std::io::Error,
    },
    /// It is not TOML, or has a key or a value that a rule cannot have.
    #[error("--semantic-rules {}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The error of the TOML parser, with line and column.
        problem: String,
    },
    /// A rule cannot be used.
    #[error("--semantic-rules {}: line {line}: {error}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// The line where the rule begins, from 1.
        line: usize,
        /// The problem.
        error: SemanticRuleError,
    },
}

/// Reads a file of rules.
///
/// # Errors
/// The file cannot be read, or one of its rules cannot be used.
pub(super) fn read(path: &Path) -> Result<SemanticRegistry, RulesError> {
    let owned = || path.to_owned();
    let text = std::fs::read_to_string(path).map_err(|error| RulesError::Read { path: owned(), error })?;
    let file: RuleFile = toml::from_str(&text).map_err(|error| RulesError::Syntax {
        path: owned(),
        problem: error.to_string().trim().to_owned(),
    })?;
    let starts: Vec<usize> = file.rule.iter().map(|rule| rule.span().start).collect();
    let rules: Vec<SemanticRule> = file.rule.into_iter().map(Spanned::into_inner).collect();
    SemanticRegistry::new(&rules).map_err(|error| {
        let index = match &error {
            SemanticRuleError::TooMany { .. } => rules.len() - 1,
            SemanticRuleError::Empty { rule }
            | SemanticRuleError::Glob { rule, .. }
            | SemanticRuleError::Magic { rule, .. } => *rule,
        };
        let before = starts.get(index).and_then(|start| text.get(..*start)).unwrap_or_default();
        RulesError::Rule { path: owned(), line: before.matches('\n').count() + 1, error }
    })
}

#[cfg(test)]
mod tests {
    use orbit_shared::semantic::Priority;

    use super::*;

    fn read_text(text: &str) -> Result<SemanticRegistry, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules.toml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_of_the_documentation_is_a_file_of_rules() {
        let patterns =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/patterns.md")).unwrap();
        let (_, after) = patterns.split_once("```toml\n").expect("the page has an example");
        let (example, _) = after.split_once("```").expect("the example ends");
        let registry = read_text(example).unwrap();
        assert_eq!(registry.describe_rules().len(), 3);
        assert_eq!(registry.classify(b"a/dump.sql", None), Priority::Critical);
        assert_eq!(registry.classify(b"db", Some(b"SQLite format 3\0")), Priority::High);
        assert_eq!(registry.classify(b"app.toml", None), Priority::Critical, "the built-in rules come after");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        let refused = |text: &str| read_text(text).unwrap_err();
        let good = "[[rule]]\nglobs = [\"a\"]\npriority = \"low\"\n\n";
        let glob = refused(&format!("{good}[[rule]]\nglobs = [\"a[\"]\npriority = \"low\"\n"));
        assert!(glob.contains("rules.toml: line 5: ") && glob.contains("a["), "{glob}");
        let empty = refused(&format!("{good}[[rule]]\npriority = \"low\"\n"));
        assert!(empty.contains("rules.toml: line 5: "), "{empty}");
        let priority = refused("[[rule]]\nglobs = [\"a\"]\npriority = \"urgent\"\n");
        assert!(priority.contains("line 3") && priority.contains("urgent"), "{priority}");
        let key = refused(&format!("{good}[[rules]]\n"));
        assert!(key.contains("line 5") && key.contains("rules"), "{key}");
        let missing = read(Path::new("/does/not/exist.toml")).unwrap_err().to_string();
        assert!(missing.contains("--semantic-rules /does/not/exist.toml"), "{missing}");
    }
}
