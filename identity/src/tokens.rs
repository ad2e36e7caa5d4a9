//! The open join tokens of an authority: one file for each in `tokens`, beside the keys. The file has all but the
//! secret, which is in the token only. So `orbit-coordinator token create` can make a token while a coordinator runs,
//! and a token is cancelled by removing its file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{make_private_directory, publish_secret, read_secret_if_there};
use crate::token::JoinToken;

const DIRECTORY: &str = "tokens";
const SUFFIX: &str = ".json";
/// Maximum number of tokens that are kept. Expired ones are removed to make room.
pub(crate) const TOKENS_MAX: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tokens {
    directory: PathBuf,
}

impl Tokens {
    /// The tokens of the authority in a directory.
    pub(crate) fn of(authority: &Path) -> Self {
        Self { directory: authority.join(DIRECTORY) }
    }

    /// Keeps a token, durably. Removes expired ones.
    pub(crate) fn keep(&self, token: &JoinToken, now: i64) -> io::Result<()> {
        make_private_directory(&self.directory)?;
        let kept = self.all()?;
        let mut count = kept.len();
        for ended in kept.iter().filter(|kept| kept.expires_at <= now) {
            self.remove(&ended.id)?;
            count -= 1;
        }
        if count >= TOKENS_MAX {
            let text =
                format!("there are {count} open join tokens already; cancel some with `orbit token revoke`");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        publish_secret(&self.directory, &file_name(&token.id), token.without_secret().as_bytes())
    }

    /// The token with a number, if it is kept.
    pub(crate) fn get(&self, id: &str) -> io::Result<Option<JoinToken>> {
        if !is_id(id) {
            return Ok(None);
        }
        let text = read_secret_if_there(&self.directory.join(file_name(id)))?;
        text.map(|text| JoinToken::of_text(&text).map_err(io::Error::other)).transpose()
    }

    /// Cancels a token, durably. Returns whether there was one.
    pub(crate) fn remove(&self, id: &str) -> io::Result<bool> {
        if !is_id(id) {
            return Ok(false);
        }
        match fs::remove_file(self.directory.join(file_name(id))) {
            Ok(()) => File::open(&self.directory)?.sync_all().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All tokens that are kept, by number. A file that cannot be read is skipped with a warning: it admits no machine.
    pub(crate) fn all(&self) -> io::Result<Vec<JoinToken>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
            match self.get(id) {
                Ok(token) => all.extend(token),
                Err(error) => tracing::warn!(token = id, %error, "a join token cannot be read"),
            }
        }
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }
}

fn file_name(id: &str) -> String {
    format!("{id}{SUFFIX}")
}

/// Whether a text can be a part of a file's name.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::who::Role;

    #[test]
    fn a_token_is_kept_until_it_has_ended_or_is_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(directory.path());
        let made = |end| JoinToken::new(Role::Viewer, None, (0, end));
        let (first, second, third) = (made(10), made(20), made(30));
        tokens.keep(&first, 0).unwrap();
        tokens.keep(&second, 0).unwrap();
        assert_eq!(tokens.all().unwrap().len(), 2);
        assert_eq!(tokens.get(&second.id).unwrap(), Some(second.clone()));
        tokens.keep(&third, 15).unwrap();
        assert_eq!(tokens.get(&first.id).unwrap(), None, "it has ended");
        assert!(tokens.remove(&second.id).unwrap() && !tokens.remove(&second.id).unwrap());
        assert_eq!(tokens.all().unwrap(), [third]);
    }

    #[test]
    fn a_number_is_never_a_path() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ledger.json"), "{}").unwrap();
        let tokens = Tokens::of(directory.path());
        for id in ["../ledger", "", "..", "/etc/passwd"] {
            assert_eq!(tokens.get(id).unwrap(), None, "{id}");
            assert!(!tokens.remove(id).unwrap(), "{id}");
        }
        assert!(directory.path().join("ledger.json").exists());
    }
}
