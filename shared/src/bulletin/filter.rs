//! Which bulletins a reader wants.

use crate::time::WallTime;
use crate::words::JobId;

use super::{Bulletin, Severity};

/// Conditions that a bulletin must all meet. The default matches every bulletin.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BulletinFilter {
    /// At least this urgent.
    pub min_severity: Option<Severity>,
    /// From exactly this source.
    pub source: Option<String>,
    /// In exactly this category.
    pub category: Option<String>,
    /// About exactly this job.
    pub job_id: Option<JobId>,
    /// With a greater id than this: what a reader has not seen yet. Reverses the order of the result, see
    /// [`super::BulletinBoard::query`].
    pub after_id: Option<u64>,
    /// Last reported at this time or later.
    pub since: Option<WallTime>,
    /// Acknowledged, or not.
    pub is_acknowledged: Option<bool>,
}

impl BulletinFilter {
    /// Whether `bulletin` meets every condition.
    pub fn matches(&self, bulletin: &Bulletin) -> bool {
        self.min_severity.is_none_or(|least| bulletin.severity >= least)
            && self.source.as_deref().is_none_or(|source| bulletin.source == source)
            && self.category.as_deref().is_none_or(|category| bulletin.category == category)
            && self.job_id.is_none_or(|job| bulletin.job_id == Some(job))
            && self.after_id.is_none_or(|id| bulletin.id > id)
            && self.since.is_none_or(|time| bulletin.time >= time)
            && self.is_acknowledged.is_none_or(|wanted| bulletin.is_acknowledged == wanted)
    }
}
