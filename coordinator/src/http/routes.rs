//! The table of `/api`: which route is which RPC. Everything else about a route (its parameters, its answer, its entry in
//! the OpenAPI document) follows from the descriptors, so that a field added to a request works over HTTP by itself.

/// What a route does to the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Reads. The request's fields are parameters of the query.
    Get,
    /// Changes something. The request is the body, as JSON.
    Post,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// What it does.
    pub(crate) verb: Verb,
    /// Its path; names in braces are fields of the request, one with an asterisk takes the rest of the path.
    pub(crate) path: &'static str,
    /// The service of `orbit.v1`.
    pub(crate) service: &'static str,
    /// The method.
    pub(crate) method: &'static str,
}

const fn get(path: &'static str, service: &'static str, method: &'static str) -> Route {
    Route { verb: Verb::Get, path, service, method }
}

const fn post(path: &'static str, service: &'static str, method: &'static str) -> Route {
    Route { verb: Verb::Post, path, service, method }
}

/// Every route that is an RPC.
pub(crate) const ROUTES: &[Route] = &[
    get("/api/jobs", "JobService", "ListJobs"),
    post("/api/jobs", "JobService", "CreateJob"),
    post("/api/jobs/plan", "JobService", "PlanJob"),
    get("/api/jobs/{job_id}", "JobService", "GetJob"),
    get("/api/jobs/{job_id}/items", "JobService", "ListItems"),
    post("/api/jobs/{job_id}/pause", "JobService", "PauseJob"),
    post("/api/jobs/{job_id}/resume", "JobService", "ResumeJob"),
    post("/api/jobs/{job_id}/cancel", "JobService", "CancelJob"),
    get("/api/schedules", "ScheduleService", "ListSchedules"),
    post("/api/schedules", "ScheduleService", "CreateSchedule"),
    get("/api/schedules/{schedule_id}", "ScheduleService", "GetSchedule"),
    post("/api/schedules/{schedule_id}/pause", "ScheduleService", "PauseSchedule"),
    post("/api/schedules/{schedule_id}/resume", "ScheduleService", "ResumeSchedule"),
    post("/api/schedules/{schedule_id}/run", "ScheduleService", "RunSchedule"),
    post("/api/schedules/{schedule_id}/update", "ScheduleService", "UpdateSchedule"),
    post("/api/schedules/{schedule_id}/delete", "ScheduleService", "DeleteSchedule"),
    get("/api/items/{*item_key}", "JobService", "ExplainItem"),
    get("/api/stars", "StarService", "ListStars"),
    post("/api/stars", "StarService", "RegisterStar"),
    get("/api/stars/{star_id}", "StarService", "GetStar"),
    get("/api/stars/{star_id}/health", "HealthService", "GetHealthHistory"),
    get("/api/stars/{star_id}/containers", "VaultService", "ListContainers"),
    post("/api/stars/{star_id}/schedule", "StarService", "ScheduleStar"),
    post("/api/stars/{star_id}/drain", "StarService", "DrainStar"),
    post("/api/stars/{star_id}/cordon", "StarService", "CordonStar"),
    post("/api/stars/{star_id}/uncordon", "StarService", "UncordonStar"),
    post("/api/stars/{star_id}/shutdown", "StarService", "ShutdownStar"),
    post("/api/stars/{star_id}/remove", "StarService", "RemoveStar"),
    post("/api/stars/{star_id}/collect", "VaultService", "CollectGarbage"),
    post("/api/stars/{star_id}/scrub", "VaultService", "ScrubVault"),
    get("/api/advisories", "HealthService", "ListAdvisories"),
    get("/api/guards", "BackpressureService", "ListGuards"),
    post("/api/guards/{star_id}/limits", "BackpressureService", "SetGuardLimits"),
    post("/api/guards/{star_id}/pause", "BackpressureService", "PauseGuard"),
    post("/api/guards/{star_id}/resume", "BackpressureService", "ResumeGuard"),
    get("/api/penalties", "PenaltyService", "ListPenalties"),
    post("/api/penalties/clear", "PenaltyService", "ClearPenalties"),
    get("/api/dead-letters", "DeadLetterService", "ListDeadLetters"),
    get("/api/dead-letters/{dead_letter_id}", "DeadLetterService", "GetDeadLetter"),
    post("/api/dead-letters/retry", "DeadLetterService", "RetryDeadLetters"),
    post("/api/dead-letters/discard", "DeadLetterService", "DiscardDeadLetters"),
    get("/api/bulletins", "BulletinService", "ListBulletins"),
    post("/api/bulletins/acknowledge", "BulletinService", "AcknowledgeBulletins"),
    get("/api/provenance", "ProvenanceService", "ListEvents"),
    get("/api/snapshots", "VaultService", "ListSnapshots"),
    get("/api/snapshots/{snapshot_id}", "VaultService", "GetSnapshot"),
    get("/api/snapshots/{snapshot_id}/entries", "VaultService", "ListSnapshotEntries"),
    post("/api/snapshots/{snapshot_id}/restore", "VaultService", "RestoreSnapshot"),
    post("/api/snapshots/{snapshot_id}/delete", "VaultService", "DeleteSnapshot"),
    post("/api/snapshots/{snapshot_id}/undelete", "VaultService", "UndeleteSnapshot"),
    post("/api/snapshots/prune", "VaultService", "PruneSnapshots"),
    get("/api/chunks/{chunk_hash}", "VaultService", "LocateChunk"),
    post("/api/backups", "BackupService", "CreateBackup"),
    get("/api/identities", "IdentityService", "ListIdentities"),
    post("/api/identities/revoke", "IdentityService", "RevokeIdentity"),
    get("/api/tokens", "IdentityService", "ListTokens"),
    post("/api/tokens", "IdentityService", "CreateToken"),
    post("/api/tokens/{token_id}/revoke", "IdentityService", "RevokeToken"),
    post("/api/keys/rotate", "IdentityService", "RotateGrantKey"),
];

/// RPCs without a route, and why. `docs/http.md` has the same table.
#[cfg(test)]
const WITHOUT_ROUTE: &[(&str, &str)] = &[
    ("JobService.WatchJob", "`/api/events?topics=jobs` streams the same"),
    ("StarService.WatchStars", "`/api/events?topics=stars` streams the same"),
    ("BulletinService.WatchBulletins", "`/api/events?topics=bulletins` streams the same"),
    ("ProvenanceService.WatchEvents", "`/api/events?topics=provenance` streams the same"),
    ("SessionService.Connect", "only Stars speak it, in both directions at once"),
    ("IdentityService.Join", "the caller needs a key and the certificate that it gets: `orbit join`"),
    ("IdentityService.Renew", "the caller shows the certificate that it renews, and HTTP has none"),
    ("VaultService.GetReadGrant", "its grant is used over gRPC at the Star: `orbit snapshot cat`"),
    ("TransferService.*", "Stars serve it, and not the coordinator"),
];

/// The names in braces.
pub(crate) fn path_fields(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}')).map(|(name, _)| name.trim_start_matches('*'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::call::Rpc;

    #[test]
    fn every_route_is_an_rpc_and_its_path_names_fields_of_the_request() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            let rpc = Rpc::of(route);
            for name in path_fields(route.path) {
                assert!(rpc.input().get_field_by_name(name).is_some(), "{route:?} has no field {name}");
            }
            assert!(seen.insert((route.verb == Verb::Get, route.path)), "{route:?} is there twice");
        }
    }

    #[test]
    fn every_rpc_has_a_route_or_a_reason_that_the_page_gives_too() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (rpc, reason) in WITHOUT_ROUTE {
            assert!(page.contains(&format!("| {rpc} | {reason} |")), "docs/http.md lacks {rpc}: {reason}");
        }
        for service in orbit_proto::json::descriptors().services() {
            if service.parent_file().package_name() != "orbit.v1" {
                continue;
            }
            for method in service.methods() {
                let is_routed = ROUTES
                    .iter()
                    .any(|route| (route.service, route.method) == (service.name(), method.name()));
                let name = format!("{}.{}", service.name(), method.name());
                let all = format!("{}.*", service.name());
                let is_explained = WITHOUT_ROUTE.iter().any(|(rpc, _)| *rpc == name || *rpc == all);
                assert!(is_routed != is_explained, "{name}: routed {is_routed}, explained {is_explained}");
            }
        }
    }
}
