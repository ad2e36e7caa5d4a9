use std::fs;
use std::io::Write;

use tempfile::TempDir;

use super::*;

const LARGE: u64 = 1 << 20;
const CHUNKS: [&[u8]; 4] = [b"first chunk", b"", b"second", b"the third chunk"];

/// Uncompressed chunks, written and read by their references.
trait AppendChunk {
    fn append_chunk(&mut self, bytes: &[u8]) -> Result<PackedChunkRef, ContainerError>;
}

impl AppendChunk for ContainerWriter {
    fn append_chunk(&mut self, bytes: &[u8]) -> Result<PackedChunkRef, ContainerError> {
        let entry = self.append_stored(ChunkHash::of(bytes), &Stored::raw(bytes))?;
        let container_id = self.container_id().to_owned();
        Ok(PackedChunkRef { container_id, offset: entry.offset, length: entry.length })
    }
}

fn read_chunk(
    reader: &ContainerReader,
    chunk_ref: &PackedChunkRef,
    hash: &ChunkHash,
) -> Result<Vec<u8>, ContainerError> {
    let PackedChunkRef { offset, length, .. } = *chunk_ref;
    reader.read_entry(&ContainerEntry { hash: *hash, offset, length, raw_length: length })
}

/// Bytes of its chunks.
fn size(writer: &ContainerWriter) -> u64 {
    writer.entries().iter().map(|entry| u64::from(entry.length)).sum()
}

fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn container_in(dir: &TempDir) -> PathBuf {
    dir.path().join("box-1.orbitpak")
}

/// Writes `CHUNKS` and syncs.
fn filled(path: &Path) -> (ContainerWriter, Vec<PackedChunkRef>) {
    let mut writer = ContainerWriter::create(path, LARGE).unwrap();
    let refs = CHUNKS.iter().map(|chunk| writer.append_chunk(chunk).unwrap()).collect();
    writer.sync().unwrap();
    (writer, refs)
}

fn read(path: &Path, chunk_ref: &PackedChunkRef, chunk: &[u8]) -> Result<Vec<u8>, ContainerError> {
    read_chunk(&ContainerReader::open(path)?, chunk_ref, &ChunkHash::of(chunk))
}

/// Whether all of `CHUNKS` are listed and can be read.
fn is_whole(path: &Path) -> bool {
    let Ok(reader) = ContainerReader::open(path) else { return false };
    let Ok(entries) = reader.entries() else { return false };
    let are_listed =
        entries.iter().map(|entry| entry.hash).eq(CHUNKS.iter().map(|chunk| ChunkHash::of(chunk)));
    are_listed && entries.iter().all(|entry| reader.read_entry(entry).is_ok())
}

#[test]
fn two_chunks_follow_the_header_and_can_be_read() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let mut writer = ContainerWriter::create(&path, LARGE).unwrap();
    let first = writer.append_chunk(b"hello world").unwrap();
    let second = writer.append_chunk(b"again").unwrap();
    assert_eq!((first.offset, first.length, second.offset, second.length), (16, 11, 27, 5));
    assert_eq!(read(&path, &first, b"hello world").unwrap(), b"hello world");
    assert_eq!(read(&path, &second, b"again").unwrap(), b"again");
    assert_eq!(writer.chunks_written(), 2);
}

#[test]
fn the_header_is_the_one_of_the_specification() {
    let dir = temp_dir();
    filled(&container_in(&dir));
    assert_eq!(&fs::read(container_in(&dir)).unwrap()[..16], b"ORBITPAK\0\x01\0\0\0\0\0\0");
}

#[test]
fn the_id_is_the_files_stem() {
    let dir = temp_dir();
    let (writer, refs) = filled(&container_in(&dir));
    assert_eq!(writer.container_id(), "box-1");
    assert!(refs.iter().all(|chunk_ref| chunk_ref.container_id == "box-1"));
}

#[test]
fn a_reference_round_trips_through_json() {
    let chunk_ref = PackedChunkRef { container_id: "abc123".to_owned(), offset: 16, length: 65_536 };
    let json = serde_json::to_string(&chunk_ref).unwrap();
    assert_eq!(json, r#"{"container_id":"abc123","offset":16,"length":65536}"#);
    assert_eq!(serde_json::from_str::<PackedChunkRef>(&json).unwrap(), chunk_ref);
}

#[test]
fn a_container_takes_exactly_what_fits() {
    let dir = temp_dir();
    let mut writer = ContainerWriter::create(container_in(&dir), 100).unwrap();
    writer.append_chunk(&[1; 60]).unwrap();
    assert!(writer.has_capacity(40) && !writer.has_capacity(41) && !writer.has_capacity(u64::MAX));
    writer.append_chunk(&[2; 40]).unwrap();
    assert!(matches!(writer.append_chunk(b"x"), Err(ContainerError::Full { .. })));
    writer.append_chunk(b"").unwrap();
}

#[test]
fn a_length_beyond_32_bits_is_refused_and_not_truncated() {
    use super::writer::chunk_length;
    let limit = u64::from(u32::MAX);
    assert_eq!(chunk_length(limit, u64::MAX).unwrap(), u32::MAX);
    let refused = chunk_length(limit + 1, u64::MAX).unwrap_err();
    assert!(matches!(refused, ContainerError::ChunkTooLarge { max_bytes, .. } if max_bytes == limit));
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let dir = temp_dir();
    let path = container_in(&dir);
    filled(&path).0.seal().unwrap();
    assert!(matches!(ContainerWriter::create(&path, LARGE), Err(ContainerError::Io { .. })));
    assert!(is_whole(&path));
    assert!(!journal_path(&path).exists(), "a journal would open the sealed container again");
}

#[test]
fn a_name_that_is_no_container_is_refused() {
    let dir = temp_dir();
    for name in ["a.pack", "orbitpak", ".orbitpak", "a b.orbitpak", "é.orbitpak", "a.b.orbitpak"] {
        let created = ContainerWriter::create(dir.path().join(name), LARGE);
        assert!(matches!(created, Err(ContainerError::BadName { .. })), "{name}");
    }
}

#[test]
fn missing_files_are_errors() {
    let path = Path::new("/nonexistent/a.orbitpak");
    assert!(matches!(ContainerReader::open(path), Err(ContainerError::Io { .. })));
    assert!(matches!(ContainerWriter::open_append(path, LARGE), Err(ContainerError::Io { .. })));
}

#[test]
fn a_file_of_another_kind_version_or_length_is_refused() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        ContainerReader::open(&path).map(|_| ()).unwrap_err()
    };
    assert!(matches!(open(b"NOTAPACK\0\x01\0\0\0\0\0\0"), ContainerError::BadMagic { .. }));
    assert!(matches!(open(b"ORBITPAK"), ContainerError::BadMagic { .. }));
    assert!(matches!(open(b""), ContainerError::BadMagic { .. }));
    let later = open(b"ORBITPAK\0\x02\0\0\0\0\0\0");
    assert!(matches!(later, ContainerError::UnsupportedVersion { version: 2, .. }));
    assert!(matches!(open(b"ORBITPAK\0\x01\0\0\0\0\0\x07"), ContainerError::Damaged { .. }));
}

#[test]
fn references_into_the_header_or_past_the_end_are_refused() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (_writer, refs) = filled(&path);
    let good = &refs[0];
    let bad = [
        PackedChunkRef { offset: 0, ..good.clone() },
        PackedChunkRef { offset: 15, ..good.clone() },
        PackedChunkRef { offset: 1 << 40, ..good.clone() },
        PackedChunkRef { offset: u64::MAX, ..good.clone() },
        PackedChunkRef { length: u32::MAX, ..good.clone() },
    ];
    for chunk_ref in bad {
        let refused = read(&path, &chunk_ref, CHUNKS[0]);
        assert!(matches!(refused, Err(ContainerError::OutOfBounds { .. })), "{chunk_ref:?}");
    }
}

#[test]
fn chunks_can_be_read_repeatedly_in_any_order_and_by_many_threads() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (_writer, refs) = filled(&path);
    let reader = ContainerReader::open(&path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in [3, 0, 2, 1, 0, 3].into_iter().cycle().take(300) {
                    let read = read_chunk(&reader, &refs[index], &ChunkHash::of(CHUNKS[index]));
                    assert_eq!(read.unwrap(), CHUNKS[index]);
                }
            });
        }
    });
}

#[test]
fn appending_continues_after_the_old_chunks() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, refs) = filled(&path);
    let end = 16 + size(&writer);
    drop(writer);
    let mut writer = ContainerWriter::open_append(&path, LARGE).unwrap();
    assert_eq!((writer.recovery(), writer.chunks_written()), (Recovery::default(), 4));
    let next = writer.append_chunk(b"more").unwrap();
    assert_eq!(next.offset, end);
    assert_eq!(read(&path, &refs[3], CHUNKS[3]).unwrap(), CHUNKS[3]);
    assert_eq!(read(&path, &next, b"more").unwrap(), b"more");
}

#[test]
fn chunks_that_were_not_synced_are_cut_off_when_the_container_is_opened_again() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (mut writer, _) = filled(&path);
    writer.append_chunk(b"never synced").unwrap();
    drop(writer);
    let writer = ContainerWriter::open_append(&path, LARGE).unwrap();
    assert_eq!(writer.recovery().data_bytes_cut, 12);
    assert!(is_whole(&path));
}

#[test]
fn a_sealed_container_lists_its_chunks_and_takes_no_more() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, refs) = filled(&path);
    writer.seal().unwrap();
    assert!(is_whole(&path) && !journal_path(&path).exists());
    assert_eq!(read(&path, &refs[2], CHUNKS[2]).unwrap(), CHUNKS[2]);
    let reopened = ContainerWriter::open_append(&path, LARGE);
    assert!(matches!(reopened, Err(ContainerError::Sealed { .. })));
}

#[test]
fn a_crash_while_sealing_leaves_an_open_container() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, _) = filled(&path);
    let journal = fs::read(journal_path(&path)).unwrap();
    writer.seal().unwrap();
    let sealed = fs::read(&path).unwrap();
    let data_end = 16 + CHUNKS.concat().len();
    for length in data_end..=sealed.len() {
        fs::write(&path, &sealed[..length]).unwrap();
        fs::write(journal_path(&path), &journal).unwrap();
        ContainerWriter::open_append(&path, LARGE).unwrap().seal().unwrap();
        assert_eq!(fs::read(&path).unwrap(), sealed, "{length}");
    }
}

#[test]
fn bytes_of_a_failed_append_do_not_hide_the_index() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, _) = filled(&path);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[7; 5_000]).unwrap();
    writer.seal().unwrap();
    assert!(is_whole(&path));
}

#[test]
fn an_interrupted_creation_is_completed() {
    let dir = temp_dir();
    let path = container_in(&dir);
    drop(ContainerWriter::create(&path, LARGE).unwrap());
    for length in 0..16 {
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let mut writer = ContainerWriter::open_append(&path, LARGE).unwrap();
        assert_eq!(writer.append_chunk(b"x").unwrap().offset, 16);
    }
}

#[test]
fn every_changed_byte_of_a_sealed_container_is_found() {
    let dir = temp_dir();
    let path = container_in(&dir);
    filled(&path).0.seal().unwrap();
    let sealed = fs::read(&path).unwrap();
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        assert!(!is_whole(&path), "byte {index} was changed without being noticed");
    }
}

#[test]
fn a_damaged_list_does_not_lose_the_chunks() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, refs) = filled(&path);
    writer.seal().unwrap();
    let mut changed = fs::read(&path).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, changed).unwrap();
    assert!(ContainerReader::open(&path).unwrap().entries().is_err());
    assert_eq!(read(&path, &refs[0], CHUNKS[0]).unwrap(), CHUNKS[0]);
}

#[test]
fn a_changed_byte_of_the_journal_loses_at_most_its_record() {
    let dir = temp_dir();
    let path = container_in(&dir);
    drop(filled(&path));
    let (data, journal) = (fs::read(&path).unwrap(), fs::read(journal_path(&path)).unwrap());
    assert_eq!(journal.len(), 16 + 4 * 56);
    for index in 0..journal.len() {
        fs::write(&path, &data).unwrap();
        let mut changed = journal.clone();
        changed[index] ^= 0x10;
        fs::write(journal_path(&path), changed).unwrap();
        let opened = ContainerWriter::open_append(&path, LARGE);
        let Some(record) = index.checked_sub(16).map(|offset| offset / 56) else {
            assert!(matches!(opened, Err(ContainerError::Damaged { .. })));
            continue;
        };
        let writer = opened.unwrap();
        let expected = (0..4).filter(|other| *other != record).map(|other| ChunkHash::of(CHUNKS[other]));
        assert!(writer.entries().iter().map(|entry| entry.hash).eq(expected), "{index}");
        let recovery = writer.recovery();
        assert_eq!(
            (recovery.damaged_record_count, recovery.journal_bytes_cut > 0),
            if record == 3 { (0, true) } else { (1, false) }
        );
    }
}

#[test]
fn a_record_with_a_decreasing_offset_is_ignored() {
    let dir = temp_dir();
    let path = container_in(&dir);
    drop(filled(&path));
    let mut journal = fs::read(journal_path(&path)).unwrap();
    let first = journal[16..16 + 56].to_vec();
    journal.extend(first);
    fs::write(journal_path(&path), journal).unwrap();
    let writer = ContainerWriter::open_append(&path, LARGE).unwrap();
    assert_eq!((writer.chunks_written(), writer.recovery().journal_bytes_cut), (4, 56));
    assert_eq!(size(&writer), CHUNKS.concat().len() as u64);
}

#[test]
fn a_last_chunk_that_differs_from_its_record_is_cut_off() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, refs) = filled(&path);
    drop(writer);
    let mut data = fs::read(&path).unwrap();
    *data.last_mut().unwrap() ^= 1;
    fs::write(&path, data).unwrap();
    let mut writer = ContainerWriter::open_append(&path, LARGE).unwrap();
    assert_eq!(writer.chunks_written(), 3);
    assert_eq!(writer.append_chunk(b"new").unwrap().offset, refs[3].offset);
}

#[test]
fn truncation_of_a_sealed_container_never_yields_wrong_bytes() {
    let dir = temp_dir();
    let path = container_in(&dir);
    let (writer, refs) = filled(&path);
    writer.seal().unwrap();
    let sealed = fs::read(&path).unwrap();
    for length in 0..sealed.len() {
        fs::write(&path, &sealed[..length]).unwrap();
        for (chunk_ref, chunk) in refs.iter().zip(CHUNKS) {
            let end = chunk_ref.offset + u64::from(chunk_ref.length);
            match read(&path, chunk_ref, chunk) {
                Ok(bytes) => assert!(bytes == chunk && end <= length as u64),
                Err(_) => assert!(end > length as u64, "{length}"),
            }
        }
        if length >= 16 {
            assert!(ContainerReader::open(&path).unwrap().entries().is_err(), "{length}");
        }
    }
}

#[test]
fn truncation_of_an_open_container_or_its_journal_keeps_a_usable_start() {
    let dir = temp_dir();
    let path = container_in(&dir);
    drop(filled(&path));
    let (data, journal) = (fs::read(&path).unwrap(), fs::read(journal_path(&path)).unwrap());
    let cuts = (0..data.len()).map(|cut| (cut, journal.len()));
    for (data_length, journal_length) in cuts.chain((16..journal.len()).map(|cut| (data.len(), cut))) {
        fs::write(&path, &data[..data_length]).unwrap();
        fs::write(journal_path(&path), &journal[..journal_length]).unwrap();
        let mut writer = ContainerWriter::open_append(&path, LARGE).unwrap();
        let kept = writer.chunks_written();
        writer.append_chunk(b"appended").unwrap();
        writer.seal().unwrap();
        let reader = ContainerReader::open(&path).unwrap();
        let entries = reader.entries().unwrap();
        assert_eq!(entries.len(), kept + 1);
        for (entry, chunk) in entries.iter().zip(CHUNKS[..kept].iter().chain([&&b"appended"[..]])) {
            assert_eq!(reader.read_entry(entry).unwrap(), *chunk);
        }
    }
    for length in 0..16 {
        fs::write(journal_path(&path), &journal[..length]).unwrap();
        assert!(ContainerWriter::open_append(&path, LARGE).is_err());
    }
}
