//! The commands that talk to a coordinator.

mod backup;
mod bulletins;
mod dead_letters;
mod events;
mod guard;
mod health;
mod identities;
pub(crate) mod job;
mod pages;
mod penalties;
mod ping;
mod provenance;
mod reconnect;
mod schedule;
mod star;
mod status;
mod top;
mod vault;

use crate::args::Command;
use crate::client::Client;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

pub(crate) use self::dead_letters::{Places, note_all as note_dead_letters};
pub(crate) use self::ping::ping;
pub(crate) use self::star::state_line as star_line;

/// Carries out a command that needs a coordinator.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<Outcome, CliError> {
    match command {
        Command::Copy(_)
        | Command::Demo(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Join(_)
        | Command::Context(_)
        | Command::Ping(_) => {
            unreachable!("these need no coordinator, bring their own, or may ask somebody else")
        }
        Command::Job(command) => Box::pin(job::run(command, client, output)).await,
        Command::Schedule(command) => Box::pin(schedule::run(command, client, output)).await,
        Command::Star(command) => Box::pin(star::run(command, client, output)).await,
        Command::Guard(command) => guard::run(command, client, output).await,
        Command::Penalties(command) => penalties::run(command, client, output).await,
        Command::Bulletins(args) => Box::pin(bulletins::run(args, client, output)).await,
        Command::DeadLetters(command) => Box::pin(dead_letters::run(command, client, output)).await,
        Command::Provenance(args) => Box::pin(provenance::run(args, client, output)).await,
        Command::Snapshot(command) => Box::pin(vault::run(command, client, output)).await,
        Command::Gc(args) => vault::collect(args, client, output).await,
        Command::Scrub(args) => vault::scrub(args, client, output).await,
        Command::Health(args) => health::run(args, client, output).await,
        Command::Backup(args) => backup::run(args, client, output).await,
        Command::Keys(command) => identities::keys(command, client, output).await,
        Command::Token(command) => identities::token(command, client, output).await,
        Command::Identity(command) => identities::run(command, client, output).await,
        Command::Top(args) => top::run(args, client, output).await,
        Command::Events(args) => Box::pin(events::run(args, client, output)).await,
        Command::Status => status::run(client, output).await,
    }
}
