//! `orbit-coordinator token create`: a join token made on the coordinator's machine, by a user who may read its keys.
//!
//! It only signs, so the coordinator may run or not, and the first operator gets in without one.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use orbit_identity::{Authority, AuthorityError, Name, Refused, Role, now, now_in_milliseconds};
use orbit_shared::quantity;

use crate::tls::IDENTITY_DIRECTORY;

/// Makes join tokens, with which machines and people get into a grid that speaks TLS.
#[derive(Debug, Clone, Parser)]
#[command(name = "orbit-coordinator token", bin_name = "orbit-coordinator token", version)]
pub struct TokenFlags {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens where the keys are.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Prints a token that lets one machine or person in
    Create(CreateFlags),
}

/// What a token is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct CreateFlags {
    /// The coordinator's directory
    #[arg(long, value_name = "DIR", env = "ORBIT_DATA_DIR")]
    pub data_dir: PathBuf,
    /// The role of the one who joins
    #[arg(long, value_enum, default_value_t = TokenRole::Star)]
    pub role: TokenRole,
    /// The one name that it is good for; without it, a name that nobody has
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: Option<Name>,
    /// How long it may be used, for example 15m or 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = quantity::duration)]
    pub ttl: Duration,
}

/// A role that a token gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Moves data
    Star,
    /// May change things
    Operator,
    /// May look
    Viewer,
}

impl From<TokenRole> for Role {
    fn from(role: TokenRole) -> Self {
        match role {
            TokenRole::Star => Self::Star,
            TokenRole::Operator => Self::Operator,
            TokenRole::Viewer => Self::Viewer,
        }
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenToolError {
    /// There is no such directory.
    #[error("--data-dir {}: there is no such directory; give the one that the coordinator is started with", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The keys cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No token may be like that.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be printed.
    #[error("the token cannot be printed: {0}")]
    Print(#[from] std::io::Error),
}

impl TokenCommand {
    /// Does it.
    ///
    /// # Errors
    /// See [`TokenToolError`].
    pub fn run(self, output: &mut impl Write) -> Result<(), TokenToolError> {
        let Self::Create(CreateFlags { data_dir, role, name, ttl }) = self;
        if !data_dir.is_dir() {
            return Err(TokenToolError::NoDirectory { path: data_dir });
        }
        let authority = Authority::open(&data_dir.join(IDENTITY_DIRECTORY), now())?;
        let (token, _) = authority.create_token(role.into(), name, ttl, now_in_milliseconds())?;
        writeln!(output, "{token}")?;
        Ok(output.flush()?)
    }
}
