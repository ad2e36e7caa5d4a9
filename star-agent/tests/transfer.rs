//! Copies trees from one Star to another over a real connection.
#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use orbit_shared::session::{AssignedItem, Assignment, FailureCause, Fault, ItemResult};
use support::{Pair, failure, noise, set_modified, snapshot, temporaries, transferred};

/// A tree with everything that is hard to copy.
fn make_tree(base: &Path) {
    let write = |name: &OsStr, content: &[u8], mode: u32, time: (i64, i64)| {
        let path = base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set_modified(&path, time.0, time.1);
    };
    write(OsStr::new("empty"), b"", 0o644, (1, 999_999_999));
    write(OsStr::new("a/b/c/deep"), b"deep", 0o600, (1_700_000_000, 123_456_789));
    write(OsStr::new("program"), b"#!/bin/sh\n", 0o755, (-5, 7));
    // Only root can read it. Its failure is the subject of another test.
    let locked = if rustix::process::geteuid().is_root() { 0o000 } else { 0o400 };
    write(OsStr::new("locked"), b"nobody writes this", locked, (5, 5));
    write(OsStr::from_bytes(b"not\xffutf8/\xfe"), b"bytes", 0o640, (2, 3));
    write(OsStr::new("new\nline/\\back"), b"odd", 0o644, (4, 4));
    write(OsStr::new("medium"), &noise(700_000, 1), 0o644, (6, 6));
    write(OsStr::new("large"), &noise(5_000_000, 2), 0o444, (7, 7));
    for index in 0..300 {
        write(OsStr::new(&format!("many/{}/{index}", index % 7)), &noise(index * 37, 3), 0o644, (8, 8));
    }
    std::fs::create_dir(base.join("empty directory")).unwrap();
    symlink("a/b", base.join("link")).unwrap();
    symlink("/no/such/place", base.join("dangling")).unwrap();
    symlink("../../..", base.join("a/upwards")).unwrap();
    set_modified(&base.join("link"), 9, 9);
    std::fs::set_permissions(base.join("many"), std::fs::Permissions::from_mode(0o1750)).unwrap();
    for directory in ["a/b", "a", "many/3", "many", "empty directory", ""] {
        set_modified(&base.join(directory), 1_000_000_000, 1);
    }
}

fn assert_same(from: &Path, to: &Path) {
    let (from, to) = (snapshot(from), snapshot(to));
    for (path, about) in &from {
        assert_eq!(to.get(path), Some(about), "{path:?}");
    }
    assert_eq!(to.len(), from.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_arrives_as_it_was_and_a_second_run_moves_nothing() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from().join("tree"), pair.to().join("copy/of it"));
    std::fs::create_dir(&from).unwrap();
    make_tree(&from);
    let results = pair.copy(&from, &to).await;
    for (path, result) in &results {
        assert!(matches!(result, ItemResult::Stored { .. }), "{:?} {result:?}", OsStr::from_bytes(path));
    }
    assert_same(&from, &to);
    let moved = pair.sink_meters.bytes_moved();
    assert_eq!(moved, pair.source_meters.bytes_moved());

    let again = pair.copy(&from, &to).await;
    for (path, result) in &again {
        assert_eq!(*result, ItemResult::Skipped, "{:?}", OsStr::from_bytes(path));
    }
    assert_eq!(pair.sink_meters.bytes_moved(), moved);
    assert_same(&from, &to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_in_segments() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from().join("large"), pair.to().join("large"));
    let content = noise(100_000_001, 4);
    std::fs::write(&from, &content).unwrap();
    let results = pair.copy(&from, &to).await;
    assert_eq!(transferred(&results[&b""[..]]), content.len() as u64);
    assert!(std::fs::read(&to).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_small_files_arrive() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    for index in 0..2000_usize {
        let path = from.join(format!("{:02}/{index}", index % 20));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, noise(index % 4096, index as u64)).unwrap();
    }
    let results = pair.copy(&from, &to).await;
    assert_eq!(results.len(), 2021);
    assert_same(&from, &to);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insertion_moves_only_the_chunks_around_it() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from().join("file"), pair.to().join("file"));
    let mut content = noise(8 << 20, 5);
    std::fs::write(&from, &content).unwrap();
    pair.copy(&from, &to).await;
    content.splice(3_000_000..3_000_000, noise(4000, 6));
    std::fs::write(&from, &content).unwrap();
    let results = pair.copy(&from, &to).await;
    let result = &results[&b""[..]];
    assert!(transferred(result) < 1 << 20, "{result:?}");
    assert!(matches!(result, ItemResult::Stored { bytes_deduplicated, .. } if *bytes_deduplicated > 7 << 20));
    assert!(std::fs::read(&to).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_were_only_touched_move_no_content() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    for index in 0..200_usize {
        std::fs::write(from.join(index.to_string()), noise(1 + index * 100, 7)).unwrap();
    }
    std::fs::write(from.join("large"), noise(3 << 20, 8)).unwrap();
    pair.copy(&from, &to).await;
    let moved = pair.sink_meters.bytes_moved();
    for index in 0..200 {
        set_modified(&from.join(index.to_string()), 1000 + index, 5);
    }
    std::fs::set_permissions(from.join("large"), std::fs::Permissions::from_mode(0o600)).unwrap();
    pair.copy(&from, &to).await;
    assert_eq!(pair.sink_meters.bytes_moved(), moved);
    assert_same(&from, &to);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_cannot_be_copied_are_named_and_affect_no_others() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::write(from.join("good"), b"good").unwrap();
    std::fs::write(from.join("gone"), b"gone").unwrap();
    std::fs::write(from.join("swapped"), b"swapped").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let (mut entries, _) = support::scan(support::roots(&from, true), &from).await;
    // An entry that the scan could not read, whichever user runs this test.
    let errno = rustix::io::Errno::ACCESS.raw_os_error();
    let mut unreadable = entries[0].clone();
    unreadable.path = b"unreadable".to_vec();
    unreadable.kind = orbit_shared::entry::EntryKind::Unreadable { errno };
    entries.push(unreadable);
    std::fs::remove_file(from.join("gone")).unwrap();
    std::fs::remove_file(from.join("swapped")).unwrap();
    symlink("good", from.join("swapped")).unwrap();
    let results = pair.execute(pair.assignment(&from, &to, entries)).await;
    assert!(matches!(results[&b"good"[..]], ItemResult::Stored { .. }));
    let cause = |name: &[u8]| failure(&results[name]).cause;
    assert_eq!(cause(b"gone"), FailureCause::SourceMissing);
    assert_eq!(cause(b"pipe"), FailureCause::Permanent);
    assert!(failure(&results[&b"pipe"[..]]).message.contains("FIFO"));
    assert_eq!(cause(b"swapped"), FailureCause::Permanent);
    assert_eq!(cause(b"unreadable"), FailureCause::Permanent);
    assert_eq!(temporaries(&to), Vec::<std::path::PathBuf>::new());
    assert!(!to.join("gone").exists() && !to.join("swapped").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_near_the_maximum_length_arrives() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    let roots = support::roots(&from, false);
    // Too deep for one system call from the root on, so it is made step by step.
    let mut handle = rustix::fs::open(&from, rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&handle, "ddd", 0o700.into()).unwrap();
        handle = rustix::fs::openat(&handle, "ddd", rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    }
    let (entries, failed) = support::scan(roots, &from).await;
    assert_eq!((entries.len(), failed), (1001, None));
    assert_eq!(entries[1000].path.len(), 3999);
    let results = pair.execute(pair.assignment(&from, &to, entries)).await;
    assert!(results.values().all(|result| matches!(result, ItemResult::Stored { .. })));
    let copied = support::scan(support::roots(&to, false), &to).await.0;
    assert_eq!(copied.len(), 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_there_fails_every_file_and_is_named() {
    let mut pair = Pair::new().await;
    std::fs::write(pair.from().join("a"), b"a").unwrap();
    std::fs::write(pair.from().join("b"), noise(1_000_000, 9)).unwrap();
    pair.address = "127.0.0.1:1".to_owned();
    let results = pair.copy(&pair.from(), &pair.to()).await;
    for name in [&b"a"[..], b"b"] {
        let failure = failure(&results[name]);
        assert_eq!((failure.cause, failure.fault), (FailureCause::Transient, Fault::Link));
        assert!(failure.message.contains("source") && failure.message.contains("127.0.0.1:1"), "{failure:?}");
    }
    // Items that need no source are done nevertheless.
    assert!(!matches!(results[&b""[..]], ItemResult::Failed(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_is_only_to_be_checked_skips_what_is_there_and_writes_nothing() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::write(from.join("old"), noise(100_000, 3)).unwrap();
    pair.copy(&from, &to).await;
    std::fs::write(from.join("new"), noise(100_000, 4)).unwrap();
    let moved = pair.sink_meters.bytes_moved();
    let entries = support::scan(support::roots(&from, true), &from).await.0;
    let mut assignment = pair.assignment(&from, &to, entries);
    assignment.items.retain(|item| !item.entry.path.is_empty());
    assignment.is_check_only = true;
    let results = pair.execute(assignment).await;
    assert_eq!(results[&b"old"[..]], ItemResult::Skipped);
    let failure = failure(&results[&b"new"[..]]);
    assert_eq!((failure.cause, failure.fault), (FailureCause::DestinationError, Fault::Destination));
    assert!(failure.message.contains("100000 bytes"), "{failure:?}");
    assert_eq!(pair.sink_meters.bytes_moved(), moved);
    assert!(!to.join("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_after_its_directories_does_not_change_their_times() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::create_dir_all(from.join("inner")).unwrap();
    std::fs::write(from.join("inner/first"), b"1").unwrap();
    pair.copy(&from, &to).await;
    let time_of = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let before = (time_of(&to), time_of(&to.join("inner")));
    std::fs::write(from.join("inner/late"), noise(100_000, 5)).unwrap();
    symlink("inner/late", from.join("link")).unwrap();
    let entries = support::scan(support::roots(&from, true), &from).await.0;
    let mut assignment = pair.assignment(&from, &to, entries);
    assignment.items.retain(|item| item.entry.path == b"inner/late" || item.entry.path == b"link");
    assert_eq!(assignment.items.len(), 2);
    assignment.keeps_directory_times = true;
    pair.execute(assignment.clone()).await;
    assert!(to.join("inner/late").exists() && to.join("link").is_symlink());
    assert_eq!((time_of(&to), time_of(&to.join("inner"))), before);
    // An assignment that does not preserve times changes them, otherwise the test would prove nothing.
    std::fs::remove_file(to.join("inner/late")).unwrap();
    assignment.keeps_directory_times = false;
    pair.execute(assignment).await;
    assert_ne!(time_of(&to.join("inner")), before.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_forbid_their_owner_to_write_are_filled_nevertheless() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::create_dir_all(from.join("closed/below")).unwrap();
    std::fs::write(from.join("closed/file"), b"1").unwrap();
    std::fs::write(from.join("closed/below/file"), b"22").unwrap();
    symlink("file", from.join("closed/link")).unwrap();
    let close = |base: &Path, mode| {
        for directory in ["closed/below", "closed"] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(base.join(directory), mode).unwrap();
        }
    };
    close(&from, 0o555);
    pair.copy(&from, &to).await;
    assert_same(&from, &to);
    close(&from, 0o755);
    std::fs::write(from.join("closed/file"), b"changed").unwrap();
    std::fs::write(from.join("closed/below/new"), b"new").unwrap();
    close(&from, 0o555);
    let results = pair.copy(&from, &to).await;
    assert!(!results.values().any(|result| matches!(result, ItemResult::Failed(_))), "{results:?}");
    assert_same(&from, &to);
    close(&from, 0o755);
    close(&to, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grew_or_shrank_since_the_scan_arrives_as_it_is_now() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    let sizes =
        [("small grew", 10, 3_000_000), ("large grew", 2_000_000, 70_000_000), ("shrank", 70_000_000, 9)];
    for (name, scanned, _) in sizes {
        std::fs::write(from.join(name), noise(scanned, 1)).unwrap();
    }
    std::fs::write(from.join("emptied"), noise(1_000_000, 1)).unwrap();
    let (entries, _) = support::scan(support::roots(&from, true), &from).await;
    // With an older version at the destination, and without.
    for with_basis in [false, true] {
        let to = to.join(with_basis.to_string());
        if with_basis {
            pair.execute(pair.assignment(&from, &to, entries.clone())).await;
            for (name, _, _) in sizes {
                std::fs::write(to.join(name), noise(600_000, 1)).unwrap();
            }
        }
        for (name, _, now) in sizes {
            std::fs::write(from.join(name), noise(now, 1)).unwrap();
        }
        std::fs::write(from.join("emptied"), b"").unwrap();
        let results = pair.execute(pair.assignment(&from, &to, entries.clone())).await;
        assert!(!results.values().any(|result| matches!(result, ItemResult::Failed(_))), "{results:?}");
        for (name, _, now) in sizes {
            assert!(std::fs::read(to.join(name)).unwrap() == noise(now, 1), "{name} {with_basis}");
        }
        assert_eq!(std::fs::read(to.join("emptied")).unwrap(), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_assignments_at_once_share_connections_and_all_arrive() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    for index in 0..400_usize {
        std::fs::write(from.join(index.to_string()), noise(20_000 + index * 100, index as u64)).unwrap();
    }
    let (entries, _) = support::scan(support::roots(&from, true), &from).await;
    let whole = pair.assignment(&from, &to, entries);
    let part = |items: &[AssignedItem]| Assignment { items: items.to_vec(), ..whole.clone() };
    let running = whole.items.chunks(51).map(|items| pair.execute(part(items)));
    let results = futures::future::join_all(running).await;
    assert_eq!(results.iter().map(|results| results.len()).sum::<usize>(), 401);
    for index in 0..400_usize {
        let name = index.to_string();
        assert_eq!(std::fs::read(to.join(&name)).unwrap(), std::fs::read(from.join(&name)).unwrap());
    }
    assert_eq!(pair.source_meters.served_pulls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_at_one_item_follow_each_other() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    // The same sequence numbers for different files: concurrent attempts would share temporary names.
    let attempts: Vec<_> = (0..8_u64)
        .map(|index| {
            let path = from.join(index.to_string());
            std::fs::write(&path, noise(3_000_000, index)).unwrap();
            let mut entry = orbit_shared::entry::Entry {
                path: index.to_string().into_bytes(),
                kind: orbit_shared::entry::EntryKind::File { size: 3_000_000 },
                mode: 0o644,
                modified: orbit_shared::time::WallTime::UNIX_EPOCH,
                rank: 0,
            };
            let first = pair.assignment(&from, &to, vec![entry.clone()]);
            entry.mode = 0o600;
            [pair.execute(first), pair.execute(pair.assignment(&from, &to, vec![entry]))]
        })
        .collect();
    futures::future::join_all(attempts.into_iter().flatten()).await;
    for index in 0..8_u64 {
        assert!(std::fs::read(to.join(index.to_string())).unwrap() == noise(3_000_000, index), "{index}");
    }
    assert!(temporaries(&to).is_empty());
}

/// Number of open handles of this process below a path.
fn open_below(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|target| target.starts_with(path)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_opened_when_a_job_runs_and_closed_afterwards() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    let aside = tempfile::tempdir().unwrap();
    std::fs::write(from.join("file"), b"old").unwrap();
    pair.copy(&from, &to.join("1")).await;
    for (root, name) in [(&from, "from"), (&to, "to")] {
        std::fs::rename(root, aside.path().join(name)).unwrap();
        std::fs::create_dir(root).unwrap();
    }
    std::fs::write(from.join("file"), b"new").unwrap();
    pair.copy(&from, &to.join("2")).await;
    assert_eq!(std::fs::read(to.join("2/file")).unwrap(), b"new");
    assert!(!to.join("1").exists() && aside.path().join("to/1/file").exists());
    // The source ends its side of a pull a little later.
    let closed = async {
        while open_below(&from) + open_below(&to) + open_below(aside.path()) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let closed = tokio::time::timeout(std::time::Duration::from_secs(30), closed).await;
    assert!(closed.is_ok(), "an idle Star holds its roots open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_root_fails_temporarily_and_is_used_when_it_is_back() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::write(from.join("file"), b"x").unwrap();
    let aside = tempfile::tempdir().unwrap();
    std::fs::rename(&to, aside.path().join("to")).unwrap();
    let results = pair.copy(&from, &to.join("a")).await;
    let failed = failure(&results[&b"file"[..]]);
    assert_eq!((failed.cause, failed.fault), (FailureCause::DestinationError, Fault::Destination));
    assert!(failed.message.contains("mount its disk"), "{}", failed.message);
    std::fs::rename(aside.path().join("to"), &to).unwrap();
    let results = pair.copy(&from, &to.join("a")).await;
    assert!(matches!(results[&b"file"[..]], ItemResult::Stored { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_compared_on_request_and_equal_content_is_not_transferred() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    std::fs::write(from.join("same"), noise(700_000, 1)).unwrap();
    std::fs::write(from.join("small"), b"right").unwrap();
    std::fs::write(from.join("empty"), b"").unwrap();
    pair.copy(&from, &to).await;
    // Other content with the same size and time, as after bit rot.
    std::fs::write(to.join("small"), b"wrong").unwrap();
    let metadata = std::fs::metadata(from.join("small")).unwrap();
    std::fs::File::options()
        .write(true)
        .open(to.join("small"))
        .unwrap()
        .set_modified(metadata.modified().unwrap())
        .unwrap();
    let entries = support::scan(support::roots(&from, true), &from).await.0;
    let results = pair.execute(pair.assignment(&from, &to, entries.clone())).await;
    assert!(matches!(results[&b"small"[..]], ItemResult::Skipped));
    let mut assignment = pair.assignment(&from, &to, entries);
    assignment.compares_content = true;
    let results = pair.execute(assignment).await;
    assert_eq!(transferred(&results[&b"small"[..]]), 5);
    for path in [&b"same"[..], b"empty"] {
        assert!(matches!(results[path], ItemResult::Skipped), "{:?}", results[path]);
    }
    assert_same(&from, &to);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_equal_file_is_kept_and_only_the_difference_of_another_is_transferred() {
    let pair = Pair::new().await;
    let (from, to) = (pair.from(), pair.to());
    let (source, copy) = (from.join("large"), to.join("large"));
    // Parts of it are equal, and it has two segments.
    std::fs::write(&source, noise(5 << 20, 5).repeat(8)).unwrap();
    pair.copy(&from, &to).await;
    let inode = std::fs::metadata(&copy).unwrap().ino();
    for (round, compares_content) in [true, false, true].into_iter().enumerate() {
        if round > 0 {
            set_modified(&source, 1_500_000_000 + round as i64, 7);
        }
        let entries = support::scan(support::roots(&from, true), &from).await.0;
        let assignment = Assignment { compares_content, ..pair.assignment(&from, &to, entries) };
        let results = pair.execute(assignment).await;
        match &results[&b"large"[..]] {
            ItemResult::Skipped => assert_eq!(round, 0),
            other => assert_eq!(transferred(other), 0, "{round}"),
        }
        assert_eq!(std::fs::metadata(&copy).unwrap().ino(), inode, "{round}: it was written again");
        assert_same(&from, &to);
    }
    // Another byte with the same size and time, late in the file: segments that were found to be equal before it are
    // kept.
    let times = std::fs::metadata(&copy).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&copy).unwrap();
    file.write_all_at(b"?", 39 << 20).unwrap();
    file.set_modified(times).unwrap();
    drop(file);
    let entries = support::scan(support::roots(&from, true), &from).await.0;
    let assignment = Assignment { compares_content: true, ..pair.assignment(&from, &to, entries) };
    let results = pair.execute(assignment).await;
    let crossed = transferred(&results[&b"large"[..]]);
    assert!(crossed < 1 << 20, "{crossed} bytes");
    assert_ne!(std::fs::metadata(&copy).unwrap().ino(), inode, "a reader of the old one sees no mixture");
    assert_same(&from, &to);
    assert!(temporaries(&to).is_empty());
}
