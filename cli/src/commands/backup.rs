//! `orbit backup`.

use orbit_proto::v1::CreateBackupRequest;

use crate::args::BackupArgs;
use crate::client::{Client, request_id};
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::{Output, human};

pub(super) async fn run(args: BackupArgs, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let request = CreateBackupRequest { name: args.name, request_id: request_id() };
    let mut progress = client.backups().create_backup(request).await?.into_inner();
    while let Some(answer) = progress.message().await? {
        if answer.is_complete {
            output.answer(&answer, |answer| {
                format!("{} on the coordinator's machine, {}", answer.path, human::bytes(answer.size_bytes))
            })?;
            return Ok(Outcome::Completed);
        }
    }
    Err(CliError::Failed("the coordinator ended before the backup was complete; make another one".to_owned()))
}
