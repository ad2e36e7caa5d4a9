//! Lists of paths that a job is to move, read from a file.
//!
//! Every byte of a line counts. What can only mean one thing is written another way: `./a`, `a//b`, `a/./b` and `a/` are the
//! paths that they name, a path below the source may be absolute, and a byte order mark is none of the first name. What is not
//! clear is refused with the number of its line.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use clap::builder::{OsStringValueParser, TypedValueParser};
use orbit_shared::entry::{display_path, undisplay_path};
use orbit_shared::filter::glob_from_bytes;

use crate::errors::CliError;

/// Paths of one job. More of them are better named by their directories or by globs.
const PATHS_MAX: usize = 1000;
/// Bytes of a list.
const LIST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The value of a glob on the command line, of any bytes.
pub(crate) fn glob_parser() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|glob: OsString| glob_from_bytes(glob.as_bytes()))
}

/// The value of a path on the command line, of any bytes.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = Vec<u8>> {
    OsStringValueParser::new().map(OsString::into_vec)
}

/// What a list names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PathList {
    /// Paths below the source.
    pub(crate) paths: Vec<Vec<u8>>,
    /// What the reader of the list should know.
    pub(crate) notes: Vec<String>,
}

/// Reads a list, one path below the source a line, or ended by a NUL each if there is one in it. Empty lines are passed over.
/// `source` is the path that the list is about; `local` the same on this machine, if it is here.
///
/// # Errors
/// When it cannot be read, names nothing, too much, or something outside of the source.
pub(crate) fn paths_of_list(list: &Path, source: &[u8], local: Option<&Path>) -> Result<PathList, CliError> {
    let shown = list.display();
    let mut bytes = Vec::new();
    let read = if list == Path::new("-") {
        std::io::stdin().lock().take(LIST_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(list).and_then(|file| file.take(LIST_BYTES_MAX).read_to_end(&mut bytes))
    };
    let refused = |problem: String| CliError::Usage(format!("--files-from {shown} {problem}"));
    read.map_err(|error| refused(format!("cannot be read: {error}")))?;
    let is_there =
        |path: &[u8]| local.map(|local| local.join(OsStr::from_bytes(path)).symlink_metadata().is_ok());
    let found = read_lines(&bytes, source, is_there).map_err(&refused)?;
    match found.paths.len() {
        0 => Err(refused("names nothing, so nothing would be moved".to_owned())),
        1..=PATHS_MAX => Ok(found),
        count => Err(refused(format!(
            "names {count} paths, at most {PATHS_MAX} are possible: name directories, or use --include"
        ))),
    }
}

fn read_lines(
    bytes: &[u8],
    source: &[u8],
    is_there: impl Fn(&[u8]) -> Option<bool>,
) -> Result<PathList, String> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = || bytes.split(|&byte| byte == end).enumerate().filter(|(_, line)| !line.is_empty());
    let is_of_windows = end == b'\n' && lines().all(|(_, line)| line.ends_with(b"\r"));
    let mut list = PathList::default();
    let mut ends_cut = 0_usize;
    for (index, line) in lines() {
        let at = |problem: String| format!("line {}: {problem}", index + 1);
        let mut path = below_source(line, source).map_err(at)?;
        // A name may end with a carriage return; a whole list of them comes from another system.
        if is_of_windows && is_there(&path) != Some(true) {
            path = below_source(&line[..line.len() - 1], source).map_err(at)?;
            ends_cut += 1;
        }
        if is_there(&path) == Some(false)
            && let Some(plain) = undisplay_path(&path)
            && is_there(&plain) == Some(true)
        {
            path = plain;
        }
        list.paths.push(path);
    }
    if ends_cut > 0 {
        list.notes.push(format!(
            "The lines of the list end with a carriage return, which is taken for a part of the line end in {ends_cut} of them."
        ));
    }
    Ok(list)
}

/// The path below the source that a line means.
fn below_source(line: &[u8], source: &[u8]) -> Result<Vec<u8>, String> {
    let mut relative = line;
    if line.starts_with(b"/") {
        let source = source.strip_suffix(b"/").unwrap_or(source);
        relative = match line.strip_prefix(source) {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
            Some(_) | None => {
                return Err(format!("{} is absolute and not below the source", display_path(line)));
            }
        };
    }
    let names: Vec<&[u8]> =
        relative.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&b"..".as_slice()) {
        return Err(format!("{} leads upwards; write the path that it stands for", display_path(line)));
    }
    Ok(names.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8], there: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
        read_lines(list, b"/data/src", |path| Some(there.contains(&path))).map(|list| list.paths)
    }

    #[test]
    fn every_byte_of_a_line_counts_and_what_is_clear_is_written_another_way() {
        for (list, path) in [
            (&b"tab\t\n"[..], &b"tab\t"[..]),
            (b"sp \n", b"sp "),
            (b"lat\xe9\n", b"lat\xe9"),
            (b"./one", b"one"),
            (b"a//b/three\n", b"a/b/three"),
            (b"a/./b/\n", b"a/b"),
            (b".\n", b""),
            (b"./\n", b""),
            (b"/data/src/one\n", b"one"),
            (b"/data/src\n", b""),
            (b"\xef\xbb\xbfone\n", b"one"),
            (b"# no comment\n", b"# no comment"),
        ] {
            assert_eq!(read(list, &[]).unwrap(), [path.to_vec()], "{}", display_path(list));
        }
        assert_eq!(read(b"one\0a\nb\0", &[]).unwrap(), [b"one".to_vec(), b"a\nb".to_vec()]);
    }

    #[test]
    fn carriage_returns_are_names_where_such_names_are_there() {
        assert_eq!(read(b"one\r\ntwo\r\n", &[b"one"]).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(read(b"Icon\r\n", &[b"Icon\r"]).unwrap(), [b"Icon\r".to_vec()]);
        assert_eq!(read(b"Icon\r\nx\n", &[]).unwrap(), [b"Icon\r".to_vec(), b"x".to_vec()]);
        assert!(!read_lines(b"one\r\n", b"/s", |_| None).unwrap().notes.is_empty());
    }

    #[test]
    fn what_is_shown_of_a_name_that_is_no_text_is_taken() {
        assert_eq!(read(b"lat\\xe9\n", &[b"lat\xe9"]).unwrap(), [b"lat\xe9".to_vec()]);
        assert_eq!(read(b"lat\\xe9\n", &[b"lat\\xe9"]).unwrap(), [b"lat\\xe9".to_vec()]);
    }

    #[test]
    fn what_is_not_clear_is_refused_by_its_line() {
        for list in [&b"one\n/etc/passwd\n"[..], b"one\na/../b\n", b"one\n/data/srcx\n"] {
            assert!(read(list, &[]).unwrap_err().starts_with("line 2: "), "{}", display_path(list));
        }
    }

    #[test]
    fn a_list_that_is_missing_or_empty_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list");
        assert!(paths_of_list(&list, b"/s", None).is_err());
        std::fs::write(&list, "\n\n").unwrap();
        assert!(paths_of_list(&list, b"/s", None).is_err());
        std::fs::write(&list, "a/b c.jpg\n./d\n").unwrap();
        assert_eq!(paths_of_list(&list, b"/s", None).unwrap().paths, [b"a/b c.jpg".to_vec(), b"d".to_vec()]);
        std::fs::write(&list, "x\n".repeat(1001)).unwrap();
        assert!(paths_of_list(&list, b"/s", None).is_err());
    }
}
