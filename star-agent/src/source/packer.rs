//! Puts frames and their content into messages of about a mebibyte, straight from the buffer that files are read into.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::content::Content;
use crate::limits::{
    FRAMES_PER_SMALL_FILE_MAX, PARCEL_BYTES, PARCEL_FRAMES_MAX, SMALL_FILE_BYTES_MAX, STALL_TIMEOUT,
};
use crate::meters::Meters;
use crate::transfer::{Frame, FrameEnd, Parcel};

/// The destination is gone, or has taken nothing for [`STALL_TIMEOUT`].
#[derive(Debug)]
pub(crate) struct Gone;

/// Collects frames on a blocking thread and sends them on.
pub(crate) struct Packer {
    out: mpsc::Sender<Parcel>,
    runtime: Handle,
    meters: Arc<Meters>,
    frames: Vec<Frame>,
    /// What small files are read into; it becomes the payload.
    pub(crate) buffer: Vec<u8>,
}

impl Packer {
    pub(crate) fn new(out: mpsc::Sender<Parcel>, runtime: Handle, meters: Arc<Meters>) -> Self {
        Self { out, runtime, meters, frames: Vec::new(), buffer: Vec::new() }
    }

    /// Makes room in the buffer for a file of `length`, at most [`SMALL_FILE_BYTES_MAX`].
    pub(crate) fn make_room(&mut self, length: usize) -> Result<(), Gone> {
        assert!(length <= SMALL_FILE_BYTES_MAX, "{length} bytes are no small file");
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(PARCEL_BYTES + SMALL_FILE_BYTES_MAX);
        }
        if self.buffer.capacity() - self.buffer.len() < length {
            self.flush()?;
            self.buffer.reserve_exact(PARCEL_BYTES + SMALL_FILE_BYTES_MAX);
        }
        Ok(())
    }

    /// Adds a frame without content, or with content that stands at the end of the buffer.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Gone> {
        self.push_all(vec![frame])
    }

    /// Adds frames whose content stands at the end of the buffer, in order; they travel in one message.
    pub(crate) fn push_all(&mut self, frames: Vec<Frame>) -> Result<(), Gone> {
        for frame in &frames {
            match frame.end {
                FrameEnd::More => {}
                FrameEnd::Complete => self.meters.add_operation(false),
                FrameEnd::Failed(_) => self.meters.add_operation(true),
            }
        }
        self.frames.extend(frames);
        let has_room = self.frames.len() + FRAMES_PER_SMALL_FILE_MAX <= PARCEL_FRAMES_MAX;
        if has_room && self.buffer.len() < PARCEL_BYTES { Ok(()) } else { self.flush() }
    }

    /// Adds a frame whose content is a buffer of its own.
    pub(crate) fn push_with(&mut self, frame: Frame, payload: Vec<u8>) -> Result<(), Gone> {
        self.flush()?;
        self.buffer = payload;
        self.frames.push(frame);
        self.flush()
    }

    /// Sends what was collected.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let payload = Content::from(Bytes::from(std::mem::take(&mut self.buffer)));
        self.meters.add_bytes(payload.len() as u64);
        let parcel = Parcel { frames: std::mem::take(&mut self.frames), payload };
        let sending = tokio::time::timeout(STALL_TIMEOUT, self.out.send(parcel));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}
