//! Who may call what, when the coordinator speaks TLS: a closed table of methods, and nothing that it does not name.
//!
//! Who calls stands in the certificate of the connection, and is judged with each call, since it may have been revoked
//! since. The HTTP face, which knows no certificates, calls with a role that it was given.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use orbit_identity::{Facts, Identity, Peer, PlainPeer, Registry, Role, now};
use tonic::Status;
use tonic::service::Routes;

use super::status;

/// What a method requires of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing, not even a certificate.
    Nothing,
    /// A certificate of this grid.
    Certificate,
    /// To be a Star.
    Star,
    /// To be an operator or a viewer.
    Viewer,
    /// To be an operator.
    Operator,
}

impl Need {
    fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Certificate => true,
            Self::Star => role == Role::Star,
            Self::Viewer => matches!(role, Role::Viewer | Role::Operator),
            Self::Operator => role == Role::Operator,
        }
    }

    /// The callers that meet it, as text.
    fn words(self) -> &'static str {
        match self {
            Self::Nothing | Self::Certificate => "anybody",
            Self::Star => "a Star",
            Self::Viewer => "an operator or a viewer",
            Self::Operator => "an operator",
        }
    }
}

const JOIN: &str = "/orbit.v1.IdentityService/Join";

/// Every method that is served; a test compares it with the descriptors. A viewer may call what changes nothing and
/// hands out nothing: a grant to read what a vault holds is not for viewers, who look at the grid and not at its data.
const METHODS: &[(&str, Need)] = &[
    ("/grpc.health.v1.Health/Check", Need::Nothing),
    ("/grpc.health.v1.Health/List", Need::Nothing),
    ("/grpc.health.v1.Health/Watch", Need::Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need::Viewer),
    ("/orbit.v1.BackpressureService/ListGuards", Need::Viewer),
    ("/orbit.v1.BackpressureService/PauseGuard", Need::Operator),
    ("/orbit.v1.BackpressureService/ResumeGuard", Need::Operator),
    ("/orbit.v1.BackpressureService/SetGuardLimits", Need::Operator),
    ("/orbit.v1.BackupService/CreateBackup", Need::Operator),
    ("/orbit.v1.BulletinService/AcknowledgeBulletins", Need::Operator),
    ("/orbit.v1.BulletinService/ListBulletins", Need::Viewer),
    ("/orbit.v1.BulletinService/WatchBulletins", Need::Viewer),
    ("/orbit.v1.DeadLetterService/DiscardDeadLetters", Need::Operator),
    ("/orbit.v1.DeadLetterService/GetDeadLetter", Need::Viewer),
    ("/orbit.v1.DeadLetterService/ListDeadLetters", Need::Viewer),
    ("/orbit.v1.DeadLetterService/RetryDeadLetters", Need::Operator),
    ("/orbit.v1.HealthService/GetHealthHistory", Need::Viewer),
    ("/orbit.v1.HealthService/ListAdvisories", Need::Viewer),
    ("/orbit.v1.IdentityService/CreateToken", Need::Operator),
    ("/orbit.v1.IdentityService/Join", Need::Nothing),
    ("/orbit.v1.IdentityService/ListIdentities", Need::Viewer),
    ("/orbit.v1.IdentityService/ListTokens", Need::Viewer),
    ("/orbit.v1.IdentityService/Renew", Need::Certificate),
    ("/orbit.v1.IdentityService/RevokeIdentity", Need::Operator),
    ("/orbit.v1.IdentityService/RevokeToken", Need::Operator),
    ("/orbit.v1.IdentityService/RotateGrantKey", Need::Operator),
    ("/orbit.v1.JobService/CancelJob", Need::Operator),
    ("/orbit.v1.JobService/CreateJob", Need::Operator),
    ("/orbit.v1.JobService/ExplainItem", Need::Viewer),
    ("/orbit.v1.JobService/GetJob", Need::Viewer),
    ("/orbit.v1.JobService/ListItems", Need::Viewer),
    ("/orbit.v1.JobService/ListJobs", Need::Viewer),
    ("/orbit.v1.JobService/PauseJob", Need::Operator),
    ("/orbit.v1.JobService/PlanJob", Need::Viewer),
    ("/orbit.v1.JobService/ResumeJob", Need::Operator),
    ("/orbit.v1.JobService/WatchJob", Need::Viewer),
    ("/orbit.v1.PenaltyService/ClearPenalties", Need::Operator),
    ("/orbit.v1.PenaltyService/ListPenalties", Need::Viewer),
    ("/orbit.v1.ProvenanceService/ListEvents", Need::Viewer),
    ("/orbit.v1.ProvenanceService/WatchEvents", Need::Viewer),
    ("/orbit.v1.ScheduleService/CreateSchedule", Need::Operator),
    ("/orbit.v1.ScheduleService/DeleteSchedule", Need::Operator),
    ("/orbit.v1.ScheduleService/GetSchedule", Need::Viewer),
    ("/orbit.v1.ScheduleService/ListSchedules", Need::Viewer),
    ("/orbit.v1.ScheduleService/PauseSchedule", Need::Operator),
    ("/orbit.v1.ScheduleService/ResumeSchedule", Need::Operator),
    ("/orbit.v1.ScheduleService/RunSchedule", Need::Operator),
    ("/orbit.v1.ScheduleService/UpdateSchedule", Need::Operator),
    ("/orbit.v1.SessionService/Connect", Need::Star),
    ("/orbit.v1.StarService/CordonStar", Need::Operator),
    ("/orbit.v1.StarService/DrainStar", Need::Operator),
    ("/orbit.v1.StarService/GetStar", Need::Viewer),
    ("/orbit.v1.StarService/ListStars", Need::Viewer),
    ("/orbit.v1.StarService/RegisterStar", Need::Operator),
    ("/orbit.v1.StarService/RemoveStar", Need::Operator),
    ("/orbit.v1.StarService/ScheduleStar", Need::Operator),
    ("/orbit.v1.StarService/ShutdownStar", Need::Operator),
    ("/orbit.v1.StarService/UncordonStar", Need::Operator),
    ("/orbit.v1.StarService/WatchStars", Need::Viewer),
    ("/orbit.v1.VaultService/CollectGarbage", Need::Operator),
    ("/orbit.v1.VaultService/DeleteSnapshot", Need::Operator),
    ("/orbit.v1.VaultService/GetReadGrant", Need::Operator),
    ("/orbit.v1.VaultService/GetSnapshot", Need::Viewer),
    ("/orbit.v1.VaultService/ListContainers", Need::Viewer),
    ("/orbit.v1.VaultService/ListSnapshotEntries", Need::Viewer),
    ("/orbit.v1.VaultService/ListSnapshots", Need::Viewer),
    ("/orbit.v1.VaultService/LocateChunk", Need::Viewer),
    ("/orbit.v1.VaultService/PruneSnapshots", Need::Operator),
    ("/orbit.v1.VaultService/RestoreSnapshot", Need::Operator),
    ("/orbit.v1.VaultService/ScrubVault", Need::Operator),
    ("/orbit.v1.VaultService/UndeleteSnapshot", Need::Operator),
];

/// Whether a method changes something, or hands out a right: what only an operator may call, and joining.
pub(super) fn is_change(path: &str) -> bool {
    path == JOIN || need(path).is_ok_and(|need| need == Need::Operator)
}

/// Every method.
#[cfg(test)]
pub(super) fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(path, _)| *path)
}

/// Who calls, by the certificate of the connection; in the extensions of a request that was let through.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Arc<Facts>);

/// The same routes, for connections over TLS.
pub(super) fn by_certificate(routes: Routes, registry: Arc<Registry>) -> Routes {
    Routes::from(routes.into_axum_router().layer(from_fn_with_state(registry, admit)))
}

/// The same routes, for somebody with this role whom nobody else checks.
pub(crate) fn by_role(routes: Routes, role: Role) -> Routes {
    Routes::from(routes.into_axum_router().layer(from_fn_with_state(role, admit_role)))
}

async fn admit_role(State(role): State<Role>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let caller = format!(
        "a {role}, which is what asks over HTTP unless the coordinator was started with --http-role,"
    );
    match need(path).and_then(|need| allow(path, need, role, &caller)) {
        Ok(()) => next.run(request).await,
        Err(status) => answer(status),
    }
}

async fn admit(State(registry): State<Arc<Registry>>, mut request: Request, next: Next) -> Response {
    // By a Unix socket, which serves the coordinator's own user, root, and whom `--local-users` names: they are operators there,
    // as they are without TLS. A Star has a certificate.
    if request.extensions().get::<PlainPeer>().is_some() {
        let path = request.uri().path();
        let caller = "a user of this machine at a Unix socket";
        return match need(path).and_then(|need| allow(path, need, Role::Operator, caller)) {
            Ok(()) => next.run(request).await,
            Err(status) => answer(status),
        };
    }
    let facts = request.extensions().get::<Peer>().and_then(|peer| peer.facts.clone());
    if let Err(status) = judge(&registry, request.uri().path(), facts.as_deref()) {
        return answer(status);
    }
    if let Some(facts) = facts {
        request.extensions_mut().insert(Caller(facts));
    }
    next.run(request).await
}

fn judge(registry: &Registry, path: &str, facts: Option<&Facts>) -> Result<(), Status> {
    let need = need(path)?;
    if need == Need::Nothing {
        return Ok(());
    }
    let Some(facts) = facts else { return Err(status::no_identity()) };
    registry.check(facts, now()).map_err(|refused| status::identity_refused(&refused))?;
    let Identity { role, .. } = facts.identity;
    allow(path, need, role, &facts.identity.to_string())
}

fn need(path: &str) -> Result<Need, Status> {
    let found = METHODS.binary_search_by_key(&path, |(method, _)| method);
    found.map(|index| METHODS[index].1).map_err(|_| status::not_allowed(path, "the caller", "no role"))
}

fn allow(path: &str, need: Need, role: Role, caller: &str) -> Result<(), Status> {
    if need.is_met_by(role) {
        return Ok(());
    }
    Err(status::not_allowed(path, caller, need.words()))
}

fn answer(status: Status) -> Response {
    status.into_http::<Body>()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use orbit_proto::json;

    use super::*;

    #[test]
    fn every_method_of_the_coordinator_has_a_rule_and_no_rule_is_for_nothing() {
        let services = json::descriptors().services();
        // The data plane is what Stars serve to each other.
        let served: BTreeSet<String> = services
            .filter(|service| service.name() != "TransferService")
            .flat_map(|service| {
                let path = |name: &str| format!("/{}/{name}", service.full_name());
                service.methods().map(|method| path(method.name())).collect::<Vec<_>>()
            })
            .collect();
        let ours = METHODS.iter().map(|(path, _)| (*path).to_owned());
        let ruled: BTreeSet<String> = ours.filter(|path| path.starts_with("/orbit.")).collect();
        assert_eq!(served, ruled);
        assert!(METHODS.is_sorted_by_key(|(path, _)| path), "it is searched by halves");
    }

    #[test]
    fn what_changes_something_is_for_operators_alone() {
        let looks = ["Get", "List", "Watch", "Plan", "Explain", "Locate", "ServerReflectionInfo"];
        for (path, need) in METHODS {
            let method = path.rsplit('/').next().unwrap();
            if *need == Need::Viewer {
                assert!(looks.iter().any(|look| method.starts_with(look)), "{path}");
            }
            assert_eq!(
                need.is_met_by(Role::Star),
                matches!(need, Need::Nothing | Need::Certificate | Need::Star)
            );
            assert!(!Need::Star.is_met_by(Role::Operator) && !Need::Operator.is_met_by(Role::Viewer));
        }
        let open: Vec<&str> =
            METHODS.iter().filter(|(_, need)| *need == Need::Nothing).map(|(path, _)| *path).collect();
        assert!(
            open.iter().all(|path| path.starts_with("/grpc.health.") || path.ends_with("/Join")),
            "{open:?}"
        );
    }

    #[test]
    fn what_has_no_rule_is_refused() {
        for path in ["/orbit.v1.JobService/Nothing", "/orbit.v1.TransferService/Pull", "/", ""] {
            assert_eq!(need(path).unwrap_err().code(), tonic::Code::PermissionDenied, "{path}");
        }
    }
}
