//! Retention: which snapshots a policy keeps, and the deletion of the others.
//!
//! Snapshots of one source in one vault stand in for each other; the newest there says nothing about another vault.

use std::collections::BTreeMap;

use orbit_proto::v1;
use orbit_shared::retention::{Decision, Retained, RetentionPolicy, emptied, plan};
use orbit_shared::vault_call::limits::TAGS_MAX;
use orbit_shared::words::SnapshotId;
use tonic::Status;

use super::fields::{all, few};
use super::once::name;
use super::status::refused;
use super::vaults::{SnapshotFilter, path_filter, snapshot};
use super::{Faces, convert};
use crate::core::{Refusal, RequestName, SnapshotRecord, Violation};

impl Faces {
    /// Decides on all snapshots that match, and deletes those that go, unless only a plan is wanted.
    pub(super) async fn prune(
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

/// The name of a request, what is kept, and of what.
pub(super) fn read(
    request: &v1::PruneSnapshotsRequest,
) -> Result<(Option<RequestName>, RetentionPolicy, SnapshotFilter), Refusal> {
    let (tags, name, policy, star, source_star) = all((
        few("tags", request.tags.clone(), TAGS_MAX),
        name("PruneSnapshots", &request.request_id, request),
        read_policy(request.policy.clone()),
        convert::star_filter(request.star_id.clone()),
        convert::named_star_filter("source_star_id", request.source_star_id.clone()),
    ))?;
    let filter = SnapshotFilter {
        star,
        job: None,
        source_star,
        source_path: path_filter(request.source_path.clone()),
        tags,
    };
    Ok((name, policy, filter))
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
