//! The provenance log: one line of JSON for each event, with a checksum.
//!
//! The last member of every line is `"check"`, the CRC-32 (IEEE 802.3) of the line without that member, in 8
//! hexadecimal digits. JSON that a disk has changed is often still valid JSON; the check finds it. Two events are
//! written per item, so the check must cost next to nothing. It is no protection against intentional changes.
//!
//! A line that a crash has truncated is reported, never skipped silently. [`recover_tail`] returns where to cut before
//! appending, since otherwise the next event would be joined to it and both would be lost.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use super::ProvenanceEvent;

/// Maximum length of a line in bytes, without its line feed. A longer one is refused on writing and on reading.
pub const PROVENANCE_LINE_BYTES_MAX: usize = 256 * 1024;

/// Size in bytes of the pieces that are passed to the sink, approximately.
const BUFFER_BYTES: usize = 64 * 1024;

const CHECK_DIGITS: usize = 8;
const CHECK_PREFIX: &[u8] = b",\"check\":\"";
const CHECK_SUFFIX: &[u8] = b"\"}";
const CHECK_BYTES: usize = CHECK_PREFIX.len() + CHECK_DIGITS + CHECK_SUFFIX.len();

/// Writes events to a sink, buffered.
///
/// A failed write loses nothing: the rest stays in the buffer, and the next attempt continues at the byte at which the
/// last one stopped. When the writer is dropped, it tries to write the buffer.
#[derive(Debug)]
pub struct ProvenanceWriter<W: Write> {
    sink: W,
    buffer: Vec<u8>,
}

impl<W: Write> ProvenanceWriter<W> {
    /// A writer to a sink that is at the start of a line: an empty file, or one cut to [`recover_tail`].
    pub fn new(sink: W) -> Self {
        Self { sink, buffer: Vec::new() }
    }

    /// Adds one event. It has reached the sink after [`ProvenanceWriter::flush`].
    ///
    /// # Errors
    ///
    /// The event was not accepted: the sink fails and the buffer is full, or the line would be longer than
    /// [`PROVENANCE_LINE_BYTES_MAX`] (`InvalidInput`).
    pub fn log(&mut self, event: &ProvenanceEvent) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush_buffer()?;
        }
        let start = self.buffer.len();
        let pushed = push_line(&mut self.buffer, event);
        if pushed.is_err() {
            self.buffer.truncate(start);
        }
        pushed
    }

    /// Passes everything to the sink and flushes it. The owner of the sink makes it durable.
    ///
    /// # Errors
    ///
    /// Those of the sink; a further call continues.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()?;
        self.sink.flush()
    }

    /// The sink, for example to sync it.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// The sink, for changes in place. Writing to it would break the order of lines.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            if written == self.buffer.len() {
                break Ok(());
            }
            match self.sink.write(&self.buffer[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.buffer.drain(..written);
        outcome
    }
}

impl<W: Write> Drop for ProvenanceWriter<W> {
    fn drop(&mut self) {
        // There is no receiver for an error; an owner that needs to know calls `flush`.
        let _ = self.flush();
    }
}

/// Adds the line of an event. After an error it may have added part of it.
fn push_line(buffer: &mut Vec<u8>, event: &ProvenanceEvent) -> io::Result<()> {
    let start = buffer.len();
    serde_json::to_writer(&mut *buffer, event)?;
    let check = check_digits(&buffer[start..]);
    let brace = buffer.pop();
    assert_eq!(brace, Some(b'}'), "an event is a JSON object");
    buffer.extend(CHECK_PREFIX);
    buffer.extend(check);
    buffer.extend(CHECK_SUFFIX);
    let length = buffer.len() - start;
    if length > PROVENANCE_LINE_BYTES_MAX {
        let message = format!("a provenance event of {length} bytes, at most {PROVENANCE_LINE_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    buffer.push(b'\n');
    Ok(())
}

fn check_digits(json: &[u8]) -> [u8; CHECK_DIGITS] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let sum = crc32fast::hash(json).to_be_bytes();
    std::array::from_fn(|index| {
        let byte = usize::from(sum[index / 2]);
        DIGITS[if index % 2 == 0 { byte >> 4 } else { byte & 15 }]
    })
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The log ends in the middle of it, as after a crash. Cut it off, see [`recover_tail`].
    #[error("the log ends in the middle of the line")]
    TornTail,
    /// Its checksum is missing or wrong.
    #[error("the line is damaged: its checksum does not match")]
    Check,
    /// Its checksum is right, but this version does not understand it.
    #[error("the line is not a provenance event: {reason}")]
    NotAnEvent {
        /// The error of the JSON reader.
        reason: String,
    },
    /// It is longer than [`PROVENANCE_LINE_BYTES_MAX`].
    #[error("the line is longer than {PROVENANCE_LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// A line that is not an event, and its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line_no} at byte {offset}: {fault}")]
pub struct BadLine {
    /// Its number, from 1, including empty lines.
    pub line_no: u64,
    /// The offset of its first byte.
    pub offset: u64,
    /// The problem.
    pub fault: LineFault,
}

impl BadLine {
    /// Whether it is the torn end of the log and not damage within it.
    pub fn is_torn_tail(&self) -> bool {
        self.fault == LineFault::TornTail
    }
}

/// Why a reader returns no event.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceReadError {
    /// This line is bad; the reader continues with the next one.
    #[error(transparent)]
    BadLine(#[from] BadLine),
    /// The log cannot be read; the reader has ended.
    #[error("the provenance log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads events one by one, in memory bounded by the longest line. Empty lines are skipped.
#[derive(Debug)]
pub struct ProvenanceReader<R> {
    log: R,
    line: Vec<u8>,
    line_no: u64,
    offset: u64,
    has_failed: bool,
}

/// The events of a log that is in memory.
pub fn parse(log: &[u8]) -> ProvenanceReader<&[u8]> {
    ProvenanceReader::new(log)
}

/// The event of one whole line, without its line feed.
///
/// # Errors
///
/// Why it is not an event.
pub fn parse_line(line: &[u8]) -> Result<ProvenanceEvent, LineFault> {
    let members = line.len().checked_sub(CHECK_BYTES).ok_or(LineFault::Check)?;
    let (members, check) = line.split_at(members);
    let check = check.strip_prefix(CHECK_PREFIX).and_then(|check| check.strip_suffix(CHECK_SUFFIX));
    let mut json = members.to_vec();
    json.push(b'}');
    if check != Some(&check_digits(&json)[..]) {
        return Err(LineFault::Check);
    }
    serde_json::from_slice(&json).map_err(|error| LineFault::NotAnEvent { reason: error.to_string() })
}

impl<R: BufRead> ProvenanceReader<R> {
    /// A reader from the start of a log.
    pub fn new(log: R) -> Self {
        Self { log, line: Vec::new(), line_no: 0, offset: 0, has_failed: false }
    }

    /// Reads one line into `self.line`, with its line feed, and returns its length; 0 at the end. Of a line that is too
    /// long only the start is kept.
    fn read_line(&mut self) -> io::Result<u64> {
        self.line.clear();
        let keep = PROVENANCE_LINE_BYTES_MAX as u64 + 1;
        let mut length = (&mut self.log).take(keep).read_until(b'\n', &mut self.line)? as u64;
        if length == keep && self.line.last() != Some(&b'\n') {
            length += self.log.skip_until(b'\n')? as u64;
        }
        Ok(length)
    }

    fn judge(&self, length: u64) -> Result<ProvenanceEvent, LineFault> {
        if length > PROVENANCE_LINE_BYTES_MAX as u64 + 1 {
            return Err(LineFault::TooLong);
        }
        match self.line.strip_suffix(b"\n") {
            Some(line) => parse_line(line),
            None => Err(LineFault::TornTail),
        }
    }
}

impl<R: BufRead> Iterator for ProvenanceReader<R> {
    type Item = Result<ProvenanceEvent, ProvenanceReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            let length = match self.read_line() {
                Ok(0) => return None,
                Ok(length) => length,
                Err(error) => {
                    self.has_failed = true;
                    return Some(Err(error.into()));
                }
            };
            let offset = self.offset;
            self.offset += length;
            self.line_no += 1;
            if self.line == b"\n" {
                continue;
            }
            let line_no = self.line_no;
            return Some(self.judge(length).map_err(|fault| BadLine { line_no, offset, fault }.into()));
        }
        None
    }
}

/// How much of a log to keep so that the next event starts a new line: everything up to the last line feed.
///
/// # Errors
///
/// Those of reading the log, from its end and only as far as needed.
pub fn recover_tail<L: Read + Seek>(log: &mut L) -> io::Result<u64> {
    let mut end = log.seek(SeekFrom::End(0))?;
    let mut block = vec![0; BUFFER_BYTES];
    while end > 0 {
        let start = end.saturating_sub(BUFFER_BYTES as u64);
        let length = usize::try_from(end - start).expect("a block fits into memory");
        log.seek(SeekFrom::Start(start))?;
        log.read_exact(&mut block[..length])?;
        if let Some(index) = block[..length].iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + index as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
