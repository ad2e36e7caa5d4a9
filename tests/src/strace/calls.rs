//! Reads the output of strace: one system call for each, with the lines at which it began and ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// One system call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments in strace's notation, with strings in hexadecimal digits.
    pub arguments: String,
    /// Its result; `None` for an error.
    pub result: Option<u64>,
    /// The line at which it began: it had no effect before the calls that ended above.
    pub begun: usize,
    /// The line at which it had ended.
    pub ended: usize,
}

impl Call {
    /// The strings among the arguments.
    pub fn strings(&self) -> Vec<Vec<u8>> {
        self.arguments.split('"').skip(1).step_by(2).map(unescape).collect()
    }

    /// The targets of the descriptors among the arguments: paths, or connections.
    pub fn descriptors(&self) -> Vec<Vec<u8>> {
        // Paths of files are in hexadecimal digits, and sockets contain `->`.
        let inner = self.arguments.split('<').skip(1);
        inner.filter_map(|rest| rest.split_once(['>', ',']).map(|(inner, _)| unescape(inner))).collect()
    }

    /// The path of the first descriptor.
    pub fn path(&self) -> PathBuf {
        let descriptor = self.descriptors().into_iter().next().unwrap_or_default();
        PathBuf::from(OsString::from_vec(descriptor))
    }

    /// The two paths of a `renameat`.
    pub fn renamed(&self) -> (PathBuf, PathBuf) {
        let (directories, names) = (self.descriptors(), self.strings());
        let path = |index: usize| {
            PathBuf::from(OsString::from_vec(directories[index].clone()))
                .join(OsString::from_vec(names[index].clone()))
        };
        (path(0), path(1))
    }
}

/// All calls in the output of strace, in the order in which they began.
pub fn calls(text: &str) -> Vec<Call> {
    let mut found: Vec<Call> = Vec::new();
    let mut pending: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(index) = pending.remove(thread) else { continue };
            let Some((_, tail)) = resumed.split_once(" resumed>") else { continue };
            found[index].ended = number;
            let call = &mut found[index];
            end(call, tail);
        } else if let Some((name, tail)) = rest.split_once('(') {
            let mut call = Call {
                name: name.to_owned(),
                arguments: String::new(),
                result: None,
                begun: number,
                // A call that never ends, because the program was killed in it.
                ended: usize::MAX,
            };
            match tail.strip_suffix("<unfinished ...>") {
                Some(tail) => {
                    call.arguments.push_str(tail);
                    pending.insert(thread, found.len());
                }
                None => {
                    call.ended = number;
                    end(&mut call, tail);
                }
            }
            found.push(call);
        }
    }
    found
}

/// Adds the rest of a call's line: more arguments, and the result.
fn end(call: &mut Call, tail: &str) {
    let Some((arguments, result)) = tail.rsplit_once(" = ") else { return };
    call.arguments.push_str(arguments.trim_end().trim_end_matches(')'));
    let number = result.split([' ', '<']).next().unwrap_or_default();
    call.result = number.parse().ok();
}

/// `\x2f\x61` becomes `/a`; other text is unchanged.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escaped = rest.strip_prefix("\\x").and_then(|digits| digits.get(..2));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                let (head, tail) = rest.split_at(first.len_utf8());
                bytes.extend_from_slice(head.as_bytes());
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_several_threads_are_separated() {
        let text = "\
11  fsync(14<\\x2f\\x61> <unfinished ...>
12  renameat(7<\\x2f\\x64>, \"\\x74\", 7<\\x2f\\x64>, \"\\x6e\") = 0
11  <... fsync resumed>)              = -1 EIO (Input/output error) (INJECTED)
12  fsync(7<\\x2f\\x64>) = 0
12  +++ killed by SIGKILL +++
";
        let found = calls(text);
        let order: Vec<_> = found.iter().map(|call| (&call.name[..], call.begun, call.ended)).collect();
        assert_eq!(order, [("fsync", 0, 2), ("renameat", 1, 1), ("fsync", 3, 3)]);
        assert_eq!(found[0].path(), PathBuf::from("/a"));
        assert_eq!(found[0].result, None);
        assert_eq!(found[1].renamed(), (PathBuf::from("/d/t"), PathBuf::from("/d/n")));
        assert_eq!(found[2].result, Some(0));
    }

    #[test]
    fn connections_are_descriptors_too() {
        let text = "7  sendto(13<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\\x50\", 1, 0, NULL, 0) = 1\n";
        let found = calls(text);
        assert!(found[0].arguments.contains("->127.0.0.1:2]"));
        assert_eq!(found[0].strings(), [b"P"]);
    }
}
