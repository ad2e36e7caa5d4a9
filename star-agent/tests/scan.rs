//! What a scan finds, in which order, and how it continues after any path.
#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::FailureCause;
use support::{bytes, request, roots, scan, scan_with};

fn make_tree(base: &Path) {
    for directory in ["a", "a/b", "a/b/c", "a.d", "a-b", "empty", "z/y/x"] {
        std::fs::create_dir_all(base.join(directory)).unwrap();
    }
    for file in ["a/b/c/1", "a/b/2", "a/3.jpg", "a.d/4", "a-b/5.jpg", "b", "z/y/x/6.jpg", "z/7", "A"] {
        std::fs::write(base.join(file), file).unwrap();
    }
    symlink("a", base.join("link")).unwrap();
    std::fs::write(base.join("a/.orbit-tmp-0123456789abcdef-1-0-1"), b"half").unwrap();
}

fn paths(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect()
}

#[tokio::test]
async fn a_scan_visits_directories_before_what_is_below_them_in_the_order_of_names() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let (entries, failure) = scan(roots(tree.path(), true), tree.path()).await;
    assert_eq!(failure, None);
    let expected = [
        "",
        "A",
        "a",
        "a/3.jpg",
        "a/b",
        "a/b/2",
        "a/b/c",
        "a/b/c/1",
        "a-b",
        "a-b/5.jpg",
        "a.d",
        "a.d/4",
        "b",
        "empty",
        "link",
        "z",
        "z/7",
        "z/y",
        "z/y/x",
        "z/y/x/6.jpg",
    ];
    assert_eq!(paths(&entries), expected);
    assert_eq!(entries[14].kind, EntryKind::Symlink { target: b"a".to_vec() });
    assert_eq!((entries[3].rank, entries[5].rank), (100, 50));
    let components = |path: &[u8]| path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(entries[1..].is_sorted_by_key(|entry| components(&entry.path)));
}

#[tokio::test]
async fn a_scan_resumed_after_any_path_is_the_tail_of_the_full_one() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    for include in [vec![], vec!["*.jpg".to_owned()]] {
        let mut whole = request(tree.path());
        whole.include = include;
        let (entries, _) = scan_with(roots(tree.path(), true), whole.clone()).await;
        for (index, entry) in entries.iter().enumerate() {
            let mut rest = whole.clone();
            rest.resume_after = Some(entry.path.clone());
            let (tail, failure) = scan_with(roots(tree.path(), true), rest).await;
            assert_eq!(failure, None);
            assert_eq!(paths(&tail), paths(&entries[index + 1..]), "after {:?}", paths(&entries)[index]);
        }
    }
}

#[tokio::test]
async fn a_scan_continues_after_a_path_that_is_gone() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    for (gone, next) in [("a/b/c/0", "a/b/c/1"), ("a/c/d", "a-b"), ("zz", "")] {
        let mut rest = request(tree.path());
        rest.resume_after = Some(gone.as_bytes().to_vec());
        let (tail, _) = scan_with(roots(tree.path(), true), rest).await;
        assert_eq!(paths(&tail).first().map_or("", String::as_str), next, "after {gone}");
    }
}

#[tokio::test]
async fn excluded_directories_are_left_out_completely() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let mut filtered = request(tree.path());
    filtered.exclude = vec!["/a/".to_owned(), "*.jpg".to_owned()];
    let (entries, _) = scan_with(roots(tree.path(), true), filtered).await;
    let expected = ["", "A", "a-b", "a.d", "a.d/4", "b", "empty", "link", "z", "z/7", "z/y", "z/y/x"];
    assert_eq!(paths(&entries), expected);
}

#[tokio::test]
async fn only_what_is_included_and_the_directories_above_it_are_kept() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let mut filtered = request(tree.path());
    filtered.include = vec!["*.jpg".to_owned(), "/a/b/".to_owned()];
    let (entries, _) = scan_with(roots(tree.path(), true), filtered).await;
    let expected = [
        "",
        "a",
        "a/3.jpg",
        "a/b",
        "a/b/2",
        "a/b/c",
        "a/b/c/1",
        "a-b",
        "a-b/5.jpg",
        "z",
        "z/y",
        "z/y/x",
        "z/y/x/6.jpg",
    ];
    assert_eq!(paths(&entries), expected);
}

#[tokio::test]
async fn a_single_file_is_one_entry_with_an_empty_path() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    symlink("a/b/2", tree.path().join("to a file")).unwrap();
    for name in ["a/b/2", "to a file"] {
        let (entries, failure) = scan(roots(tree.path(), true), &tree.path().join(name)).await;
        assert_eq!(failure, None);
        assert_eq!((entries.len(), entries[0].path.len(), entries[0].size()), (1, 0, 5));
    }
}

#[tokio::test]
async fn a_scan_that_cannot_begin_says_why() {
    let tree = tempfile::tempdir().unwrap();
    let cause = async |path: &Path| scan(roots(tree.path(), true), path).await.1.unwrap();
    let missing = cause(&tree.path().join("missing")).await;
    assert_eq!(missing.cause, FailureCause::SourceMissing);
    assert!(missing.message.contains("missing"));
    assert_eq!(cause(Path::new("/etc")).await.cause, FailureCause::Permanent);
    let mut malformed = request(tree.path());
    malformed.exclude = vec!["a[b".to_owned()];
    let failure = scan_with(roots(tree.path(), true), malformed).await.1.unwrap();
    assert!(failure.message.contains("a[b"), "{failure:?}");
}

#[tokio::test]
async fn large_directories_and_many_directories_come_whole_and_in_order() {
    let tree = tempfile::tempdir().unwrap();
    for index in 0..3000 {
        std::fs::write(tree.path().join(format!("f{index}")), b"").unwrap();
    }
    for index in 0..200 {
        std::fs::create_dir_all(tree.path().join(format!("d{index}/below"))).unwrap();
    }
    let (entries, _) = scan(roots(tree.path(), true), tree.path()).await;
    assert_eq!(entries.len(), 1 + 3000 + 400);
    assert!(entries.is_sorted_by(|a, b| a.path < b.path));
}

#[tokio::test]
async fn without_credits_a_scan_waits_and_a_cancelled_one_ends() {
    let tree = tempfile::tempdir().unwrap();
    for index in 0..2000 {
        std::fs::write(tree.path().join(index.to_string()), b"").unwrap();
    }
    let (out, mut batches) = tokio::sync::mpsc::channel(8);
    let credits = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let cancel = tokio_util::sync::CancellationToken::new();
    let classifier = orbit_star::scan::Classifier::unordered();
    let request = request(tree.path());
    assert_eq!(request.path, bytes(tree.path()));
    let roots = roots(tree.path(), true);
    let task = tokio::spawn(orbit_star::scan::run(request, roots, classifier, out, credits, cancel.clone()));
    assert!(!batches.recv().await.unwrap().is_last);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), batches.recv()).await;
    assert!(waited.is_err(), "a batch without a credit");
    cancel.cancel();
    task.await.unwrap();
    assert!(batches.recv().await.is_none());
}
