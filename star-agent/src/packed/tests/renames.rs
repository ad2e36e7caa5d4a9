//! Files that have another path than in the snapshot before.

use orbit_shared::vault_call::{Rename, Renames};

use super::*;

/// A snapshot of these files: each of a path and the seed of its content.
fn sealed(store: &PackedStore, job: u64, files: &[(&str, u64)]) -> SnapshotRecord {
    let entries: Vec<_> =
        files.iter().map(|(path, seed)| put_file(store, stage(job), path, &[noise(*seed, 3000)])).collect();
    store.commit(stage(job), &entries).unwrap();
    store.seal(stage(job), &meta(job as i64)).unwrap()
}

fn rename(from: &str, to: &str) -> Rename {
    Rename { from: from.as_bytes().to_vec(), to: to.as_bytes().to_vec(), bytes: 3000 }
}

#[test]
fn a_moved_file_is_renamed_and_a_copied_a_changed_or_a_new_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let first = sealed(&store, 1, &[("a", 1), ("copied", 2), ("dir/moved", 3), ("gone", 4), ("same", 5)]);
    assert_eq!(store.renames(&first), Renames::default(), "there is none before");
    let files = [("a", 6), ("copied", 2), ("copy", 2), ("new", 7), ("other/moved", 3), ("same", 5)];
    let second = sealed(&store, 2, &files);
    let expected = Renames { first: vec![rename("dir/moved", "other/moved")], count: 1, bytes: 3000 };
    assert_eq!(store.renames(&second), expected);
    assert_eq!(store.renames(&second), expected, "asked again");
    assert_eq!(store.renames(&first), Renames::default(), "a later one is not the one before");
}

#[test]
fn in_a_large_tree_a_renamed_directory_is_found_and_of_equal_files_each_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let files = |moved: &str| -> Vec<(String, u64)> {
        let stay = (0..2000).map(|index| (format!("stay/{index:05}"), index));
        stay.chain((0..300).map(|index| (format!("{moved}/{index:05}"), 9000 + index / 2))).collect()
    };
    let seal = |job: u64, files: Vec<(String, u64)>| {
        let files: Vec<_> = files.iter().map(|(path, seed)| (path.as_str(), *seed)).collect();
        sealed(&store, job, &files)
    };
    seal(1, files("before"));
    let record = seal(2, files("zafter"));
    let renames = store.renames(&record);
    assert_eq!((renames.count, renames.bytes, renames.first.len()), (300, 900_000, 100));
    assert_eq!(renames.first[0], rename("before/00000", "zafter/00000"));
    assert_eq!(renames.first[1], rename("before/00001", "zafter/00001"), "of the same content");
}
