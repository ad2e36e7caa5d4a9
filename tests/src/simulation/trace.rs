//! The events of a run as lines: always hashed, so that two runs can be compared, and printed when one seed is
//! replayed.

use std::fmt::{self, Write as _};
use std::io::Write as _;

/// FNV-1a (Fowler, Noll and Vo): the hash of a trace only needs to distinguish runs.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The lines of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    is_written_out: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new(is_written_out: bool) -> Self {
        Self { hash: FNV_OFFSET, lines: 0, is_written_out }
    }

    /// Adds a line.
    pub fn note(&mut self, at_ms: u64, line: fmt::Arguments<'_>) {
        self.lines += 1;
        // Writing into a number cannot fail.
        let _ = writeln!(self, "{at_ms} {line}");
        if self.is_written_out {
            // If the reader has gone away, the trace is not needed.
            let _ = writeln!(std::io::stderr(), "{:>9.3}s {line}", at_ms as f64 / 1000.0);
        }
    }

    /// A hash that distinguishes runs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of lines.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}
