//! BackupService.

use std::sync::Arc;

use orbit_proto::v1;
use orbit_proto::v1::backup_service_server::BackupService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Faces;
use super::status::{internal, refused};
use crate::backup::{Backup, BackupError};
use crate::clock::Clock;
use crate::core::Refusal;

/// A response for the place, and one for the end.
const RESPONSES_MAX: usize = 2;

#[tonic::async_trait]
impl BackupService for Faces {
    type CreateBackupStream = ReceiverStream<Result<v1::CreateBackupResponse, Status>>;

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let name = match request.into_inner().name {
            name if name.is_empty() => format!("backup-{}", Clock::start().now().wall.seconds),
            name => name,
        };
        let (store, provenance) = (Arc::clone(&self.store), Arc::clone(&self.provenance));
        let backups = Arc::clone(&self.backups);
        let begun = tokio::task::spawn_blocking(move || Backup::begin(&backups, &name)).await;
        let backup = begun.map_err(|_| stopping())?.map_err(|error| failed(&error))?;
        let path = backup.path().display().to_string();
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        let first = v1::CreateBackupResponse { path, ..v1::CreateBackupResponse::default() };
        // There is room for both responses; a caller that has gone away wants none, and still gets its backup.
        let _ = responses.try_send(Ok(first.clone()));
        tokio::task::spawn_blocking(move || {
            let last = backup.run(&*store, provenance.directory()).map_err(|error| failed(&error));
            let last =
                last.map(|size_bytes| v1::CreateBackupResponse { is_complete: true, size_bytes, ..first });
            let _ = responses.try_send(last);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn stopping() -> Status {
    refused(Refusal::Unavailable { problem: "the coordinator is stopping".to_owned() })
}

fn failed(error: &BackupError) -> Status {
    match error {
        BackupError::BadName { .. } => refused(Refusal::invalid("name", error.to_string())),
        BackupError::Exists { .. } => refused(Refusal::WrongState { problem: error.to_string() }),
        BackupError::Io { .. } | BackupError::Store(_) | BackupError::Provenance(_) => {
            tracing::error!(%error, "the backup failed");
            internal("BACKUP_FAILED", &format!("the backup failed and nothing of it is left: {error}"))
        }
    }
}
