//! `orbit token`, `orbit keys` and `orbit identity`.

use orbit_identity::now;
use orbit_proto::v1::{
    CreateTokenRequest, Identity, ListIdentitiesRequest, ListTokensRequest, OpenToken, RevokeIdentityRequest,
    RevokeTokenRequest, RotateGrantKeyRequest,
};

use crate::args::{CreateTokenArgs, IdentityCommand, KeysCommand, TokenCommand};
use crate::client::{Client, request_id};
use crate::commands::pages::Pages;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::table::Table;
use crate::output::{Output, human};
use crate::vocabulary;

pub(super) async fn token(
    command: TokenCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        TokenCommand::Create(args) => create(args, client, output).await?,
        TokenCommand::Ls { limit } => list_tokens(limit, client, output).await?,
        TokenCommand::Revoke { id } => {
            let request = RevokeTokenRequest { token_id: id.clone(), request_id: request_id() };
            let answer = client.identities().revoke_token(request).await?.into_inner();
            output.answer(&answer, |_| format!("join token {id} is cancelled"))?;
        }
    }
    Ok(Outcome::Completed)
}

pub(super) async fn keys(command: KeysCommand, client: &Client, output: Output) -> Result<Outcome, CliError> {
    let KeysCommand::Rotate = command;
    let request = RotateGrantKeyRequest { request_id: request_id() };
    let answer = client.identities().rotate_grant_key(request).await?.into_inner();
    output.answer(&answer, |_| {
        "the key that signs grants was replaced; grants of earlier keys are refused".to_owned()
    })?;
    Ok(Outcome::Completed)
}

async fn create(args: CreateTokenArgs, client: &Client, output: Output) -> Result<(), CliError> {
    let CreateTokenArgs { role, name, ttl } = args;
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    let request = CreateTokenRequest { role, name, ttl: Some(ttl), request_id: request_id() };
    let answer = client.identities().create_token(request).await?.into_inner();
    output.answer(&answer, |answer| answer.token.clone())
}

async fn list_tokens(limit: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListTokensRequest { page_size, page_token };
        let page = client.identities().list_tokens(request).await?.into_inner();
        let has_headings = pages.took(page.tokens.len(), &page.next_page_token);
        output.answer(&page, |page| render_tokens(&page.tokens, has_headings))?;
    }
    pages.note_end(&output, "No join token is open.");
    Ok(())
}

fn render_tokens(tokens: &[OpenToken], has_headings: bool) -> String {
    let mut table = Table::new(&["ID", "ROLE", "NAME", "MADE BY", "MADE", "EXPIRES"]);
    for token in tokens {
        let or = |text: &str, none: &str| if text.is_empty() { none.to_owned() } else { text.to_owned() };
        table.row([
            token.token_id.clone(),
            vocabulary::word("Role", token.role),
            or(&token.name, "any"),
            or(&token.created_by, "coordinator"),
            human::time(token.create_time.as_ref()),
            human::time(token.expire_time.as_ref()),
        ]);
    }
    table.render(has_headings)
}

pub(super) async fn run(
    command: IdentityCommand,
    client: &Client,
    output: Output,
) -> Result<Outcome, CliError> {
    match command {
        IdentityCommand::Ls { limit } => list(limit, client, output).await?,
        IdentityCommand::Revoke { role, name } => {
            let request = RevokeIdentityRequest { role, name: name.to_string(), request_id: request_id() };
            let answer = client.identities().revoke_identity(request).await?.into_inner();
            output.answer(&answer, |answer| {
                format!(
                    "{name} is out; {} refused",
                    human::count_of(answer.revoked_count, "valid certificate")
                )
            })?;
        }
    }
    Ok(Outcome::Completed)
}

async fn list(limit: u64, client: &Client, output: Output) -> Result<(), CliError> {
    let mut pages = Pages::new(limit);
    while let Some((page_size, page_token)) = pages.next() {
        let request = ListIdentitiesRequest { page_size, page_token };
        let page = client.identities().list_identities(request).await?.into_inner();
        let has_headings = pages.took(page.identities.len(), &page.next_page_token);
        output.answer(&page, |page| render(&page.identities, has_headings))?;
    }
    pages.note_end(&output, "Nobody has joined yet.");
    Ok(())
}

fn render(identities: &[Identity], has_headings: bool) -> String {
    let mut table = Table::new(&["ROLE", "NAME", "STATE", "ISSUED", "EXPIRES", "SERIAL"]);
    for identity in identities {
        let ends = identity.expire_time.as_ref().map_or(0, |time| time.seconds);
        let state = match identity.is_revoked {
            true => "revoked",
            false if ends <= now() => "expired",
            false => "valid",
        };
        table.row([
            vocabulary::word("Role", identity.role),
            identity.name.clone(),
            state.to_owned(),
            human::time(identity.issue_time.as_ref()),
            human::time(identity.expire_time.as_ref()),
            identity.serial_number.clone(),
        ]);
    }
    table.render(has_headings)
}
