//! Requests with a name: what was answered under it is answered again, and nothing is done a second time.

use orbit_shared::chunk_hash::ChunkHash;
use prost::Message;
use tonic::Status;

use super::Faces;
use super::status::internal;
use crate::core::limits::REQUEST_ID_BYTES_MAX;
use crate::core::{Answered, Command, Refusal, RequestName, Violation};

/// Whether a name may be one.
pub(super) fn check_id(request_id: &str) -> Result<(), Violation> {
    if request_id.len() > REQUEST_ID_BYTES_MAX {
        return Err(Violation::new("request_id", format!("is longer than {REQUEST_ID_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The name of a request of a method, if the caller gave it one.
pub(super) fn name(
    method: &str,
    request_id: &str,
    request: &impl Message,
) -> Result<Option<RequestName>, Violation> {
    check_id(request_id)?;
    Ok((!request_id.is_empty()).then(|| request_name(method, request_id, request)))
}

/// The name of a request of a method.
pub(super) fn request_name(method: &str, id: &str, request: &impl Message) -> RequestName {
    RequestName { method: method.to_owned(), id: id.to_owned(), digest: digest(&request.encode_to_vec()) }
}

fn digest(bytes: &[u8]) -> u64 {
    let ChunkHash(hash) = ChunkHash::of(bytes);
    hash.iter().take(8).fold(0, |digest, &byte| digest << 8 | u64::from(byte))
}

/// A command that is executed once under its name.
pub(super) fn once(request: Option<RequestName>, command: Command) -> Command {
    match request {
        Some(request) => Command::Once { request, command: Box::new(command) },
        None => command,
    }
}

impl Faces {
    /// What somebody was told under this name before whom no command served.
    pub(super) async fn told<M: Message + Default>(
        &self,
        request: Option<&RequestName>,
    ) -> Result<Option<M>, Status> {
        let Some(request) = request.cloned() else { return Ok(None) };
        let told = self.inbox.view(move |core, _| -> Result<_, Refusal> {
            Ok(match core.answered(&request)? {
                Some(Answered::Told(told)) => Some(told.clone()),
                Some(
                    Answered::Job(_)
                    | Answered::Star(_)
                    | Answered::Schedule(_)
                    | Answered::Count(_)
                    | Answered::Done,
                )
                | None => None,
            })
        });
        let Some(told) = told.await?? else { return Ok(None) };
        let unreadable =
            |_| internal("STORE_FAILED", "an answer that was remembered cannot be read any more");
        M::decode(&told[..]).map(Some).map_err(unreadable)
    }

    /// Remembers what is told under this name.
    pub(super) async fn tell(
        &self,
        request: Option<RequestName>,
        answer: &impl Message,
    ) -> Result<(), Status> {
        let Some(request) = request else { return Ok(()) };
        self.inbox.command(Command::Remember { request, told: answer.encode_to_vec() }).await?;
        Ok(())
    }
}
