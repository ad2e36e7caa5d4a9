//! BackupService.

use std::sync::Arc;

use orbit_proto::v1;
use orbit_proto::v1::backup_service_server::BackupService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::fields::all;
use super::status::{internal, refused};
use super::{Faces, once};
use crate::backup::{self, Backup, BackupError};
use crate::core::{Refusal, Violation};
use orbit_program::clock::Clock;

/// A response for the place, and one for the end: there is always room for both.
const RESPONSES_MAX: usize = 2;

#[tonic::async_trait]
impl BackupService for Faces {
    type CreateBackupStream = ReceiverStream<Result<v1::CreateBackupResponse, Status>>;

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<Self::CreateBackupStream>, Status> {
        let request = request.into_inner();
        let (named, name) =
            all((once::name("CreateBackup", &request.request_id, &request), name(request.name.clone())))?;
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        if let Some(last) = self.told::<v1::CreateBackupResponse>(named.as_ref()).await? {
            let first = v1::CreateBackupResponse { path: last.path.clone(), ..Default::default() };
            let _ = (responses.try_send(Ok(first)), responses.try_send(Ok(last)));
            return Ok(Response::new(ReceiverStream::new(stream)));
        }
        let (store, provenance) = (Arc::clone(&self.store), Arc::clone(&self.provenance));
        let (backups, kept) = (Arc::clone(&self.backups), Arc::clone(&self.backups));
        let begun = tokio::task::spawn_blocking(move || Backup::begin(&backups.directory, &name)).await;
        let backup = begun.map_err(|_| stopping())?.map_err(|error| failed(&error))?;
        let path = backup.path().display().to_string();
        let first = v1::CreateBackupResponse { path, ..v1::CreateBackupResponse::default() };
        // A caller that has gone away wants no response, and still gets its backup.
        let _ = responses.try_send(Ok(first.clone()));
        let faces = self.clone();
        tokio::spawn(async move {
            let run = move || {
                let size_bytes = backup.run(&*store, provenance.directory())?;
                backup::remove_surplus(&kept);
                Ok(size_bytes)
            };
            let last = match tokio::task::spawn_blocking(run).await {
                Ok(Ok(size_bytes)) => {
                    let last = v1::CreateBackupResponse { is_complete: true, size_bytes, ..first };
                    faces.tell(named, &last).await.map(|()| last)
                }
                Ok(Err(error)) => Err(failed(&error)),
                Err(_) => Err(stopping()),
            };
            let _ = responses.try_send(last);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The name that is asked for, or one made from the time.
fn name(asked: String) -> Result<String, Violation> {
    if asked.is_empty() {
        return Ok(format!("backup-{}", Clock::start().now().wall.seconds));
    }
    let checked = Backup::check_name(&asked).map_err(|error| Violation::new("name", error.to_string()));
    checked.map(|()| asked)
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
