//! The grids that this user has joined. Each is a context: a directory with an identity, and the coordinator that it is for.
//!
//! The first identity lies in the settings directory itself and is the context `default`, as earlier versions had it; further ones lie
//! in `contexts/NAME`. The file `context` names the one that is in use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orbit_identity::{Credentials, Invitation, LocalUsers, UNIX_SCHEME};
use orbit_program::settings::Source;

use crate::args::GlobalArgs;
use crate::client::normalize_url;
use crate::errors::CliError;

/// The context whose identity lies in the settings directory itself.
const DEFAULT: &str = "default";
const CONTEXTS: &str = "contexts";
const COORDINATOR: &str = "coordinator";
const CURRENT: &str = "context";
const NAME_BYTES_MAX: usize = 64;

/// One grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// Where it was joined; nothing for an identity of an earlier version.
    pub(crate) coordinator: Option<String>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Contexts {
    home: PathBuf,
}

impl Contexts {
    /// Those in this user's settings.
    pub(crate) fn open() -> Result<Self, CliError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").map(|home| home.join(".config"));
        let settings = set("XDG_CONFIG_HOME").or_else(home).map(|settings| settings.join("orbit"));
        let home = settings.ok_or_else(|| {
            CliError::Usage(
                "--identity: neither XDG_CONFIG_HOME nor HOME is set, so say which directory".to_owned(),
            )
        })?;
        Ok(Self { home })
    }

    fn place(&self, name: &str) -> PathBuf {
        if name == DEFAULT { self.home.clone() } else { self.home.join(CONTEXTS).join(name) }
    }

    fn at(&self, name: &str) -> Context {
        let directory = self.place(name);
        let coordinator = fs::read_to_string(directory.join(COORDINATOR)).ok();
        let coordinator = coordinator.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Context { name: name.to_owned(), directory, coordinator }
    }

    /// By their names; those that hold an identity, or the authority of a grid.
    pub(crate) fn all(&self) -> Vec<Context> {
        let mut names = vec![DEFAULT.to_owned()];
        let listed = fs::read_dir(self.home.join(CONTEXTS)).into_iter().flatten().filter_map(Result::ok);
        names.extend(listed.filter_map(|entry| entry.file_name().into_string().ok()));
        names.sort();
        let known = names.iter().map(|name| self.at(name));
        known.filter(|context| context.directory.join("ca.pem").exists()).collect()
    }

    /// One by its name.
    pub(crate) fn named(&self, name: &str) -> Result<Context, CliError> {
        self.all().into_iter().find(|context| context.name == name).ok_or_else(|| {
            CliError::Usage(format!(
                "unknown context {name:?}; `orbit context ls` lists them, and `orbit join TOKEN --coordinator URL --context {name}` makes it"
            ))
        })
    }

    /// The one in use.
    pub(crate) fn current(&self) -> Option<Context> {
        let said = fs::read_to_string(self.home.join(CURRENT)).ok();
        let all = self.all();
        let named = |name: &str| all.iter().find(|context| context.name == name).cloned();
        said.and_then(|name| named(name.trim())).or_else(|| named(DEFAULT))
    }

    /// Takes one into use.
    pub(crate) fn take(&self, name: &str) -> Result<Context, CliError> {
        let context = self.named(name)?;
        write(&self.home, CURRENT, name)?;
        Ok(context)
    }

    /// Remembers where a context was joined, and takes it into use.
    pub(crate) fn keep(&self, context: &Context, url: &str) -> Result<(), CliError> {
        write(&context.directory, COORDINATOR, url)?;
        write(&self.home, CURRENT, &context.name)
    }

    /// Where an identity for a token goes: the context of that name, or of that grid, or a new one.
    pub(crate) fn for_joining(
        &self,
        invitation: &Invitation,
        said: Option<&str>,
        url: &str,
    ) -> Result<Context, CliError> {
        let is_of = |context: &Context| invitation.is_of_authority_in(&context.directory);
        if let Some(name) = said {
            check_name(name)?;
            let context = self.at(name);
            return match is_of(&context) {
                Some(false) => Err(CliError::Usage(format!(
                    "context {name:?} belongs to another grid, whose identity would be lost; choose another --context"
                ))),
                Some(true) | None => Ok(context),
            };
        }
        if let Some(same) = self.all().into_iter().find(|context| is_of(context) == Some(true)) {
            return Ok(same);
        }
        let derived = name_of(url);
        let further = (2..).map(|number| format!("{derived}-{number}"));
        let mut names = [DEFAULT.to_owned(), derived.clone()].into_iter().chain(further);
        let free = names.find(|name| is_of(&self.at(name)).is_none());
        Ok(self.at(&free.unwrap_or(derived)))
    }
}

/// What a context is called that was given no name: its coordinator's host.
fn name_of(url: &str) -> String {
    let host = url.split("://").last().unwrap_or(url).split('/').next().unwrap_or(url);
    let host = host.strip_suffix(":7100").unwrap_or(host).trim_start_matches('[');
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let name: String = host.chars().map(|letter| if is_part(letter) { letter } else { '-' }).collect();
    name.trim_start_matches(['.', '-']).chars().take(NAME_BYTES_MAX - 4).collect()
}

fn check_name(name: &str) -> Result<(), CliError> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(is_part)
        && !name.starts_with(['.', '-']);
    if is_name {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "--context {name:?}: a name has letters, digits, dots, dashes and underscores"
    )))
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), CliError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.tmp"));
    let written: io::Result<()> =
        fs::write(&temporary, format!("{text}\n")).and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Which coordinator a command talks to, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// The directory of the identity, where TLS is spoken.
    identity: Option<PathBuf>,
    /// The name of the context that it comes from.
    context: Option<String>,
    /// The users of this machine whose servers are trusted without TLS.
    pub(crate) users: Arc<LocalUsers>,
}

impl Target {
    /// What the command line, the environment and the contexts say together, in this order.
    pub(crate) fn resolve(global: &GlobalArgs, coordinator: &Source) -> Result<Self, CliError> {
        let is_said = !matches!(coordinator, Source::Default | Source::Unset);
        let url = normalize_url(&global.coordinator);
        let users = Arc::new(LocalUsers::new(global.local_users.clone()));
        users.resolve().map_err(|error| CliError::Usage(error.to_string()))?;
        if let Some(directory) = &global.identity {
            return Ok(Self { url, identity: Some(directory.clone()), context: None, users });
        }
        let contexts = match Contexts::open() {
            Ok(contexts) => contexts,
            Err(_) if global.context.is_none() => {
                return Ok(Self { url, identity: None, context: None, users });
            }
            Err(error) => return Err(error),
        };
        let of_url = || contexts.all().into_iter().find(|context| context.coordinator.as_ref() == Some(&url));
        let context = match &global.context {
            Some(name) => Some(contexts.named(name)?),
            None if is_said => of_url().or_else(|| contexts.current()),
            None => contexts.current(),
        };
        let Some(context) = context else { return Ok(Self { url, identity: None, context: None, users }) };
        let url = context.coordinator.clone().filter(|_| !is_said).unwrap_or(url);
        Ok(Self { url, identity: Some(context.directory), context: Some(context.name), users })
    }

    /// The same identity at another address.
    pub(crate) fn at(self, url: &str) -> Self {
        Self { url: normalize_url(url), ..self }
    }

    /// The directory of the identity that was named with `--identity` where a Unix socket is asked: for the Stars of a grid with
    /// TLS. The socket does not tell whether they speak TLS.
    pub(crate) fn identity_for_stars(&self) -> Option<PathBuf> {
        self.identity.clone().filter(|_| self.url.starts_with(UNIX_SCHEME) && self.context.is_none())
    }

    /// The directory of the identity.
    pub(crate) fn directory(&self) -> Result<PathBuf, CliError> {
        match &self.identity {
            Some(directory) => Ok(directory.clone()),
            None => Contexts::open().map(|contexts| contexts.home),
        }
    }

    /// The address, and over TLS whose identity is shown there.
    pub(crate) fn shown(&self) -> String {
        let Some(directory) = self.identity.as_ref().filter(|_| self.url.starts_with("https://")) else {
            return self.url.clone();
        };
        let held = Credentials::load(directory).ok().flatten();
        let who = held.map_or_else(|| "no identity".to_owned(), |held| held.facts().identity.to_string());
        match &self.context {
            Some(name) => format!("{} ({who}, context {name})", self.url),
            None => format!("{} ({who}, --identity {})", self.url, directory.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_named_by_the_host_of_its_coordinator() {
        assert_eq!(name_of("https://grid.example.com:7100"), "grid.example.com");
        assert_eq!(name_of("https://10.0.0.1:7101"), "10.0.0.1-7101");
        assert!(check_name(&name_of("https://[::1]:7100")).is_ok());
        for bad in ["", "../x", "a/b", "-x", ".x"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_identity_of_an_earlier_version_is_the_default_context() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts { home: home.path().to_owned() };
        assert_eq!((contexts.all(), contexts.current()), (Vec::new(), None));
        fs::write(home.path().join("ca.pem"), "").unwrap();
        assert_eq!(contexts.current().map(|context| context.name), Some(DEFAULT.to_owned()));
        let other = home.path().join(CONTEXTS).join("other");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("ca.pem"), "").unwrap();
        assert_eq!(contexts.all().len(), 2);
        assert!(contexts.take("none").is_err());
        contexts.take("other").unwrap();
        assert_eq!(contexts.current().map(|context| context.directory), Some(other));
        contexts.take(DEFAULT).unwrap();
        assert_eq!(contexts.current().map(|context| context.name), Some(DEFAULT.to_owned()));
    }
}
