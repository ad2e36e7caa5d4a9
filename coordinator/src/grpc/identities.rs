//! IdentityService.

use std::sync::Arc;
use std::time::Duration;

use orbit_identity::{
    Identity, JoinToken, Joining, Known, Name, Refused, Registry, Role, now, now_in_milliseconds,
};
use orbit_proto::v1;
use orbit_proto::v1::identity_service_server::IdentityService;
use tonic::{Request, Response, Status};

use super::access::Caller;
use super::fields::all;
use super::status::{identity_refused, refused};
use super::{Faces, once, page};
use crate::core::{Refusal, Violation};

const LIST: &str = "identities";
const LIST_TOKENS: &str = "tokens";
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
        let maker = request.extensions().get::<Caller>().map(|Caller(holder)| holder.identity.clone());
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
            let token = registry.authority().line_again(&told.token);
            let token = token.map_err(|error| identity_refused(&error.into()))?;
            return Ok(Response::new(v1::CreateTokenResponse { token, ..told }));
        }
        let (token, made) = ask(&registry, move |registry| {
            registry.authority().create_token_by(maker, role, name, (ttl, now_in_milliseconds()))
        })
        .await?;
        let answer = v1::CreateTokenResponse {
            token: made.without_secret(),
            expire_time: Some(time(made.expires_at)),
            token_id: made.id.clone(),
        };
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

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let request = request.into_inner();
        let (size, after) = all((
            page::page_size("page_size", request.page_size),
            page::parsed_key::<String>(LIST_TOKENS, &request.page_token),
        ))?;
        let mut found = ask(&self.registry()?, |registry| registry.tokens(now())).await?;
        found.retain(|token| after.as_ref().is_none_or(|after| token.id > *after));
        let has_more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| has_more).map(|token| page::token(LIST_TOKENS, &token.id));
        Ok(Response::new(v1::ListTokensResponse {
            tokens: found.into_iter().map(shown_token).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let request = request.into_inner();
        let (named, id) =
            all((once::name("RevokeToken", &request.request_id, &request), token_id(&request.token_id)))?;
        let registry = self.registry()?;
        if let Some(told) = self.told(named.as_ref()).await? {
            return Ok(Response::new(told));
        }
        ask(&registry, move |registry| registry.revoke_token(&id)).await?;
        let answer = v1::RevokeTokenResponse {};
        self.tell(named, &answer).await?;
        Ok(Response::new(answer))
    }

    async fn rotate_grant_key(
        &self,
        request: Request<v1::RotateGrantKeyRequest>,
    ) -> Result<Response<v1::RotateGrantKeyResponse>, Status> {
        let request = request.into_inner();
        let named = all(once::name("RotateGrantKey", &request.request_id, &request))?;
        if let Some(told) = self.told(named.as_ref()).await? {
            return Ok(Response::new(told));
        }
        self.inbox.turn_key(None).await.map_err(refused)?;
        let answer = v1::RotateGrantKeyResponse {};
        self.tell(named, &answer).await?;
        Ok(Response::new(answer))
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
        let star = (identity.role == Role::Star).then(|| identity.name.clone());
        let revoked_count =
            ask(&registry, move |registry| registry.revoke(&identity, now_in_milliseconds())).await?;
        // What it was granted to read ends with the key that signed it.
        self.inbox.turn_key(star).await.map_err(refused)?;
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

fn token_id(asked: &str) -> Result<String, Violation> {
    match asked.is_empty() {
        true => Err(Violation::new("token_id", "is empty; ListTokens shows the numbers of the open tokens")),
        false => Ok(asked.to_owned()),
    }
}

fn ttl(asked: Option<prost_types::Duration>) -> Result<Duration, Violation> {
    let bad = |_| Violation::new("ttl", "is no time of at least a second and at most 30 days");
    asked.map_or(Ok(TTL_DEFAULT), |asked| Duration::try_from(asked).map_err(bad))
}

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn shown_token(token: JoinToken) -> v1::OpenToken {
    v1::OpenToken {
        token_id: token.id,
        role: wire_role(token.role).into(),
        name: token.name.map(|name| name.to_string()).unwrap_or_default(),
        created_by: token.made_by.map(|maker| maker.actor()).unwrap_or_default(),
        create_time: Some(time(token.created_at_ms / 1000)),
        expire_time: Some(time(token.expires_at)),
    }
}

fn wire_role(role: Role) -> v1::Role {
    match role {
        Role::Star => v1::Role::Star,
        Role::Operator => v1::Role::Operator,
        Role::Viewer => v1::Role::Viewer,
        Role::Coordinator => v1::Role::Unspecified,
    }
}

fn shown(known: Known) -> v1::Identity {
    v1::Identity {
        role: wire_role(known.identity.role).into(),
        name: known.identity.name.to_string(),
        issue_time: Some(time(known.issued_at)),
        expire_time: Some(time(known.not_after)),
        serial_number: known.serial,
        is_revoked: known.is_revoked,
    }
}
