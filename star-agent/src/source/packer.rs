//! Puts frames and their content into messages of about 1 MiB, directly from the buffer into which files are read.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::content::Content;
use crate::limits::{
    FRAMES_PER_SMALL_FILE_MAX, HASHES_PER_FRAME_MAX, PARCEL_BYTES, PARCEL_FRAMES_MAX, PARCEL_NAMES_MAX,
    SMALL_FILE_BYTES_MAX, STALL_TIMEOUT,
};
use crate::meters::Meters;
use crate::source::buffers::Buffers;
use crate::transfer::{Frame, FrameEnd, Parcel};

/// The destination is gone, or has accepted no data for [`STALL_TIMEOUT`].
#[derive(Debug)]
pub(crate) struct Gone;

/// Collects frames on a blocking thread and sends them.
pub(crate) struct Packer {
    out: mpsc::Sender<Parcel>,
    runtime: Handle,
    meters: Arc<Meters>,
    pub(crate) buffers: Arc<Buffers>,
    frames: Vec<Frame>,
    /// Number of chunk names in the frames.
    names: usize,
    /// The buffer for small files, which becomes the payload.
    pub(crate) buffer: Vec<u8>,
}

impl Packer {
    pub(crate) fn new(
        out: mpsc::Sender<Parcel>,
        runtime: Handle,
        meters: Arc<Meters>,
        buffers: Arc<Buffers>,
    ) -> Self {
        Self { out, runtime, meters, buffers, frames: Vec::new(), names: 0, buffer: Vec::new() }
    }

    /// Makes room in the buffer for a file of `length`, at most [`SMALL_FILE_BYTES_MAX`].
    pub(crate) fn make_room(&mut self, length: usize) -> Result<(), Gone> {
        assert!(length <= SMALL_FILE_BYTES_MAX, "{length} bytes are no small file");
        if self.buffer.capacity() - self.buffer.len() < length {
            self.flush()?;
        }
        if self.buffer.capacity() == 0 {
            self.buffer = self.buffers.take(PARCEL_BYTES + SMALL_FILE_BYTES_MAX);
        }
        Ok(())
    }

    /// Adds a frame without content, or with content that is at the end of the buffer.
    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), Gone> {
        self.push_all(vec![frame])
    }

    /// Adds frames whose content is at the end of the buffer, in order. They are sent in one message.
    pub(crate) fn push_all(&mut self, frames: Vec<Frame>) -> Result<(), Gone> {
        for frame in &frames {
            match &frame.end {
                FrameEnd::More => {}
                FrameEnd::Complete | FrameEnd::Changed => self.meters.add_success(),
                FrameEnd::Failed(failure) => self.meters.add_failure(failure),
            }
        }
        self.names += frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
        self.frames.extend(frames);
        let has_room = self.frames.len() + FRAMES_PER_SMALL_FILE_MAX <= PARCEL_FRAMES_MAX
            && self.names + HASHES_PER_FRAME_MAX <= PARCEL_NAMES_MAX;
        if has_room && self.buffer.len() < PARCEL_BYTES { Ok(()) } else { self.flush() }
    }

    /// Adds a frame whose content is in a separate buffer.
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
        let payload = Content::from(self.buffers.lend(std::mem::take(&mut self.buffer)));
        self.names = 0;
        self.meters.add_bytes(payload.len() as u64);
        let parcel = Parcel { frames: std::mem::take(&mut self.frames), payload };
        let sending = tokio::time::timeout(STALL_TIMEOUT, self.out.send(parcel));
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::Chunk;

    fn names(fetch: u64, count: usize) -> Frame {
        let chunk = Chunk { hash: [7; 32], length: 5 };
        Frame {
            fetch,
            version: None,
            offset: 0,
            chunks: vec![chunk; count],
            end: FrameEnd::Complete,
            looked: None,
        }
    }

    /// The frames of each message that is made from `frames`.
    async fn packed(frames: Vec<Frame>) -> Vec<Vec<Frame>> {
        let (out, mut parcels) = mpsc::channel(1024);
        let runtime = Handle::current();
        let packing = move || {
            let mut packer = Packer::new(out, runtime, Arc::default(), Arc::default());
            frames.into_iter().try_for_each(|frame| packer.push(frame)).and_then(|()| packer.flush())
        };
        tokio::task::spawn_blocking(packing).await.unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(parcel) = parcels.recv().await {
            all.push(parcel.frames);
        }
        all
    }

    #[tokio::test]
    async fn names_of_many_small_files_share_a_message() {
        let parcels = packed((0..100).map(|fetch| names(fetch, 3)).collect()).await;
        assert_eq!(parcels.len(), 1);
        assert_eq!(parcels[0].iter().map(|frame| frame.fetch).collect::<Vec<_>>(), Vec::from_iter(0..100));
    }

    #[tokio::test]
    async fn no_message_exceeds_the_limits_on_names_and_frames() {
        let parcels = packed((0..40).map(|fetch| names(fetch, HASHES_PER_FRAME_MAX)).collect()).await;
        let most = parcels.iter().map(|frames| frames.iter().map(|frame| frame.chunks.len()).sum());
        assert!(most.max().is_some_and(|most: usize| most <= PARCEL_NAMES_MAX), "{}", parcels.len());
        assert_eq!(parcels.iter().map(Vec::len).sum::<usize>(), 40);
        let parcels = packed((0..1000).map(|fetch| names(fetch, 1)).collect()).await;
        assert!(parcels.iter().all(|frames| frames.len() <= PARCEL_FRAMES_MAX));
    }
}
