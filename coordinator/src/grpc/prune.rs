//! Retention: which snapshots a policy keeps, and the deletion of the others.
//!
//! Snapshots of one source in one vault stand in for each other; the newest there says nothing about another vault.
//!
//! The decisions have pages, the deletion has none: the first call executes all of it and remembers every decision under the name of
//! the request, or under a name that it makes. A call with a page token reads what is remembered and deletes nothing.

use std::collections::BTreeMap;
use std::str::FromStr;

use orbit_proto::v1;
use orbit_shared::retention::{Decision, Retained, RetentionPolicy, emptied, plan};
use orbit_shared::vault_call::limits::TAGS_MAX;
use orbit_shared::words::SnapshotId;
use prost::Message as _;
use tonic::Status;

use super::fields::{all, few};
use super::once::{check_id, request_name};
use super::status::refused;
use super::vaults::{SnapshotFilter, path_filter, snapshot};
use super::{Faces, convert, page};
use crate::core::limits::ANSWERS_BYTES_MAX;
use crate::core::{Refusal, RequestName, SnapshotRecord, Violation};

impl Faces {
    /// Answers a request: one page of its decisions.
    pub(super) async fn prune_page(
        &self,
        request: &v1::PruneSnapshotsRequest,
    ) -> Result<v1::PruneSnapshotsResponse, Status> {
        let Asked { name, policy, filter, size, after } = read(request)?;
        if request.plan_only && name.is_none() {
            let decisions = self.prune(&policy, filter, true).await?;
            let start = match &after {
                Some(after) => start_behind(&decisions, &after.last).ok_or_else(|| no_page(PLAN_CHANGED))?,
                None => 0,
            };
            return Ok(page_of(decisions, start, size, "", request));
        }
        let name = match (name, &after) {
            (Some(name), _) => name,
            (None, Some(after)) => named(&after.name, request),
            (None, None) => named(&uuid::Uuid::new_v4().to_string(), request),
        };
        let told: Option<v1::PruneSnapshotsResponse> = self.told(Some(&name)).await?;
        let decisions = match (told, &after) {
            (Some(told), _) => told.decisions,
            (None, Some(_)) => return Err(no_page(FORGOTTEN)),
            (None, None) => {
                let decisions = self.prune(&policy, filter, request.plan_only).await?;
                let whole = v1::PruneSnapshotsResponse { decisions, ..v1::PruneSnapshotsResponse::default() };
                // Without a name of the caller, only further pages ask for it. It must not take the place of all other answers.
                let is_wanted = !request.request_id.is_empty() || whole.decisions.len() > size;
                if is_wanted && whole.encoded_len() <= ANSWERS_BYTES_MAX / 2 {
                    self.tell(Some(name.clone()), &whole).await?;
                }
                whole.decisions
            }
        };
        let start = match &after {
            Some(after) => start_behind(&decisions, &after.last).ok_or_else(|| no_page(FORGOTTEN))?,
            None => 0,
        };
        Ok(page_of(decisions, start, size, &name.id, request))
    }

    /// Decides on all snapshots that match, and deletes those that go, unless only a plan is wanted.
    async fn prune(
        &self,
        policy: &RetentionPolicy,
        filter: SnapshotFilter,
        is_plan: bool,
    ) -> Result<Vec<v1::RetentionDecision>, Status> {
        let records = self.snapshots_like(filter).await?;
        let retained: Vec<_> = records.iter().map(retained).collect();
        let planned = plan(policy, &retained);
        if !is_plan && let Some((star, source, path)) = emptied(&retained, &planned).into_iter().next() {
            let path = String::from_utf8_lossy(&path).into_owned();
            let problem = format!(
                "would keep nothing of {source}:{path} in the vault of {star}; add a rule such as policy.keep_last, or delete \
                 snapshots by their names with DeleteSnapshot"
            );
            return Err(refused(Refusal::invalid("policy", &problem)));
        }
        let mut records: BTreeMap<SnapshotId, SnapshotRecord> =
            records.into_iter().map(|record| (record.info.id, record)).collect();
        let mut decisions = Vec::new();
        for decision in planned {
            let Some(record) = records.remove(&decision.key) else { continue };
            decisions.push(self.carry_out(&decision, record, is_plan).await);
        }
        Ok(decisions)
    }

    async fn carry_out(
        &self,
        decision: &Decision<SnapshotId>,
        record: SnapshotRecord,
        is_plan: bool,
    ) -> v1::RetentionDecision {
        let is_kept = decision.is_kept();
        let deleted = if is_kept || is_plan { None } else { Some(self.delete_one(&record).await) };
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        v1::RetentionDecision {
            is_kept,
            reason: match &decision.why_not {
                Some(why_not) if !is_kept => why_not.clone(),
                Some(_) | None => reasons.join(", "),
            },
            is_deleted: matches!(deleted, Some(Ok(()))),
            problem: match deleted {
                Some(Err(refusal)) => refusal.to_string(),
                Some(Ok(())) | None => String::new(),
            },
            snapshot: Some(snapshot(record)),
        }
    }
}

/// Tags that one policy keeps.
const KEPT_TAGS_MAX: usize = 1000;

type Group = (String, String, Vec<u8>);

fn retained(record: &SnapshotRecord) -> Retained<SnapshotId, Group> {
    let info = &record.info;
    Retained {
        key: info.id,
        group: (record.star.to_string(), info.source_star.to_string(), info.source_path.clone()),
        time: info.create_time,
        tags: info.tags.clone(),
        is_partial: info.is_partial,
    }
}

/// The list of decisions in page tokens.
const LIST: &str = "decisions";
/// Decisions of a page, unless the caller wants fewer.
const PAGE_SIZE_DEFAULT: usize = 1000;

const FORGOTTEN: &str = "page of these decisions any more, because later answers took their place; what was to be deleted is \
                         deleted, and ListSnapshots shows what is left";
const PLAN_CHANGED: &str = "next page of this plan, because the last snapshot of the page before is gone; ask for the first page again";

fn no_page(what: &str) -> Status {
    refused(Refusal::NotFound { what: what.to_owned() })
}

/// A request that was read.
struct Asked {
    /// The caller's name for it.
    name: Option<RequestName>,
    policy: RetentionPolicy,
    filter: SnapshotFilter,
    /// Decisions a page.
    size: usize,
    after: Option<PageKey>,
}

/// What a page token names: the last snapshot of the page, and the name under which the decisions are remembered.
struct PageKey {
    last: String,
    name: String,
}

impl FromStr for PageKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (last, name) = text.split_once('/').ok_or(())?;
        last.parse::<SnapshotId>().map_err(drop)?;
        Ok(Self { last: last.to_owned(), name: name.to_owned() })
    }
}

/// The name of a request. All of its pages have the same one.
fn named(id: &str, request: &v1::PruneSnapshotsRequest) -> RequestName {
    let whole = v1::PruneSnapshotsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    request_name("PruneSnapshots", id, &whole)
}

/// The index behind the decision on a snapshot.
fn start_behind(decisions: &[v1::RetentionDecision], last: &str) -> Option<usize> {
    let is_last = |snapshot: &v1::Snapshot| snapshot.snapshot_id == last;
    decisions.iter().position(|one| one.snapshot.as_ref().is_some_and(is_last)).map(|index| index + 1)
}

fn page_of(
    decisions: Vec<v1::RetentionDecision>,
    start: usize,
    size: usize,
    name: &str,
    request: &v1::PruneSnapshotsRequest,
) -> v1::PruneSnapshotsResponse {
    let count =
        |is_it: fn(&v1::RetentionDecision) -> bool| decisions.iter().filter(|one| is_it(one)).count() as u64;
    let (kept_count, deleted_count) = (count(|one| one.is_kept), count(|one| one.is_deleted));
    let expired_count = decisions.len() as u64 - kept_count;
    let (decisions, has_more) = page::fill(decisions.into_iter().skip(start), size);
    let last = decisions.last().and_then(|one| one.snapshot.as_ref()).filter(|_| has_more);
    let name = if request.request_id.is_empty() { name } else { "" };
    let next = last.map(|last| page::token(LIST, &format!("{}/{name}", last.snapshot_id)));
    v1::PruneSnapshotsResponse {
        decisions,
        next_page_token: next.unwrap_or_default(),
        kept_count,
        expired_count,
        deleted_count,
    }
}

fn read(request: &v1::PruneSnapshotsRequest) -> Result<Asked, Refusal> {
    let size = match request.page_size {
        0 => Ok(PAGE_SIZE_DEFAULT),
        asked => page::page_size("page_size", asked),
    };
    let (tags, (), policy, star, source_star, size, after) = all((
        few("tags", request.tags.clone(), TAGS_MAX),
        check_id(&request.request_id),
        read_policy(request.policy.clone()),
        convert::star_filter(request.star_id.clone()),
        convert::named_star_filter("source_star_id", request.source_star_id.clone()),
        size,
        page::parsed_key(LIST, &request.page_token),
    ))?;
    let filter = SnapshotFilter {
        star,
        job: None,
        source_star,
        source_path: path_filter(request.source_path.clone()),
        tags,
    };
    let name = (!request.request_id.is_empty()).then(|| named(&request.request_id, request));
    Ok(Asked { name, policy, filter, size, after })
}

fn read_policy(policy: Option<v1::RetentionPolicy>) -> Result<RetentionPolicy, Violation> {
    let policy = policy.unwrap_or_default();
    let policy = RetentionPolicy {
        keep_last: policy.keep_last,
        hourly: policy.keep_hourly,
        daily: policy.keep_daily,
        weekly: policy.keep_weekly,
        monthly: policy.keep_monthly,
        yearly: policy.keep_yearly,
        tags: few("policy.keep_tags", policy.keep_tags, KEPT_TAGS_MAX)?.into_iter().collect(),
    };
    if policy.is_empty() {
        let problem = "has no rule; give at least one, such as keep_last, so that it is clear what stays";
        return Err(Violation::new("policy", problem));
    }
    Ok(policy)
}
