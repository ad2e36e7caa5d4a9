//! Notices that the store's file was removed or replaced beneath an open store.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The store's file by its name, and which file that was when it was opened. An open file outlives its name: whatever is
/// written to one that was removed is gone with the process.
#[derive(Debug, Clone)]
pub(super) struct WatchedFile {
    path: PathBuf,
    id: (u64, u64),
}

impl WatchedFile {
    /// The file that has this name now.
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        let failed =
            |error: std::io::Error| StoreError::Open { path: path.to_path_buf(), problem: error.to_string() };
        let id = file_id(&std::fs::metadata(path).map_err(failed)?);
        Ok(Self { path: path.to_path_buf(), id })
    }

    /// Returns an error if the name no longer leads to that file.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let lost = |problem: String| StoreError::Lost { path: self.path.clone(), problem };
        match std::fs::metadata(&self.path) {
            Ok(metadata) if file_id(&metadata) == self.id => Ok(()),
            Ok(_) => Err(lost("another file has taken its place".to_owned())),
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

fn file_id(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
