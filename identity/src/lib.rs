//! Who is who in a grid: the coordinator's authority, the tokens with which machines join it, the certificates that they
//! get, and TLS between them.
//!
//! [`Registry`] is the coordinator's: it lets holders of a [`JoinToken`] in, renews, revokes, and knows who was revoked.
//! [`Credentials`] are what everybody else holds. [`tls`] makes rustls configurations of either, [`Listening`] and
//! [`Dialing`] are connections by them. What a role may do is decided by whoever serves; cryptography is in libraries.

mod authority;
mod clock;
mod credentials;
mod dial;
mod dialed;
mod enroll;
mod facts;
mod files;
mod ledger;
mod listen;
mod plaintext;
mod registry;
pub mod tls;
mod token;
mod verify;
mod who;

pub use authority::{Authority, AuthorityError};
pub use clock::{now, now_in_milliseconds};
pub use credentials::{Credentials, CredentialsError, NewKey};
pub use dial::{Dialing, Expected};
pub use enroll::{EnrollError, join, keep_renewed, renew, renew_if_due};
pub use facts::{Facts, NotOfAGrid};
pub use ledger::LedgerError;
pub use listen::{Connection, Listening, Peer};
pub use registry::{Joining, Known, Refused, Registry, RegistryError};
pub use token::{JoinToken, TokenError};
pub use who::{Identity, IdentityError, Name, Role};
