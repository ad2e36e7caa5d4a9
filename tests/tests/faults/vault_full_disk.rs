//! A vault on a full disk: what is stored stays readable, and garbage can be collected to make room again.

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

    // Garbage, until nothing fits any more.
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
