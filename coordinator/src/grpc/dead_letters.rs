//! DeadLetterService.

use orbit_proto::v1;
use orbit_proto::v1::dead_letter_service_server::DeadLetterService;
use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter};
use orbit_shared::time::Now;
use tonic::{Request, Response, Status};

use super::fields::{Fields, all};
use super::once::{name, once};
use super::penalties::count;
use super::status::refused;
use super::{Faces, convert, page};
use crate::core::{Command, Core, Refusal};

const LIST: &str = "dead-letters";

/// Reads the conditions, and what more the request has.
fn filter<F: Fields>(
    job: Option<u64>,
    (reason, star, item_key): (i32, String, &str),
    more: F,
) -> Result<(DeadLetterFilter, F::Values), Refusal> {
    let (reason, star_id, item, more) = all((
        convert::failure_filter(reason),
        convert::star_filter(star),
        convert::item_filter(item_key),
        more,
    ))?;
    let job_id = convert::job_filter(job);
    let item_key = item.map(|item| item.to_string());
    Ok((DeadLetterFilter { job_id, reason, star_id, item_key, after_id: None }, more))
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
        let conditions = (request.failure_reason, request.star_id, &request.item_key[..]);
        let page =
            (page::page_size("page_size", request.page_size), page::parsed_key(LIST, &request.page_token));
        let (mut filter, (size, after_id)) = filter(request.job_id, conditions, page)?;
        filter.after_id = after_id;
        let found = self.inbox.view(move |core, now| {
            let letters = core.dead_letters().query(&filter, size + 1);
            page::fill(letters.into_iter().map(|letter| shown(core, letter, now)), size)
        });
        let (dead_letters, has_more) = found.await.map_err(refused)?;
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
        let name = name("RetryDeadLetters", &request.request_id, &request);
        let conditions = (request.failure_reason, request.star_id, &request.item_key[..]);
        let (filter, name) = filter(request.job_id, conditions, name)?;
        let answer = self.inbox.command(once(name, Command::RetryDeadLetters(filter))).await?;
        Ok(Response::new(v1::RetryDeadLettersResponse { retried_count: count(&answer) }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let name = name("DiscardDeadLetters", &request.request_id, &request);
        let conditions = (request.failure_reason, request.star_id, &request.item_key[..]);
        let (filter, name) = filter(request.job_id, conditions, name)?;
        let answer = self.inbox.command(once(name, Command::DiscardDeadLetters(filter))).await?;
        Ok(Response::new(v1::DiscardDeadLettersResponse { discarded_count: count(&answer) }))
    }
}
