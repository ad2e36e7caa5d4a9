//! A vault on a full disk: what fits is stored, what is stored stays readable, and garbage can be collected to free
//! space.

use std::io::Write as _;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_star::packed::{CollectOptions, PackedConfig, PackedStore};
use orbit_tests::mount::SmallDisk;
use orbit_tests::vault::{chunks, config, files_of, meta, put, stage};

const DISK_BYTES: u64 = 8 << 20;

#[test]
fn a_vault_on_a_full_disk_stays_readable_and_collectable() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = dir.path().join("disk");
    let _mounted = SmallDisk::mount(&disk, DISK_BYTES);
    let store = PackedStore::open(&disk.join("packed"), PackedConfig { reserve_bytes: 1 << 20, ..config() })
        .expect("a store");
    let entries: Vec<_> = files_of(1).map(|number| put(&store, stage(1), number).expect("stored")).collect();
    store.commit(stage(1), &entries).expect("a commit");
    let kept = store.seal(stage(1), &meta(1)).expect("a snapshot");

    // Writes garbage until nothing fits any more.
    let mut number = 100;
    let refused = loop {
        let stored = put(&store, stage(2), number).and_then(|entry| store.commit(stage(2), &[entry]));
        match stored {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(number > 200, "the disk holds more than {number} files");
    assert!(refused.is_full(), "{refused}");
    for bytes in files_of(1).flat_map(chunks) {
        assert_eq!(store.read(&ChunkHash::of(&bytes)).expect("readable on a full disk"), bytes);
    }
    assert_eq!(store.entries(&kept.id, None, b"", 100).expect("entries").len(), entries.len());

    store.abandon(stage(2)).expect("a stage can be given up on a full disk");
    let options =
        CollectOptions { ignore_undo_window: true, garbage_percent_min: 1, ..CollectOptions::default() };
    let report = store.collect(&options, &|_| {}, &|| false).expect("a full disk can be collected");
    assert!(report.bytes_freed > DISK_BYTES / 4, "{report:?}");
    let entry = put(&store, stage(3), 5000).expect("there is room again");
    store.commit(stage(3), &[entry]).expect("there is room again");
    for bytes in files_of(1).flat_map(chunks) {
        assert_eq!(store.read(&ChunkHash::of(&bytes)).expect("nothing was lost"), bytes);
    }
}

#[test]
fn what_fits_is_committed_after_the_disk_is_full_and_incomplete_files_free_their_space() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = dir.path().join("disk");
    let _mounted = SmallDisk::mount(&disk, DISK_BYTES);
    let place = disk.join("packed");
    let settings = PackedConfig { reserve_bytes: 1 << 20, ..PackedConfig::default() };
    let store = PackedStore::open(&place, settings.clone()).expect("a store");
    store.begin_stage(stage(1)).expect("there is room for a stage");

    // Half of the chunks belong to files that never become complete.
    let (mut whole, mut number) = (Vec::new(), 0);
    let refused = loop {
        let stored = put(&store, stage(1), number).and_then(|entry| {
            put(&store, stage(1), 10_000 + number)?;
            Ok(entry)
        });
        match stored {
            Ok(entry) => whole.push(entry),
            Err(error) => break error,
        }
        number += 1;
    };
    assert!(refused.is_full(), "{refused}");
    let wanted = &whole[..whole.len() / 2];
    store.give_up_unneeded(&wanted.iter().collect::<Vec<_>>());
    store.commit(stage(1), wanted).expect("what was written whole is committed");

    // The space of the others is free.
    let more: Vec<_> = (0..number / 4)
        .map(|number| put(&store, stage(1), 20_000 + number).expect("there is room for other files"))
        .collect();
    store.commit(stage(1), &more).expect("there is room for other files");
    drop(store);
    let store = PackedStore::open(&place, settings).expect("it opens on a nearly full disk");
    for entry in wanted.iter().chain(&more) {
        assert!(store.has_all_of(stage(1), entry), "{}", entry.entry.path.escape_ascii());
    }
    for bytes in (0..wanted.len() as u64).flat_map(chunks) {
        assert_eq!(store.read(&ChunkHash::of(&bytes)).expect("it was committed"), bytes);
    }
}

/// Other processes take the space while chunks are buffered, and parts of incomplete files are between them.
#[test]
fn chunks_given_up_on_a_full_disk_never_count_as_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = dir.path().join("disk");
    let _mounted = SmallDisk::mount(&disk, DISK_BYTES);
    let store =
        PackedStore::open(&disk.join("packed"), PackedConfig { reserve_bytes: 0, ..PackedConfig::default() })
            .expect("a store");
    store.begin_stage(stage(1)).expect("there is room for a stage");
    let put_file = |number| put(&store, stage(1), number).expect("it is held back in memory");
    let part = put_file(10_000);
    let whole = put_file(1);
    let parts: Vec<_> = (10_001..10_004).map(put_file).collect();
    let filler = disk.join("filler");
    fill(&filler);

    store.give_up_unneeded(&[&whole]);
    let refused = store.commit(stage(1), std::slice::from_ref(&whole)).expect_err("nothing fits");
    assert!(refused.is_full(), "{refused}");
    // Some may have been written nevertheless, into a block that the file had.
    for chunk in [&part, &whole].into_iter().chain(&parts).flat_map(|entry| &entry.chunks) {
        if store.contains(stage(1), &[chunk.hash]).expect("the vault answers")[0] {
            store.read(&chunk.hash).expect("it counts as stored");
        }
    }
    store.commit(stage(1), std::slice::from_ref(&whole)).expect_err("its chunks must be sent again");

    std::fs::remove_file(filler).expect("the filler is removed");
    let again = put_file(1);
    store.commit(stage(1), std::slice::from_ref(&again)).expect("there is room again");
    for bytes in chunks(1) {
        assert_eq!(store.read(&ChunkHash::of(&bytes)).expect("it was committed"), bytes);
    }
}

/// Writes until nothing more fits.
fn fill(path: &std::path::Path) {
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}
