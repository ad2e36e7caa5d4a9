//! Checks a job's specification against the grid: whole, so that one answer names everything that is wrong.

use orbit_shared::entry::{display_path, is_confined};
use orbit_shared::filter::{glob_problem, globs_problem};
use orbit_shared::words::StarId;

use super::Core;
use super::job::{JobSpec, Location};
use super::limits::{
    DEAD_LETTERS_PER_JOB_MAX, DESTINATIONS_MAX, GLOBS_MAX, REQUEST_ID_BYTES_MAX, TEXT_BYTES_MAX,
};
use super::refusal::Violation;

impl Core {
    /// Adds what is wrong with a specification to what was found before.
    pub(super) fn validate_spec(&self, spec: &JobSpec, request_id: &str, violations: &mut Vec<Violation>) {
        let mut add = |field: String, description: String| {
            // The parser's own finding about a field is the better one.
            if !violations.iter().any(|violation| violation.field.starts_with(&field)) {
                violations.push(Violation { field, description });
            }
        };
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            add("request_id".into(), format!("is longer than {REQUEST_ID_BYTES_MAX} bytes"));
        }
        self.check_location(&spec.source, "spec.source", false, &mut add);
        match spec.destinations.len() {
            0 => add("spec.destinations".into(), "is empty; name at least one place to copy to".into()),
            1..=DESTINATIONS_MAX => {}
            count => {
                add(
                    "spec.destinations".into(),
                    format!("has {count} places, at most {DESTINATIONS_MAX} are possible"),
                );
            }
        }
        for (index, place) in spec.destinations.iter().enumerate() {
            let field = format!("spec.destinations[{index}]");
            self.check_location(place, &field, true, &mut add);
            if let Some(problem) = overlap(spec, index) {
                add(format!("{field}.path"), problem);
            }
        }
        for (name, globs) in [("spec.include", &spec.include), ("spec.exclude", &spec.exclude)] {
            if globs.len() > GLOBS_MAX {
                add(name.into(), format!("has {} globs, at most {GLOBS_MAX} are possible", globs.len()));
                continue;
            }
            let is_sound = globs.iter().enumerate().fold(true, |is_sound, (index, glob)| {
                let Some(problem) = glob_problem(glob) else { return is_sound };
                add(format!("{name}[{index}]"), problem);
                false
            });
            if let Some(problem) = globs_problem(globs).filter(|_| is_sound) {
                add(name.into(), problem);
            }
        }
        for error in spec.penalty.validate().err().unwrap_or_default() {
            add("spec.penalty".into(), error.to_string());
        }
        if !(1..=DEAD_LETTERS_PER_JOB_MAX).contains(&spec.dead_letter_max) {
            add(
                "spec.dead_letter_max".into(),
                format!("is {}, must be 1 to {DEAD_LETTERS_PER_JOB_MAX}", spec.dead_letter_max),
            );
        }
    }

    fn check_location(
        &self,
        place: &Location,
        field: &str,
        is_written: bool,
        add: &mut impl FnMut(String, String),
    ) {
        let path_field = format!("{field}.path");
        let star = self.stars.get(&place.star_id);
        if star.is_none() {
            add(
                format!("{field}.star_id"),
                format!("names {}, which is no Star of this grid; {}", place.star_id, self.known_stars()),
            );
        }
        let shown = display_path(&place.path);
        if place.path.len() > TEXT_BYTES_MAX {
            return add(path_field, format!("is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let Some(relative) = place.path.strip_prefix(b"/") else {
            return add(
                path_field,
                format!("is {shown:?}; an absolute path is needed, such as /data/photos"),
            );
        };
        let relative = relative.strip_suffix(b"/").unwrap_or(relative);
        if !is_confined(relative) {
            return add(
                path_field,
                format!("is {shown:?}; `.`, `..`, empty parts and NUL are not allowed in it"),
            );
        }
        let Some(star) = star else { return };
        let roots: Vec<String> = star.record.roots.iter().map(|root| display_path(&root.path)).collect();
        match star.record.root_of(&place.path) {
            Some(root) if is_written && root.is_read_only => {
                add(
                    path_field,
                    format!(
                        "{shown} lies in {}, which {} exports read-only",
                        display_path(&root.path),
                        place.star_id
                    ),
                );
            }
            Some(_) => {}
            None if roots.is_empty() => {
                add(
                    path_field,
                    format!("{} has not connected yet, so what it exports is not known", place.star_id),
                );
            }
            None => {
                add(
                    path_field,
                    format!("{shown} lies outside the roots of {}: {}", place.star_id, roots.join(", ")),
                );
            }
        }
    }

    fn known_stars(&self) -> String {
        let names: Vec<&str> = self.stars.keys().take(10).map(StarId::as_str).collect();
        match names.len() {
            0 => "no Star has registered yet".to_owned(),
            _ => format!("known are {}", names.join(", ")),
        }
    }
}

/// A place that would be written while it is read, or written twice.
fn overlap(spec: &JobSpec, index: usize) -> Option<String> {
    let place = &spec.destinations[index];
    if place.star_id == spec.source.star_id && is_below(&place.path, &spec.source.path) {
        return Some("lies inside the source; a tree cannot be copied into itself".to_owned());
    }
    let twin = spec.destinations[..index].iter().position(|other| {
        other.star_id == place.star_id
            && (is_below(&place.path, &other.path) || is_below(&other.path, &place.path))
    })?;
    Some(format!("overlaps with spec.destinations[{twin}].path on the same Star"))
}

fn is_below(path: &[u8], base: &[u8]) -> bool {
    let trim = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
    let (path, base) = (trim(path), trim(base));
    path.strip_prefix(base.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
