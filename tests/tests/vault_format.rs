//! docs/format.md is correct about a vault's files: a reader that was written from it, in another language, finds
//! exactly the stored content in a real vault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_star::packed::PackedStore;
use orbit_tests::vault::{chunks, config, files_of, meta, put, stage};

/// The lines that the reader prints, divided into words.
fn read(store: &Path) -> Vec<Vec<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_containers.py");
    let output = Command::new("python3").arg(script).arg(store).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

#[test]
fn an_independent_reader_reads_every_chunk_and_file_of_a_vault() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = PackedStore::open(dir.path(), config()).expect("a store");
    for job in 1..=2 {
        let entries: Vec<_> =
            files_of(job).map(|number| put(&store, stage(job), number).expect("stored")).collect();
        store.commit(stage(job), &entries).expect("a commit");
        store.seal(stage(job), &meta(job)).expect("a snapshot");
    }
    let containers = store.containers().expect("containers");
    assert!(containers.len() > 1 && containers.iter().any(|container| !container.is_sealed), "both kinds");
    let snapshots = store.snapshots();
    let totals = store.totals().expect("totals");
    let places: BTreeMap<String, _> = (1..=2)
        .flat_map(files_of)
        .flat_map(chunks)
        .map(|bytes| {
            let hash = ChunkHash::of(&bytes);
            (hash.to_string(), store.locate(&hash).expect("an answer").expect("a place"))
        })
        .collect();
    drop(store);

    let lines = read(dir.path());
    let of_kind = |kind: &str| lines.iter().filter(|line| line[0] == kind).cloned().collect::<Vec<_>>();
    let listed = of_kind("chunk");
    assert_eq!(listed.iter().map(|line| &line[1]).collect::<BTreeSet<_>>().len() as u64, totals.chunk_count);
    assert!(listed.iter().any(|line| line[6] == "raw") && listed.iter().any(|line| line[6] == "zstd"));
    for (hash, place) in places {
        let numbers = [place.offset, u64::from(place.stored_length), u64::from(place.length)];
        let fields = [vec![place.container_id], numbers.map(|number| number.to_string()).to_vec()].concat();
        assert!(listed.iter().any(|line| line[1] == hash && line[2..6] == fields), "{hash}: {fields:?}");
    }
    let mut expected = BTreeSet::new();
    for record in snapshots {
        for number in files_of(record.stage.job.0) {
            let path: String = format!("f{number:04}").bytes().map(|byte| format!("{byte:02x}")).collect();
            let digest = ChunkHash::of(&chunks(number).concat()).to_string();
            expected
                .insert([record.id.to_string(), path, "0".to_owned(), "0o644".to_owned(), digest].to_vec());
        }
    }
    let found: BTreeSet<Vec<String>> = of_kind("path").into_iter().map(|line| line[1..].to_vec()).collect();
    assert_eq!(found, expected);
}
