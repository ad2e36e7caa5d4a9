//! The files of the provenance log: their names, and what is cut off when one is opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::Open;
use orbit_shared::provenance::{ProvenanceReader, ProvenanceWriter, parse_line, recover_tail};
use orbit_shared::time::WallTime;
/// When the first readable event of a file happened.
pub(super) fn first_time(path: &Path) -> io::Result<Option<WallTime>> {
    let events = ProvenanceReader::new(BufReader::new(File::open(path)?));
    Ok(events.flatten().map(|event| event.time).next())
}

pub(super) fn file_path(directory: &Path, first_id: u64) -> PathBuf {
    directory.join(format!("events-{first_id:020}.jsonl"))
}

/// The log's files with the numbers of their first events, oldest first.
pub(super) fn files_of(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix("events-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(first_id) = digits.and_then(|digits| digits.parse().ok()) {
            files.push((first_id, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

pub(super) fn open_file(path: &Path, first_id: u64) -> io::Result<Open> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let keep = recover_tail(&mut file)?;
    let length = file.metadata()?.len();
    if keep < length {
        tracing::warn!(
            path = %path.display(),
            bytes = length - keep,
            "the last line of the provenance log was torn by a crash and is cut off"
        );
        file.set_len(keep)?;
        file.sync_all()?;
    }
    let mut next_id = first_id;
    for event in ProvenanceReader::new(BufReader::new(File::open(path)?)) {
        match event {
            Ok(event) => next_id = event.event_id + 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a line of the provenance log is damaged");
            }
        }
    }
    let writer = ProvenanceWriter::new(file);
    Ok(Open { writer, path: path.to_path_buf(), bytes: keep, next_id, committed_id: 0 })
}

/// Cuts a file in front of the first event behind `last_id`. Lines are in the order of their numbers.
pub(super) fn cut_file(path: &Path, last_id: u64) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(&file);
    let (mut keep, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line)? as u64;
        // A damaged line has no number, and stays with the events before it.
        let event = parse_line(line.strip_suffix(b"\n").unwrap_or(&line));
        let is_behind = event.is_ok_and(|event| event.event_id > last_id);
        if length == 0 || is_behind {
            break;
        }
        keep += length;
    }
    file.set_len(keep)?;
    file.sync_all()
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
