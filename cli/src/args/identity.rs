//! Arguments of the commands over who may do what: joining, tokens and identities.

use clap::Subcommand;
use orbit_identity::Name;
use prost_types::Duration;

use crate::parse::quantity;
use crate::vocabulary;

/// Arguments of `orbit join`.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// The join token, one line that begins with orbit-join-; - reads it from standard input.
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// Under which name, unless the token says one [default: this user's, or this machine's].
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<Name>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Print a join token, with which one machine or person gets an identity.
    Create(CreateTokenArgs),
    /// List the open join tokens: those that were not used, have not ended and were not revoked. The tokens themselves are not shown.
    Ls {
        /// At most this many; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: u64,
    },
    /// Cancel an open join token.
    Revoke {
        /// Its number, as `orbit token ls` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Replace the key that signs what one Star may read from another: grants of the old key end at once, and jobs that run get new ones.
    Rotate,
}

/// Arguments of `orbit token create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateTokenArgs {
    /// The role that the holder of the token gets.
    #[arg(long, value_name = "ROLE", value_parser = vocabulary::parser("Role"), default_value = "star")]
    pub(crate) role: i32,
    /// The one name that it is good for; without it, the holder chooses a free one.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<Name>,
    /// How long it may be used.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = quantity::wire_duration)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// List everybody who was given an identity.
    Ls {
        /// At most this many; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: u64,
    },
    /// Put somebody out: their connections end, and what they were given is refused from now on.
    Revoke {
        /// What it is.
        #[arg(value_name = "ROLE", value_parser = vocabulary::parser("Role"))]
        role: i32,
        /// What it is called.
        #[arg(value_name = "NAME", value_parser = name)]
        name: Name,
    },
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}
