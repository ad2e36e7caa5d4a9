//! Settings of a program, in layers: command line over environment over TOML file over default.
//!
//! A program defines its flags once, with clap. [`parse_layered`] adds `--config FILE` and `--print-config`, gives
//! every flag an environment variable (`--data-dir` is `ORBIT_DATA_DIR`, unless the flag names another) and a key in
//! the file (`data-dir` or `data_dir`). Values of the lower layers become defaults of the flags, so that one parser
//! checks them all. For the same reason clap's `conflicts_with` and `requires` apply to the command line only.
//!
//! A flag that can be repeated takes an array in the file and a comma-separated list in the environment. An empty
//! variable counts as not set. Flags of subcommands have variables too, but no keys in the file. Secrets are never
//! printed.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "ORBIT_CONFIG";
const PRINT_CONFIG: &str = "print-config";

/// Where the value in force came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This file.
    File(PathBuf),
    /// The program itself.
    Default,
    /// It has no value.
    Unset,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(variable) => write!(f, "env {variable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
            Self::Unset => f.write_str("not set"),
        }
    }
}

/// Why the settings cannot be used. Its text is one sentence for the user who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The command line itself is wrong, or asks for help.
    #[error("{0}")]
    Usage(clap::Error),
    /// The parser of the flag refuses a value from the environment or the file.
    #[error("{source_name}: the value {value:?} of {key} is not acceptable: {problem}")]
    Value {
        /// The layer, as users know it.
        source_name: String,
        /// The key of the setting.
        key: String,
        /// The value.
        value: String,
        /// The error of the parser.
        problem: String,
    },
    /// The file cannot be read.
    #[error("--config {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The error of the TOML parser, with line and column.
        problem: String,
    },
    /// The file has a key that the program does not know.
    #[error("{}: there is no setting {key}; did you mean {nearest}?", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The most similar known key.
        nearest: String,
    },
    /// A value of the file has a type that its flag cannot have.
    #[error("{}: {key} must be {expected}, not {found}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The expected type.
        expected: &'static str,
        /// The actual type.
        found: &'static str,
    },
    /// The file sets the same key twice, once with `-` and once with `_`.
    #[error("{}: {key} is set twice, once with - and once with _", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The key, with `-`.
        key: String,
    },
}

impl SettingsError {
    /// The exit code of the program: 0 after `--help` and `--version`, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) if !error.use_stderr() => 0,
            Self::Usage(_)
            | Self::Value { .. }
            | Self::Read { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::WrongType { .. }
            | Self::Twice { .. } => 2,
        }
    }

    /// Prints the text: help on standard output, everything else on standard error.
    pub fn print(&self) {
        // If the terminal is closed, nothing can be done.
        let _ = match self {
            Self::Usage(error) => error.print(),
            other => writeln!(io::stderr(), "error: {other}"),
        };
    }
}

/// The settings in force.
#[derive(Debug)]
pub struct Layered {
    /// The matches of clap for all layers; a derived struct reads them by `FromArgMatches`.
    pub matches: ArgMatches,
    /// Where each setting came from, by its key (the long flag).
    pub sources: BTreeMap<String, Source>,
    /// Whether `--print-config` was given: print [`Layered::print_config`] and do nothing else.
    pub is_print_requested: bool,
    settings: Vec<Setting>,
}

/// The value of one setting in a layer below the command line.
#[derive(Debug)]
struct LayerValue {
    values: Vec<OsString>,
    source: Source,
}

#[derive(Debug)]
struct Setting {
    id: String,
    key: String,
    variable: String,
    action: ArgAction,
    is_repeatable: bool,
}

/// Parses a program's settings from the command line, the process's environment, and the file that `--config` or
/// `ORBIT_CONFIG` names, which is read by `read_file`.
///
/// # Errors
/// See [`SettingsError`]; `--help` and `--version` arrive as [`SettingsError::Usage`] too.
pub fn parse_layered(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Layered, SettingsError> {
    parse_with_environment(command, args, |variable| std::env::var_os(variable), read_file)
}

/// As [`parse_layered`], with the environment passed in.
///
/// # Errors
/// As there.
pub fn parse_with_environment(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Layered, SettingsError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let settings: Vec<Setting> = command.get_arguments().filter_map(Setting::of).collect();
    let command = with_own_flags(command);
    let path = config_path(&command, &args, &environment);
    let mut from_file = match &path {
        Some(path) => file::values(path, &read_file, &settings)?,
        None => BTreeMap::new(),
    };
    let mut command = command;
    let mut below_flags = BTreeMap::new();
    for setting in &settings {
        let from_environment = environment(&setting.variable).filter(|value| !value.is_empty());
        let layer = match (from_environment, from_file.remove(&setting.key)) {
            (Some(value), _) => {
                Some((setting.split_variable(value), Source::Environment(setting.variable.clone())))
            }
            (None, Some(values)) => {
                Some((values, Source::File(path.clone().expect("values of a file have its path"))))
            }
            (None, None) => None,
        };
        if let Some((values, source)) = layer {
            command = command.mut_arg(&setting.id, |arg| arg.default_values(values.clone()).required(false));
            below_flags.insert(setting.key.clone(), LayerValue { values, source });
        }
    }
    command = with_subcommands(command, &environment, &mut below_flags);
    let matches = command.try_get_matches_from(args).map_err(|error| name_the_layer(error, &below_flags))?;
    let sources = settings
        .iter()
        .map(|setting| (setting.key.clone(), setting.source(&matches, &mut below_flags)))
        .collect();
    let is_print_requested = matches.get_flag(PRINT_CONFIG);
    Ok(Layered { matches, sources, is_print_requested, settings })
}

/// Gives the flags of subcommands their variables: a value of the environment is a default, as at the top level.
fn with_subcommands(
    mut command: Command,
    environment: &impl Fn(&str) -> Option<OsString>,
    below_flags: &mut BTreeMap<String, LayerValue>,
) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |mut below| {
            let settings: Vec<Setting> = below.get_arguments().filter_map(Setting::of).collect();
            for setting in settings {
                let value = environment(&setting.variable).filter(|value| !value.is_empty());
                let values = value.map(|value| setting.split_variable(value));
                below = below.mut_arg(&setting.id, |arg| {
                    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                    let arg = arg.help(format!("{help} [env: {}]", setting.variable)).env(Resettable::Reset);
                    match &values {
                        Some(values) => arg.default_values(values.clone()).required(false),
                        None => arg,
                    }
                });
                if let Some(values) = values {
                    let source = Source::Environment(setting.variable.clone());
                    below_flags.entry(setting.key.clone()).or_insert(LayerValue { values, source });
                }
            }
            with_subcommands(below, environment, below_flags)
        });
    }
    command
}

/// The command for its manual page: with the flags that [`parse_layered`] adds, and at each flag its environment
/// variable and its key in the file.
pub fn described_for_manual(command: Command) -> Command {
    let described = command.mut_args(|arg| match Setting::of(&arg) {
        Some(setting) => {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = format!("{}. {}", help.trim_end_matches('.'), setting.in_the_file());
            arg.help(help).env(setting.variable)
        }
        None => arg,
    });
    let [config, print] = own_flags();
    described
        .arg(config.help("TOML file with settings; unknown keys are errors").env(CONFIG_VARIABLE))
        .arg(print)
}

/// The two flags that every program has.
fn own_flags() -> [Arg; 2] {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("TOML file with settings: the keys are the long flags [env: {CONFIG_VARIABLE}]"));
    let print = Arg::new(PRINT_CONFIG)
        .long(PRINT_CONFIG)
        .action(ArgAction::SetTrue)
        .help("Print the settings in force and where each came from, and exit");
    [config, print]
}

/// Adds the flags that every program has, and the name of each flag's variable to its help.
fn with_own_flags(command: Command) -> Command {
    let own = own_flags();
    command
        .mut_args(|arg| match Setting::of(&arg) {
            Some(setting) => {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                // The variable is read here, not by clap, so that it is checked like every other layer.
                arg.help(format!("{help} [env: {}]", setting.variable)).env(Resettable::Reset)
            }
            None => arg,
        })
        .args(own)
}

/// The file to read: a first parse that uses only `--config`, since the rest can depend on the file.
fn config_path(
    command: &Command,
    args: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let lenient = command.clone().ignore_errors(true).mut_args(|arg| arg.required(false));
    let from_flag = lenient
        .try_get_matches_from(args)
        .ok()
        .and_then(|matches| matches.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned());
    from_flag.or_else(|| environment(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// A value from a lower layer is no mistake on the command line, and the message must say so.
fn name_the_layer(error: clap::Error, below_flags: &BTreeMap<String, LayerValue>) -> SettingsError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(_) | None => None,
    };
    let is_about_a_value = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
    let (Some(argument), Some(value), true) =
        (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue), is_about_a_value)
    else {
        return SettingsError::Usage(error);
    };
    let key = argument.trim_start_matches("--").split([' ', '=']).next().unwrap_or_default().to_owned();
    match below_flags.get(&key) {
        // The command line may have overridden the layer with another value; then the mistake is on the command line.
        Some(layer) if layer.values.iter().any(|given| given.to_string_lossy() == value) => {
            let problem = std::error::Error::source(&error)
                .map_or_else(|| error.kind().to_string(), ToString::to_string);
            SettingsError::Value { source_name: layer.source.to_string(), key, value, problem }
        }
        Some(_) | None => SettingsError::Usage(error),
    }
}

impl Setting {
    fn of(arg: &Arg) -> Option<Self> {
        let key = arg.get_long()?.to_owned();
        let action = arg.get_action().clone();
        let is_repeatable = match action {
            ArgAction::Append => true,
            ArgAction::Set => arg.get_num_args().is_some_and(|range| range.max_values() > 1),
            ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count => false,
            // Help, version, and kinds that later versions of clap may add.
            _ => return None,
        };
        if key == CONFIG || key == PRINT_CONFIG {
            return None;
        }
        let variable = match arg.get_env() {
            Some(variable) => variable.to_string_lossy().into_owned(),
            None => format!("ORBIT_{}", key.replace('-', "_").to_uppercase()),
        };
        Some(Self { id: arg.get_id().to_string(), key, variable, action, is_repeatable })
    }

    /// The type in the file, as part of a sentence.
    fn in_the_file(&self) -> String {
        let key = &self.key;
        match (self.is_switch(), self.is_repeatable) {
            (true, _) => format!("In the file: {key} = true."),
            (false, true) => format!(
                "In the file: {key} = [\"...\", \"...\"]; in the environment, values are separated by commas."
            ),
            (false, false) => format!("In the file: {key} = \"...\"."),
        }
    }

    fn is_switch(&self) -> bool {
        matches!(self.action, ArgAction::SetTrue | ArgAction::SetFalse)
    }

    fn split_variable(&self, value: OsString) -> Vec<OsString> {
        match value.into_string() {
            Ok(text) if self.is_repeatable => text.split(',').map(OsString::from).collect(),
            Ok(text) => vec![text.into()],
            Err(value) => vec![value],
        }
    }

    fn source(&self, matches: &ArgMatches, below_flags: &mut BTreeMap<String, LayerValue>) -> Source {
        match matches.value_source(&self.id) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(_) => below_flags.remove(&self.key).map_or(Source::Default, |layer| layer.source),
            None => Source::Unset,
        }
    }
}

impl Layered {
    /// The settings in force as a TOML file, with a comment on each line that names its source.
    pub fn print_config(&self) -> String {
        let mut text = String::new();
        for setting in &self.settings {
            let source = self.sources.get(&setting.key).unwrap_or(&Source::Unset);
            let line = match self.matches.get_raw(&setting.id) {
                Some(raw) if *source != Source::Unset => {
                    let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
                    if setting.is_secret() || values.iter().any(|value| has_password(value)) {
                        // As a comment, so that the output can be read as a file.
                        text.push_str(&format!("# {} = \"(hidden)\"  # {source}\n", setting.key));
                        continue;
                    }
                    format!("{} = {}  # {source}\n", setting.key, setting.to_toml(values))
                }
                Some(_) | None => format!("# {} is not set\n", setting.key),
            };
            text.push_str(&line);
        }
        text
    }
}

/// Suffixes of the names of flags with secrets.
const SECRETS: [&str; 5] = ["join", "token", "passphrase", "password", "secret"];

/// Whether a URL contains a password.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

impl Setting {
    fn is_secret(&self) -> bool {
        self.key.rsplit('-').next().is_some_and(|last| SECRETS.contains(&last))
    }

    fn to_toml(&self, values: Vec<String>) -> toml::Value {
        let scalar = |text: String| match text.parse::<i64>() {
            // A text such as "007" is more than its number.
            Ok(number) if number.to_string() == text => toml::Value::Integer(number),
            Ok(_) | Err(_) if self.is_switch() => toml::Value::Boolean(text == "true"),
            Ok(_) | Err(_) => toml::Value::String(text),
        };
        let mut values = values.into_iter().map(scalar);
        match values.next() {
            Some(only) if !self.is_repeatable => only,
            first => toml::Value::Array(first.into_iter().chain(values).collect()),
        }
    }
}
