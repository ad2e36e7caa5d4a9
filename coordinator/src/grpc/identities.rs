//! IdentityService.

use std::sync::Arc;
use std::time::Duration;

use orbit_identity::{Identity, Joining, Known, Name, Refused, Registry, Role, now, now_in_milliseconds};
use orbit_proto::v1;
use orbit_proto::v1::identity_service_server::IdentityService;
use tonic::{Request, Response, Status};

use super::access::Caller;
use super::fields::all;
use super::status::{identity_refused, refused};
use super::{Faces, once, page};
use crate::core::{Refusal, Violation};

const LIST: &str = "identities";
const TTL_DEFAULT: Duration = Duration::from_secs(60 * 60);

impl Faces {
    /// Who was let in. Without TLS nobody is.
    fn registry(&self) -> Result<Arc<Registry>, Status> {
        let problem = "this coordinator speaks no TLS, so nobody has an identity here; start it with --tls";
        self.identities.clone().ok_or_else(|| refused(Refusal::WrongState { problem: problem.to_owned() }))
    }
}

/// Asks the registry, which waits for the disk.
async fn ask<T: Send + 'static>(
    registry: &Arc<Registry>,
    question: impl FnOnce(&Registry) -> Result<T, Refused> + Send + 'static,
) -> Result<T, Status> {
    let registry = Arc::clone(registry);
    let answered = tokio::task::spawn_blocking(move || question(&registry)).await;
    answered.map_err(|_| super::status::stopping())?.map_err(|refused| identity_refused(&refused))
}

#[tonic::async_trait]
impl IdentityService for Faces {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let v1::JoinRequest { token, certificate_request, name } = request.into_inner();
        let name = all(optional_name(&name))?;
        let registry = self.registry()?;
        let joining = Joining { token, request: certificate_request, name };
        let certificate = ask(&registry, move |registry| registry.join(&joining, now())).await?;
        let authority = registry.authority().pem().to_owned();
        Ok(Response::new(v1::JoinResponse { certificate, authority }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let registry = self.registry()?;
        let Some(Caller(holder)) = request.extensions().get::<Caller>().cloned() else {
            return Err(super::status::no_identity());
        };
        let request = request.into_inner().certificate_request;
        let certificate = ask(&registry, move |registry| registry.renew(&holder, &request, now())).await?;
        let authority = registry.authority().pem().to_owned();
        Ok(Response::new(v1::RenewResponse { certificate, authority }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let (named, role, name, ttl) = all((
            once::name("CreateToken", &request.request_id, &request),
            role(request.role),
            optional_name(&request.name),
            ttl(request.ttl),
        ))?;
        let registry = self.registry()?;
        // What is remembered is in the store and its backups, and lets nobody in: it lacks the signature, which is made again.
        if let Some(told) = self.told::<v1::CreateTokenResponse>(named.as_ref()).await? {
            let token = registry.authority().sign_again(&told.token);
            let token = token.map_err(|error| identity_refused(&error.into()))?;
            return Ok(Response::new(v1::CreateTokenResponse { token, ..told }));
        }
        let (token, made) = ask(&registry, move |registry| {
            registry.authority().create_token(role, name, ttl, now_in_milliseconds())
        })
        .await?;
        let answer =
            v1::CreateTokenResponse { token: made.unsigned(), expire_time: Some(time(made.expires_at)) };
        self.tell(named, &answer).await?;
        Ok(Response::new(v1::CreateTokenResponse { token, ..answer }))
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        let request = request.into_inner();
        let (size, after) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<Identity>(LIST, &request.page_token),
        ))?;
        let mut found = self.registry()?.list();
        found.retain(|known| after.as_ref().is_none_or(|after| known.identity > *after));
        let has_more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| has_more);
        let last = last.map(|known| page::token(LIST, &known.identity.uri()));
        Ok(Response::new(v1::ListIdentitiesResponse {
            identities: found.into_iter().map(shown).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn revoke_identity(
        &self,
        request: Request<v1::RevokeIdentityRequest>,
    ) -> Result<Response<v1::RevokeIdentityResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let request = request.into_inner();
        let (named, role, name) = all((
            once::name("RevokeIdentity", &request.request_id, &request),
            role(request.role),
            name(&request.name),
        ))?;
        let registry = self.registry()?;
        if let Some(told) = self.told(named.as_ref()).await? {
            return Ok(Response::new(told));
        }
        let identity = Identity::new(role, name);
        if caller.is_some_and(|Caller(holder)| holder.identity == identity) {
            let problem =
                format!("{identity} is who asks, and nobody puts out himself; let another operator do it");
            return Err(refused(Refusal::WrongState { problem }));
        }
        let revoked_count =
            ask(&registry, move |registry| registry.revoke(&identity, now_in_milliseconds())).await?;
        let answer = v1::RevokeIdentityResponse { revoked_count };
        self.tell(named, &answer).await?;
        Ok(Response::new(answer))
    }
}

fn role(asked: i32) -> Result<Role, Violation> {
    match v1::Role::try_from(asked) {
        Ok(v1::Role::Star) => Ok(Role::Star),
        Ok(v1::Role::Operator) => Ok(Role::Operator),
        Ok(v1::Role::Viewer) => Ok(Role::Viewer),
        Ok(v1::Role::Unspecified) | Err(_) => {
            Err(Violation::new("role", format!("is {asked}, must be STAR, OPERATOR or VIEWER")))
        }
    }
}

fn name(asked: &str) -> Result<Name, Violation> {
    Name::new(asked).map_err(|error| Violation::new("name", error.to_string()))
}

fn optional_name(asked: &str) -> Result<Option<Name>, Violation> {
    if asked.is_empty() { Ok(None) } else { name(asked).map(Some) }
}

fn ttl(asked: Option<prost_types::Duration>) -> Result<Duration, Violation> {
    let bad = |_| Violation::new("ttl", "is no time of at least a second and at most 30 days");
    asked.map_or(Ok(TTL_DEFAULT), |asked| Duration::try_from(asked).map_err(bad))
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn shown(known: Known) -> v1::Identity {
    let role = match known.identity.role {
        Role::Star => v1::Role::Star,
        Role::Operator => v1::Role::Operator,
        Role::Viewer => v1::Role::Viewer,
        Role::Coordinator => v1::Role::Unspecified,
    };
    v1::Identity {
        role: role.into(),
        name: known.identity.name.to_string(),
        issue_time: Some(time(known.issued_at)),
        expire_time: Some(time(known.not_after)),
        serial_number: known.serial,
        is_revoked: known.is_revoked,
    }
}
