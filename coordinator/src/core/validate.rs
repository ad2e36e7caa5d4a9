//! Checks a job's specification against the grid: whole, so that one answer names everything that is wrong.

use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::entry::{TEMPORARY_PREFIX, display_path, is_confined};
use orbit_shared::filter::{glob_problem, includes_problem, path_problem};
use orbit_shared::vault_call::limits::{TAG_BYTES_MAX, TAGS_MAX};
use orbit_shared::words::{Layout, SnapshotId};

use super::calls::Catalogue;
use super::limits::{
    BANDWIDTH_WINDOWS_MAX, DEAD_LETTERS_PER_JOB_MAX, DESTINATIONS_MAX, GLOBS_MAX, REQUEST_ID_BYTES_MAX,
    TEXT_BYTES_MAX, TRASH_NAME_BYTES_MAX, VIOLATIONS_MAX,
};
use super::records::{JobSpec, Location};
use super::refusal::Violation;
use super::stars::Stars;

/// Bytes of a glob that is refused, as far as it is repeated.
const GLOB_SHOWN_BYTES_MAX: usize = 100;

/// What a specification is checked against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// The Stars.
    pub(super) stars: &'a Stars,
    /// The snapshots.
    pub(super) catalogue: &'a Catalogue,
}

impl Known<'_> {
    /// Adds what is wrong with a specification to what was found before.
    pub(super) fn check(&self, spec: &JobSpec, request_id: &str, violations: &mut Vec<Violation>) {
        let mut add = |field: String, description: String| {
            if violations.len() >= VIOLATIONS_MAX {
                return;
            }
            // The parser's own finding about a field is the better one, and what is bad as a whole has no parts.
            let is_found = |found: &str| {
                found.starts_with(&field)
                    || field.strip_prefix(found).is_some_and(|part| part.starts_with(['.', '[']))
            };
            if !violations.iter().any(|violation| is_found(&violation.field)) {
                violations.push(Violation { field, description });
            }
        };
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            add("request_id".into(), format!("is longer than {REQUEST_ID_BYTES_MAX} bytes"));
        }
        match spec.snapshot {
            Some(id) => self.check_snapshot_source(spec, id, &mut add),
            None => self.check_location(&spec.source, "spec.source", false, &mut add),
        }
        check_tags(spec, &mut add);
        check_mirror(spec, &mut add);
        self.check_destinations(spec, &mut add);
        check_filters(spec, &mut add);
        if spec.is_one_file_system && spec.snapshot.is_some() {
            let problem = "is only for a source directory: a snapshot has no mount points";
            add("spec.one_file_system".into(), problem.into());
        }
        check_limits(spec, &mut add);
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

    fn check_destinations(&self, spec: &JobSpec, add: &mut impl FnMut(String, String)) {
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
        // Places are compared with each other, so none is looked at when there are too many.
        let places = if spec.destinations.len() > DESTINATIONS_MAX { &[][..] } else { &spec.destinations };
        for (index, place) in places.iter().enumerate() {
            let field = format!("spec.destinations[{index}]");
            match spec.layout {
                Layout::Files => self.check_location(place, &field, true, add),
                Layout::Packed => self.check_vault(place, &field, add),
            }
            if let Some(problem) = overlap(spec, index) {
                add(format!("{field}.path"), problem);
            }
        }
    }

    /// A vault is the place, so that a path has no meaning.
    fn check_vault(&self, place: &Location, field: &str, add: &mut impl FnMut(String, String)) {
        self.check_star(place, field, add);
        if !place.path.is_empty() {
            add(
                format!("{field}.path"),
                format!(
                    "is {:?}; with LAYOUT_PACKED the vault of {} is the place, so leave the path empty",
                    display_path(&place.path),
                    place.star_id
                ),
            );
        }
    }

    /// The snapshot must be in the vault that is read, and the path one that can be in its tree.
    fn check_snapshot_source(&self, spec: &JobSpec, id: SnapshotId, add: &mut impl FnMut(String, String)) {
        let star = &spec.source.star_id;
        self.check_star(&spec.source, "spec.source", add);
        match self.catalogue.get(id) {
            Some(record) if record.star == *star => {}
            Some(record) => add(
                "spec.source.star_id".into(),
                format!("is {star}, but snapshot {id} is in the vault of {}", record.star),
            ),
            None => add(
                "spec.source.snapshot_id".into(),
                format!(
                    "names {id}, which is in no vault that is known; ListSnapshots shows those there are"
                ),
            ),
        }
        let path = &spec.source.path;
        let is_good = path.len() <= TEXT_BYTES_MAX
            && path
                .strip_prefix(b"/")
                .is_some_and(|rest| is_confined(rest.strip_suffix(b"/").unwrap_or(rest)));
        if !is_good {
            add(
                "spec.source.path".into(),
                format!(
                    "is {:?}; a path in the snapshot's tree begins with a slash and has no `.`, `..`, empty parts or NUL",
                    display_path(path)
                ),
            );
        }
    }

    fn check_star(&self, place: &Location, field: &str, add: &mut impl FnMut(String, String)) {
        if self.stars.get(&place.star_id).is_none() {
            add(
                format!("{field}.star_id"),
                format!("names {}, which is no Star of this grid; {}", place.star_id, self.known_stars()),
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
        self.check_star(place, field, add);
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
        let names: Vec<&str> = self.stars.iter().take(10).map(|star| star.record.star_id.as_str()).collect();
        match names.len() {
            0 => "no Star has registered yet".to_owned(),
            _ => format!("known are {}", names.join(", ")),
        }
    }
}

/// A place that would be written while it is read, or written twice.
fn overlap(spec: &JobSpec, index: usize) -> Option<String> {
    let place = &spec.destinations[index];
    if spec.layout == Layout::Packed {
        let mut before = spec.destinations[..index].iter();
        let twin = before.position(|other| other.star_id == place.star_id)?;
        return Some(format!("is the same vault as spec.destinations[{twin}]; name each Star once"));
    }
    if spec.snapshot.is_none()
        && place.star_id == spec.source.star_id
        && is_below(&place.path, &spec.source.path)
    {
        return Some("lies inside the source; a tree cannot be copied into itself".to_owned());
    }
    if spec.mirror.is_some()
        && place.star_id == spec.source.star_id
        && is_below(&spec.source.path, &place.path)
    {
        let problem =
            "is a directory above the source, and a mirror would delete the source; name another place";
        return Some(problem.to_owned());
    }
    let twin = spec.destinations[..index].iter().position(|other| {
        other.star_id == place.star_id
            && (is_below(&place.path, &other.path) || is_below(&other.path, &place.path))
    })?;
    Some(format!("overlaps with spec.destinations[{twin}].path on the same Star"))
}

fn check_filters(spec: &JobSpec, add: &mut impl FnMut(String, String)) {
    for (name, globs) in [("spec.include", &spec.include), ("spec.exclude", &spec.exclude)] {
        if globs.len() > GLOBS_MAX {
            add(name.into(), format!("has {} globs, at most {GLOBS_MAX} are possible", globs.len()));
            continue;
        }
        for (index, glob) in globs.iter().enumerate() {
            if let Some(problem) = glob_problem(glob) {
                let glob = truncate_visibly(glob, GLOB_SHOWN_BYTES_MAX);
                add(format!("{name}[{index}]"), format!("{glob:?} {problem}"));
            }
        }
    }
    if let Some(problem) = includes_problem(&spec.include).filter(|_| spec.paths.is_empty()) {
        add("spec.include".into(), problem);
    }
    if spec.paths.len() > GLOBS_MAX {
        add("spec.paths".into(), format!("has {} paths, at most {GLOBS_MAX} are possible", spec.paths.len()));
    } else {
        for (index, path) in spec.paths.iter().enumerate() {
            if let Some(problem) = path_problem(path) {
                add(format!("spec.paths[{index}]"), problem);
            }
        }
    }
}

fn check_limits(spec: &JobSpec, add: &mut impl FnMut(String, String)) {
    if spec.limits.max_size.is_some_and(|max| max < spec.limits.min_size) {
        add(
            "spec.max_size_bytes".into(),
            "is less than spec.min_size_bytes, so that no file is wanted".into(),
        );
    }
    if let (Some(after), Some(before)) = (spec.limits.modified_after, spec.limits.modified_before)
        && before < after
    {
        let problem = "is earlier than spec.min_modify_time, so that no file is wanted";
        add("spec.max_modify_time".into(), problem.into());
    }
    if spec.bandwidth_windows.len() > BANDWIDTH_WINDOWS_MAX {
        let count = spec.bandwidth_windows.len();
        let problem = format!("has {count} windows, at most {BANDWIDTH_WINDOWS_MAX} are possible");
        add("spec.bandwidth_windows".into(), problem);
    }
}

fn check_tags(spec: &JobSpec, add: &mut impl FnMut(String, String)) {
    if spec.tags.len() > TAGS_MAX {
        add("spec.tags".into(), format!("has {} tags, at most {TAGS_MAX} are possible", spec.tags.len()));
    }
    for (index, tag) in spec.tags.iter().take(TAGS_MAX).enumerate() {
        if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.chars().any(char::is_control) {
            let problem = format!("must be 1 to {TAG_BYTES_MAX} bytes without control characters");
            add(format!("spec.tags[{index}]"), problem);
        }
    }
    if spec.layout == Layout::Files && !spec.tags.is_empty() {
        add("spec.tags".into(), "are words for snapshots, which only LAYOUT_PACKED makes".into());
    }
}

fn check_mirror(spec: &JobSpec, add: &mut impl FnMut(String, String)) {
    if spec.compares_content && spec.layout == Layout::Packed {
        let problem =
            "is COMPARE_CONTENT, which is only for LAYOUT_FILES; a vault knows content by its hashes anyway";
        add("spec.compare".into(), problem.into());
    }
    let Some(mirror) = &spec.mirror else { return };
    if spec.layout == Layout::Packed {
        let problem =
            "is MODE_MIRROR, which is only for LAYOUT_FILES; a snapshot has what its source had anyway";
        add("spec.mode".into(), problem.into());
    }
    if spec.snapshot.is_some() {
        add("spec.mode".into(), "is MODE_MIRROR, which is not for snapshots; restore with MODE_COPY".into());
    }
    if mirror.max_delete_percent > 100 {
        let problem = format!("is {}, must be 0 to 100", mirror.max_delete_percent);
        add("spec.mirror.max_delete_percent".into(), problem);
    }
    if let Some(name) = &mirror.trash {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = name.len() <= TRASH_NAME_BYTES_MAX && name.bytes().all(is_plain);
        if !is_name || !is_confined(name.as_bytes()) || name.as_bytes().starts_with(TEMPORARY_PREFIX) {
            let problem = format!(
                "is {name:?}, must be a single name of letters, digits, dots, dashes and underscores, such as .trash"
            );
            add("spec.mirror.trash_directory".into(), problem);
        }
    }
}

fn is_below(path: &[u8], base: &[u8]) -> bool {
    let trim = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
    let (path, base) = (trim(path), trim(base));
    path.strip_prefix(base.as_slice()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
