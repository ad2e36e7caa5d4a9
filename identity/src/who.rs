//! Roles and names, and how a certificate contains them: as one URI, `orbit://ROLE/NAME`.
//!
//! A name has the alphabet of a Star's id. A URI can contain all of it unencoded, so there is one way to read it. A DNS
//! name could not contain capitals and underscores.

use std::fmt;
use std::str::FromStr;

use orbit_shared::words::StarId;
use serde::{Deserialize, Serialize};

/// The name of a member of a grid, in the form of a Star's id.
pub type Name = StarId;

const SCHEME: &str = "orbit://";

/// The role of a member of a grid. The coordinator decides what each role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Plans and records. No token gives this role.
    Coordinator,
    /// Moves data.
    Star,
    /// May make changes.
    Operator,
    /// May only read.
    Viewer,
}

impl Role {
    /// The role as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Star => "star",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        [Self::Coordinator, Self::Star, Self::Operator, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError { text: text.to_owned() })
    }
}

/// A role and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The role.
    pub role: Role,
    /// The name.
    pub name: Name,
}

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not an identity of a grid; it is written {SCHEME}ROLE/NAME with a role of star, operator or viewer"
)]
pub struct IdentityError {
    /// The text.
    pub text: String,
}

impl Identity {
    /// An identity.
    pub fn new(role: Role, name: Name) -> Self {
        Self { role, name }
    }

    /// The form in records and logs: `operator:alice`.
    pub fn actor(&self) -> String {
        format!("{}:{}", self.role, self.name)
    }

    /// The form in a certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.role, self.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Reads what [`Identity::uri`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let refused = || IdentityError { text: text.to_owned() };
        let (role, name) =
            text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(refused)?;
        let name = Name::new(name).map_err(|_| refused())?;
        Ok(Self { role: role.parse().map_err(|_| refused())?, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        for name in ["a", "Star_1.example-x", "0", &"x".repeat(64)] {
            for role in [Role::Coordinator, Role::Star, Role::Operator, Role::Viewer] {
                let identity = Identity::new(role, name.parse().unwrap());
                assert_eq!(identity.uri().parse(), Ok(identity));
            }
        }
    }

    #[test]
    fn nothing_else_is_an_identity() {
        for text in [
            "",
            "orbit://star/",
            "orbit://star",
            "orbit:/star/a",
            "orbit://Star/a",
            "orbit://root/a",
            "orbit://star/a/b",
            "orbit://star/a?b",
            "orbit://star/a%20",
            " orbit://star/a",
            "ORBIT://star/a",
            "orbit://star/-a",
            "https://star/a",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
