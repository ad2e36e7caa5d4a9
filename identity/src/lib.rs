//! Identities in a grid: the coordinator's authority, the tokens with which machines join, the certificates that they
//! get, and TLS between them.
//!
//! [`Registry`] is the coordinator's: it admits holders of a [`JoinToken`], renews certificates, and revokes
//! identities. [`Credentials`] are what every other member holds. [`tls`] makes rustls configurations for both.
//! [`Listening`] and [`Dialing`] make connections with them. The server decides what a role may do. Libraries do the
//! cryptography.

mod accept;
mod address;
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
mod local_users;
pub mod network;
mod plain;
mod plain_dial;
mod plain_stream;
mod plaintext;
mod ports;
mod refusals;
mod registry;
mod silent;
mod socket_owner;
pub mod tls;
mod token;
mod tokens;
mod unix_socket;
mod verify;
mod who;

pub use accept::{Accepted, Accepting, Listener, Reserve};
pub use address::{Listen, ListenAddress, UNIX_SCHEME};
pub use authority::{Authority, AuthorityError};
pub use clock::{now, now_in_milliseconds};
pub use credentials::{Credentials, CredentialsError, NewKey};
pub use dial::{Dialing, Expected};
pub use enroll::{EnrollError, join, keep_renewed, renew, renew_if_due};
pub use facts::{Facts, NotOfAGrid};
pub use ledger::LedgerError;
pub use listen::{Connection, Listening, Peer};
pub use local_users::{LocalUser, LocalUserError, LocalUsers, Stranger, user_name};
pub use plain::{PlainConnection, PlainPeer};
pub use plain_dial::{PlainDialing, endpoint, shown};
pub use plain_stream::PlainStream;
pub use ports::{Ports, PortsError, bind_socket};
pub use registry::{Joining, Known, Refused, Registry, RegistryError};
pub use silent::{Origin, Place, Silent};
pub use token::{Invitation, JoinToken, TokenError};
pub use unix_socket::{BindError, UnixSocket};
pub use who::{Identity, IdentityError, Name, Role};
