use std::io::{self, BufReader, Cursor, Write};

use proptest::prelude::*;

use super::*;

fn star() -> StarId {
    StarId::new("star-2").unwrap()
}

fn full_event() -> ProvenanceEvent {
    ProvenanceEvent::new(ProvenanceType::ChunkTransferred, JobId(42))
        .with_event_id(7)
        .with_time(WallTime { seconds: 1_700_000_000, nanos: 5 })
        .with_item(ItemId { job: JobId(42), destination: 1, sequence: 9 })
        .with_star(star())
        .with_chunk_hash(ChunkHash::of(b"abc"))
        .with_source("/data/file.bin")
        .with_destination("star-2:/backup/file.bin")
        .with_bytes(65_536)
        .with_duration_ms(150)
        .with_error("none really")
        .with_context("codec", "zstd")
}

fn numbered(event_id: u64) -> ProvenanceEvent {
    ProvenanceEvent::new(ProvenanceType::FileCompleted, JobId(1)).with_event_id(event_id)
}

fn log_of(events: &[ProvenanceEvent]) -> Vec<u8> {
    let mut log = Vec::new();
    let mut writer = ProvenanceWriter::new(&mut log);
    for event in events {
        writer.log(event).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    log
}

fn events_of(log: &[u8]) -> Vec<ProvenanceEvent> {
    parse(log).map(Result::unwrap).collect()
}

/// Ids of the good lines and faults of the bad ones, in order.
fn outline(log: &[u8]) -> Vec<Result<u64, BadLine>> {
    let read = parse(log).map(|line| match line {
        Ok(event) => Ok(event.event_id),
        Err(ProvenanceReadError::BadLine(bad)) => Err(bad),
        Err(ProvenanceReadError::Io(error)) => panic!("{error}"),
    });
    read.collect()
}

#[test]
fn a_type_is_its_name_in_text_and_json() {
    for event_type in ProvenanceType::ALL {
        assert_eq!(serde_json::to_string(&event_type).unwrap(), format!("\"{event_type}\""));
        assert_eq!(event_type.as_str().parse(), Ok(event_type));
    }
    assert_eq!(ProvenanceType::ChunkDeadLettered.as_str(), "chunk_dead_lettered");
    assert!("chunk_lost".parse::<ProvenanceType>().is_err());
}

#[test]
fn there_are_twenty_types_in_four_categories() {
    let count = |category| ProvenanceType::ALL.iter().filter(|kind| kind.category() == category).count();
    assert_eq!(count(ProvenanceCategory::Chunk), 8);
    assert_eq!(count(ProvenanceCategory::File), 4);
    assert_eq!(count(ProvenanceCategory::Job), 4);
    assert_eq!(count(ProvenanceCategory::Grid), 4);
    assert_eq!(ProvenanceType::ALL.into_iter().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn chunk_and_job_events_are_distinguished() {
    assert!(ProvenanceType::ChunkPacked.is_chunk_event() && !ProvenanceType::ChunkPacked.is_job_event());
    assert!(ProvenanceType::JobFailed.is_job_event() && !ProvenanceType::JobFailed.is_chunk_event());
}

#[test]
fn file_events_are_neither_chunk_nor_job_events() {
    let kind = ProvenanceType::FileSkipped;
    assert!(kind.is_file_event() && !kind.is_chunk_event() && !kind.is_job_event() && !kind.is_grid_event());
}

#[test]
fn star_events_are_grid_events_only() {
    let kind = ProvenanceType::StarDraining;
    assert!(kind.is_grid_event() && !kind.is_chunk_event() && !kind.is_job_event() && !kind.is_file_event());
}

#[test]
fn the_builder_sets_every_field() {
    let event = full_event();
    assert_eq!((event.event_id, event.job_id, event.star_id.as_ref()), (7, Some(JobId(42)), Some(&star())));
    assert_eq!((event.bytes, event.duration_ms), (Some(65_536), Some(150)));
    assert_eq!(event.source.as_deref(), Some("/data/file.bin"));
    assert_eq!(event.destination.as_deref(), Some("star-2:/backup/file.bin"));
    assert_eq!(event.chunk_hash, Some(ChunkHash::of(b"abc")));
    assert_eq!(event.item.unwrap().to_string(), "42/1/9");
    assert_eq!(event.time.nanos, 5);
}

#[test]
fn an_error_is_kept_as_text() {
    let event = ProvenanceEvent::new(ProvenanceType::JobFailed, JobId(1)).with_error("disk full");
    assert_eq!(event.error.as_deref(), Some("disk full"));
}

#[test]
fn a_grid_event_needs_no_job() {
    let event = ProvenanceEvent::new(ProvenanceType::StarRegistered, None).with_star(star());
    assert_eq!(event.job_id, None);
    assert_eq!(events_of(&log_of(std::slice::from_ref(&event))), [event]);
}

#[test]
fn an_item_sets_its_job() {
    let item = ItemId { job: JobId(5), destination: 0, sequence: 1 };
    let event = ProvenanceEvent::new(ProvenanceType::FileStarted, None).with_item(item);
    assert_eq!(event.job_id, Some(JobId(5)));
}

#[test]
fn context_keeps_many_keys_and_the_last_value_of_each() {
    let event = numbered(1).with_context("b", "1").with_context("a", "2").with_context("b", "3");
    let pairs: Vec<_> = event.context.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("a", "2"), ("b", "3")]);
}

#[test]
fn an_event_round_trips_with_all_its_fields() {
    assert_eq!(events_of(&log_of(&[full_event()])), [full_event()]);
    let json = serde_json::to_value(full_event()).unwrap();
    assert_eq!(json["item"], "42/1/9");
    assert_eq!(json["event_type"], "chunk_transferred");
}

#[test]
fn absent_fields_are_left_out_of_the_line() {
    let log = String::from_utf8(log_of(&[numbered(3)])).unwrap();
    let start =
        r#"{"event_id":3,"event_type":"file_completed","time":{"seconds":0,"nanos":0},"job_id":1,"check":""#;
    assert!(log.starts_with(start), "{log}");
    assert!(log.ends_with("\"}\n"));
}

#[test]
fn every_type_round_trips() {
    let events: Vec<_> = ProvenanceType::ALL.map(|kind| ProvenanceEvent::new(kind, JobId(1))).into();
    assert_eq!(events_of(&log_of(&events)), events);
}

#[test]
fn one_event_is_one_line_even_with_line_feeds_in_its_text() {
    let event = numbered(1).with_error("two\nlines\r\nand \"quotes\"");
    let log = log_of(&[event.clone(), numbered(2), numbered(3)]);
    assert_eq!(log.iter().filter(|byte| **byte == b'\n').count(), 3);
    assert_eq!(events_of(&log)[0], event);
}

#[test]
fn an_empty_log_has_no_events() {
    assert_eq!(outline(b""), []);
}

#[test]
fn empty_lines_are_skipped_but_counted() {
    let mut log = b"\n\n".to_vec();
    log.extend(log_of(&[numbered(1)]));
    log.extend(b"\nrubbish\n");
    let outline = outline(&log);
    assert_eq!(outline[0], Ok(1));
    assert_eq!(outline[1].as_ref().unwrap_err().line_no, 5);
    assert_eq!(outline.len(), 2);
}

#[test]
fn a_bad_line_is_reported_with_its_place_and_the_rest_is_read() {
    let first = log_of(&[numbered(1)]);
    let mut log = first.clone();
    log.extend(b"{\"half\": \n");
    log.extend(log_of(&[numbered(2)]));
    let bad = BadLine { line_no: 2, offset: first.len() as u64, fault: LineFault::Check };
    assert!(!bad.is_torn_tail());
    assert_eq!(outline(&log), [Ok(1), Err(bad), Ok(2)]);
}

#[test]
fn a_complete_line_of_another_version_is_not_reported_as_damage() {
    let mut json = br#"{"event_type":"chunk_teleported","time":{"seconds":0,"nanos":0}}"#.to_vec();
    let check = crc32fast::hash(&json);
    json.pop();
    json.extend(format!(",\"check\":\"{check:08x}\"}}").into_bytes());
    assert!(matches!(parse_line(&json), Err(LineFault::NotAnEvent { .. })));
}

#[test]
fn a_torn_tail_is_reported_at_every_length() {
    let first = log_of(&[numbered(1)]);
    let log = log_of(&[numbered(1), full_event()]);
    for length in first.len() + 1..log.len() {
        let outline = outline(&log[..length]);
        assert_eq!(outline.len(), 2, "{length}");
        assert_eq!(outline[0], Ok(1));
        let bad = outline[1].as_ref().unwrap_err();
        assert!(bad.is_torn_tail() && bad.line_no == 2 && bad.offset == first.len() as u64);
    }
}

#[test]
fn appending_after_recovery_starts_a_new_line() {
    let whole = log_of(&[numbered(1), numbered(2)]);
    for length in 0..=whole.len() {
        let mut log = whole[..length].to_vec();
        let keep = recover_tail(&mut Cursor::new(&log)).unwrap();
        log.truncate(usize::try_from(keep).unwrap());
        log.extend(log_of(&[numbered(3)]));
        let outline = outline(&log);
        assert!(outline.iter().all(Result::is_ok), "{length}");
        assert_eq!(outline.last(), Some(&Ok(3)));
        assert_eq!(outline.len() - 1, whole[..length].iter().filter(|byte| **byte == b'\n').count());
    }
}

#[test]
fn recovery_looks_back_over_many_blocks() {
    let mut log = b"line\n".to_vec();
    log.extend(vec![b'x'; 200_000]);
    assert_eq!(recover_tail(&mut Cursor::new(&log)).unwrap(), 5);
    assert_eq!(recover_tail(&mut Cursor::new(&log[5..])).unwrap(), 0);
    assert_eq!(recover_tail(&mut Cursor::new(&log[..5])).unwrap(), 5);
}

#[test]
fn a_line_that_is_too_long_is_refused_by_the_writer_and_skipped_by_the_reader() {
    let mut sink = Vec::new();
    let mut writer = ProvenanceWriter::new(&mut sink);
    let huge = numbered(1).with_error("x".repeat(PROVENANCE_LINE_BYTES_MAX));
    assert_eq!(writer.log(&huge).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    drop(writer);
    assert!(sink.is_empty());

    let mut log = vec![b'x'; PROVENANCE_LINE_BYTES_MAX * 3];
    log.push(b'\n');
    log.extend(log_of(&[numbered(2)]));
    let outline = outline(&log);
    assert_eq!(outline[0].as_ref().unwrap_err().fault, LineFault::TooLong);
    assert_eq!(outline[1], Ok(2));
}

/// Accepts `room` bytes and then fails until more room is given.
struct Tight {
    written: Vec<u8>,
    room: usize,
}

impl Write for &mut Tight {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = bytes.len().min(self.room);
        self.room -= count;
        self.written.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_fails_in_the_middle_of_a_line_loses_and_repeats_nothing() {
    let expected = log_of(&[numbered(1), full_event()]);
    for room in 1..expected.len() {
        let mut sink = Tight { written: Vec::new(), room };
        let mut writer = ProvenanceWriter::new(&mut sink);
        writer.log(&numbered(1)).unwrap();
        writer.log(&full_event()).unwrap();
        assert!(writer.flush().is_err());
        writer.sink_mut().room = usize::MAX;
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(sink.written, expected);
    }
}

#[test]
fn a_failing_sink_makes_the_writer_refuse_before_memory_grows() {
    let mut sink = Tight { written: Vec::new(), room: 0 };
    let mut writer = ProvenanceWriter::new(&mut sink);
    let event = numbered(1).with_error("x".repeat(10_000));
    let accepted = (0..100).take_while(|_| writer.log(&event).is_ok()).count();
    assert_eq!(accepted, 7);
}

#[test]
fn few_large_writes_are_made_for_many_events() {
    struct Counting(usize);
    impl Write for &mut Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Counting(0);
    let mut writer = ProvenanceWriter::new(&mut sink);
    for id in 0..1000 {
        writer.log(&numbered(id)).unwrap();
    }
    drop(writer);
    assert!((1..10).contains(&sink.0), "{}", sink.0);
}

#[test]
fn a_reader_ends_after_an_input_error() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Other.into())
        }
    }
    let mut reader = ProvenanceReader::new(BufReader::new(Broken));
    assert!(matches!(reader.next(), Some(Err(ProvenanceReadError::Io(_)))));
    assert!(reader.next().is_none());
}

#[test]
fn an_empty_filter_matches_everything() {
    assert!(ProvenanceFilter::default().matches(&full_event()));
    assert!(ProvenanceFilter::default().matches(&numbered(0)));
}

#[test]
fn each_part_of_a_filter_can_refuse() {
    let event = full_event();
    let time = event.time;
    let later = WallTime { nanos: 6, ..time };
    let wants = |filter: ProvenanceFilter| filter.matches(&event);
    let all = ProvenanceFilter::default;
    assert!(wants(ProvenanceFilter { job_id: event.job_id, ..all() }));
    assert!(!wants(ProvenanceFilter { job_id: Some(JobId(1)), ..all() }));
    assert!(wants(ProvenanceFilter { item: event.item, ..all() }));
    assert!(!wants(ProvenanceFilter { item: Some(ItemId::default()), ..all() }));
    assert!(wants(ProvenanceFilter { chunk_hash: event.chunk_hash, ..all() }));
    assert!(!wants(ProvenanceFilter { chunk_hash: Some(ChunkHash::of(b"")), ..all() }));
    assert!(wants(ProvenanceFilter { star_id: Some(star()), ..all() }));
    assert!(!wants(ProvenanceFilter { star_id: StarId::new("star-1").ok(), ..all() }));
    assert!(wants(ProvenanceFilter { event_types: [event.event_type].into(), ..all() }));
    assert!(!wants(ProvenanceFilter { event_types: [ProvenanceType::ChunkPacked].into(), ..all() }));
    assert!(wants(ProvenanceFilter { from: Some(time), until: Some(later), ..all() }));
    assert!(!wants(ProvenanceFilter { from: Some(later), ..all() }));
    assert!(!wants(ProvenanceFilter { until: Some(time), ..all() }));
    assert!(wants(ProvenanceFilter { after_event_id: Some(6), ..all() }));
    assert!(!wants(ProvenanceFilter { after_event_id: Some(7), ..all() }));
    assert!(wants(ProvenanceFilter { event_id: Some(7), ..all() }));
    assert!(!wants(ProvenanceFilter { event_id: Some(8), ..all() }));
    assert!(wants(ProvenanceFilter { source: event.source.clone(), ..all() }));
    assert!(!wants(ProvenanceFilter { source: Some("star-1:/other".to_owned()), ..all() }));
    assert!(wants(ProvenanceFilter { destination: event.destination.clone(), ..all() }));
    assert!(!wants(ProvenanceFilter { destination: Some("star-1:/other".to_owned()), ..all() }));
    let (bytes, took) = (event.bytes.unwrap(), event.duration_ms.unwrap());
    let between = |min: u64, max: u64| Bounds { min: Some(min), max: Some(max) };
    assert!(wants(ProvenanceFilter { bytes: between(bytes, bytes), ..all() }));
    assert!(!wants(ProvenanceFilter { bytes: Bounds { min: Some(bytes + 1), max: None }, ..all() }));
    assert!(!wants(ProvenanceFilter { bytes: Bounds { min: None, max: Some(bytes - 1) }, ..all() }));
    assert!(wants(ProvenanceFilter { duration_ms: between(took, took), ..all() }));
    assert!(!wants(ProvenanceFilter { duration_ms: Bounds { min: Some(took + 1), max: None }, ..all() }));
    assert!(!wants(ProvenanceFilter { duration_ms: Bounds { min: None, max: Some(took - 1) }, ..all() }));
    let part = event.error.as_ref().unwrap()[1..].to_owned();
    assert!(wants(ProvenanceFilter { error: Some(part), has_error: Some(true), ..all() }));
    assert!(!wants(ProvenanceFilter { error: Some("no such error".to_owned()), ..all() }));
    assert!(!wants(ProvenanceFilter { has_error: Some(false), ..all() }));
    let bare = numbered(1);
    assert!(!ProvenanceFilter { star_id: Some(star()), ..all() }.matches(&bare));
    assert!(ProvenanceFilter { has_error: Some(false), ..all() }.matches(&bare));
    assert!(!ProvenanceFilter { error: Some(String::new()), ..all() }.matches(&bare));
    let any = Bounds { min: Some(0), max: None };
    assert!(!ProvenanceFilter { bytes: any, ..all() }.matches(&bare));
    assert!(!ProvenanceFilter { duration_ms: any, ..all() }.matches(&bare));
}

proptest! {
    #[test]
    fn any_event_round_trips(
        kind in prop::sample::select(&ProvenanceType::ALL[..]),
        job in any::<Option<u64>>(),
        text in any::<Option<String>>(),
        bytes in any::<Option<u64>>(),
        context in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let mut event = ProvenanceEvent::new(kind, job.map(JobId));
        event.error = text.clone();
        event.source = text;
        event.bytes = bytes;
        event.context = context;
        prop_assert_eq!(events_of(&log_of(std::slice::from_ref(&event))), vec![event]);
    }

    #[test]
    fn one_changed_byte_never_passes_for_an_event(index in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut log = log_of(&[numbered(1), full_event(), numbered(3)]);
        let index = index.index(log.len());
        log[index] ^= flip;
        let mut bad_count = 0;
        for line in parse(&log) {
            match line {
                Ok(event) => prop_assert!([numbered(1), full_event(), numbered(3)].contains(&event)),
                Err(_) => bad_count += 1,
            }
        }
        prop_assert!(bad_count > 0);
    }

    #[test]
    fn rubbish_never_panics(log in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(parse(&log).all(|line| line.is_err()));
    }
}
