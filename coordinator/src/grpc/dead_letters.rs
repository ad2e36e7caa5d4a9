//! DeadLetterService.

use orbit_proto::v1;
use orbit_proto::v1::dead_letter_service_server::DeadLetterService;
use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter};
use orbit_shared::time::Now;
use tonic::{Request, Response, Status};

use super::penalties::count;
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::{Command, Core, Refusal};

const LIST: &str = "dead-letters";

fn filter(job: Option<u64>, reason: i32, star: String, item_key: &str) -> Result<DeadLetterFilter, Status> {
    Ok(DeadLetterFilter {
        job_id: convert::job_filter(job),
        reason: convert::failure_filter(reason)?,
        star_id: convert::star_filter(star)?,
        item_key: convert::item_filter(item_key)?.map(|item| item.to_string()),
        after_id: None,
    })
}

/// A dead letter with the name of the Star it was to be read from.
fn shown(core: &Core, letter: &DeadLetterEntry, now: Now) -> v1::DeadLetter {
    let source = core.job(letter.job_id, now).map(|view| view.record.spec.source.star_id);
    convert::dead_letter(letter, source.as_ref())
}

#[tonic::async_trait]
impl DeadLetterService for Faces {
    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let size = page::page_size("page_size", request.page_size)?;
        let mut filter = filter(request.job_id, request.failure_reason, request.star_id, &request.item_key)?;
        filter.after_id = page::parsed_key(LIST, &request.page_token)?;
        let found = self.inbox.view(move |core, now| {
            let letters = core.dead_letters().query(&filter, size + 1);
            letters.into_iter().map(|letter| shown(core, letter, now)).collect::<Vec<_>>()
        });
        let mut dead_letters = found.await.map_err(refused)?;
        let has_more = dead_letters.len() > size;
        dead_letters.truncate(size);
        let last = dead_letters.last().filter(|_| has_more).map(|letter| letter.dead_letter_id.to_string());
        let next_page_token = last.map(|key| page::token(LIST, &key)).unwrap_or_default();
        Ok(Response::new(v1::ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::GetDeadLetterResponse>, Status> {
        let id = request.into_inner().dead_letter_id;
        let found = self.inbox.view(move |core, now| {
            let letter = core.dead_letters().entries().find(|letter| letter.dead_letter_id == id)?;
            Some(shown(core, letter, now))
        });
        let letter = found.await.map_err(refused)?;
        let letter = letter.ok_or_else(|| {
            refused(Refusal::NotFound {
                what: format!("dead letter {id}; it may have been retried or discarded"),
            })
        })?;
        Ok(Response::new(v1::GetDeadLetterResponse { dead_letter: Some(letter) }))
    }

    async fn retry_dead_letters(
        &self,
        request: Request<v1::RetryDeadLettersRequest>,
    ) -> Result<Response<v1::RetryDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let filter = filter(request.job_id, request.failure_reason, request.star_id, &request.item_key)?;
        let answer = self.inbox.command(Command::RetryDeadLetters(filter)).await.map_err(refused)?;
        Ok(Response::new(v1::RetryDeadLettersResponse { retried_count: count(&answer) }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let filter = filter(request.job_id, request.failure_reason, request.star_id, &request.item_key)?;
        let answer = self.inbox.command(Command::DiscardDeadLetters(filter)).await.map_err(refused)?;
        Ok(Response::new(v1::DiscardDeadLettersResponse { discarded_count: count(&answer) }))
    }
}
