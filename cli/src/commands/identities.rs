//! `orbit token` and `orbit identity`.

use orbit_identity::now;
use orbit_proto::v1::{CreateTokenRequest, Identity, ListIdentitiesRequest, RevokeIdentityRequest};

use crate::args::{CreateTokenArgs, IdentityCommand, TokenCommand};
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
    let TokenCommand::Create(CreateTokenArgs { role, name, ttl }) = command;
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    let request = CreateTokenRequest { role, name, ttl: Some(ttl), request_id: request_id() };
    let answer = client.identities().create_token(request).await?.into_inner();
    output.answer(&answer, |answer| answer.token.clone())?;
    Ok(Outcome::Completed)
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
