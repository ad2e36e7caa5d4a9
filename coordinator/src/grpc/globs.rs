//! Globs of specifications, compiled away from the driver: one set at a time, on a thread that may take as long as it needs.
//!
//! The number and the size are checked first. What is compiled needs some hundred times the memory of its text.

use orbit_shared::filter::globs_problem;
use tokio::sync::Semaphore;

use crate::core::limits::{GLOBS_MAX, PATTERN_BYTES_MAX};
use crate::core::{JobSpec, Violation};

/// Sets of globs that are compiled at once.
static COMPILING: Semaphore = Semaphore::const_new(1);

/// Adds what is wrong with the globs of a specification as a whole. What is wrong with one of them, the core says.
pub(super) async fn check(spec: &JobSpec, violations: &mut Vec<Violation>) {
    for (field, globs) in [("spec.include", &spec.include), ("spec.exclude", &spec.exclude)] {
        if globs.len() > GLOBS_MAX || violations.iter().any(|violation| violation.field.starts_with(field)) {
            continue;
        }
        let bytes = pattern_bytes(globs);
        if bytes > PATTERN_BYTES_MAX {
            let problem = format!(
                "has globs with wildcards of {bytes} bytes together, at most {PATTERN_BYTES_MAX} are possible; names without \
                 wildcards do not count"
            );
            violations.push(Violation::new(field, problem));
            continue;
        }
        // The semaphore is never closed.
        let Ok(_turn) = COMPILING.acquire().await else { return };
        let globs = globs.clone();
        // One that is malformed by itself is named by the core.
        let compiled = tokio::task::spawn_blocking(move || {
            let is_sound = globs.iter().all(|glob| orbit_shared::filter::glob_problem(glob).is_none());
            if is_sound { globs_problem(&globs) } else { None }
        });
        if let Some(problem) = compiled.await.unwrap_or_default() {
            violations.push(Violation::new(field, problem));
        }
    }
}

/// Bytes of globs that are more than a name.
fn pattern_bytes(globs: &[String]) -> usize {
    let is_pattern = |glob: &&String| glob.contains(['*', '?', '[', '{', '\\']);
    globs.iter().filter(is_pattern).map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_wildcards_cost_nothing() {
        let globs: Vec<String> =
            ["/photos/2024", "*.tmp", "a?c"].iter().map(|&glob| glob.to_owned()).collect();
        assert_eq!(pattern_bytes(&globs), 8);
    }
}
