//! Manual pages, and the scripts for completions, made from the command lines' own descriptions, so that they say what the programs do: of
//! `orbit` with its subcommands, and of the two servers, which are part of the same release.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use orbit_coordinator::config::CoordinatorFlags;
use orbit_coordinator::token_tool::TokenFlags;
use orbit_program::settings::described_for_manual;
use orbit_star::StarFlags;
use orbit_star::vault_tool::VaultFlags;
use roff::{Roff, bold, roman};

use crate::args::Args;
use crate::errors::CliError;
use crate::outcome::Outcome;
use crate::output::Output;

/// The section of the manual with commands that anybody gives.
const COMMANDS: &str = "1";
/// The section with servers and what looks after them.
const SERVERS: &str = "8";

/// How settings come together, for the pages of programs that have more than a command line.
const LAYERS: [&str; 2] = [
    "Every option may also be given in the environment, and in the TOML file that --config names, where its key is the option \
     without the dashes in front. The command line goes before the environment, the environment before the file, the file \
     before the default; an empty variable counts as not set. --print-config shows what is in force and where each value came \
     from.",
    "RUST_LOG says which lines are logged: info and above without it, for example RUST_LOG=debug.",
];

/// What a server's page has beside its options.
struct ServerNotes {
    signals: &'static str,
    exit: &'static str,
    files: &'static [(&'static str, &'static str)],
    see_also: &'static str,
}

const COORDINATOR_NOTES: ServerNotes = ServerNotes {
    signals: "SIGTERM and SIGINT end it in good order: it ends its streams, commits and exits. The second one ends it at once. \
              Nothing that was acknowledged is lost either way.",
    exit: "0 after a signal; 1 if it could not start or go on; 2 if a setting is wrong. Standard error says why.",
    files: &[
        ("/etc/orbit/coordinator.toml", "The settings of the service that the package installs."),
        (
            "/var/lib/orbit/coordinator",
            "Its data directory: the store, the provenance log, and with --tls the keys of the grid.",
        ),
    ],
    see_also: "orbit(1), orbit-coordinator-token(8), orbit-star(8), systemctl(1)",
};

const STAR_NOTES: ServerNotes = ServerNotes {
    signals: "SIGTERM and SIGINT drain it: it takes no more work, ends what it holds for at most --drain-timeout, and exits. \
              The second one ends it at once; what it held is done by it or others later.",
    exit: "0 after a signal or when it was shut down; 1 if it could not start or go on; 2 if a setting is wrong. Standard \
           error says why.",
    files: &[
        ("/etc/orbit/star.toml", "The settings of the service that the package installs."),
        ("/var/lib/orbit/star", "Its vault: its identity, its journal, and what it stores packed."),
    ],
    see_also: "orbit(1), orbit-coordinator(8), orbit-star-vault(8), systemctl(1)",
};

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell, output: Output) -> Result<Outcome, CliError> {
    output.line(&crate::completion::script(shell)?)?;
    Ok(Outcome::Completed)
}

/// Writes a page for each program and one for each subcommand.
pub(crate) fn pages(directory: &Path, output: Output) -> Result<Outcome, CliError> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| write_all(directory))
        .and_then(|()| std::fs::read_dir(directory).map(Iterator::count));
    let shown = directory.display();
    let count = written
        .map_err(|error| CliError::Failed(format!("the pages cannot be written to {shown}: {error}")))?;
    output.note(&format!("{count} pages are in {shown}; read one with: man {shown}/orbit.1"));
    Ok(Outcome::Completed)
}

fn write_all(directory: &Path) -> io::Result<()> {
    write_tree(described_for_manual(Args::command()), COMMANDS, directory)?;
    // A page's name has no spaces, what is typed has.
    let vault = VaultFlags::command().name("orbit-star-vault").bin_name("orbit-star vault");
    write_tree(vault, SERVERS, directory)?;
    let token = TokenFlags::command().name("orbit-coordinator-token").bin_name("orbit-coordinator token");
    write_tree(token, SERVERS, directory)?;
    write_server(CoordinatorFlags::command(), &COORDINATOR_NOTES, directory)?;
    write_server(StarFlags::command(), &STAR_NOTES, directory)
}

/// A page for a command and for everything below it.
fn write_tree(command: Command, section: &str, directory: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_built(&command, section, directory)
}

fn write_built(command: &Command, section: &str, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_built(subcommand, section, directory)?;
    }
    page(command.clone(), section).generate_to(directory)?;
    Ok(())
}

fn write_server(command: Command, notes: &ServerNotes, directory: &Path) -> io::Result<()> {
    let man = page(described_for_manual(command), SERVERS);
    let mut text = Vec::new();
    man.render(&mut text)?;
    rest_of_page(notes).to_writer(&mut text)?;
    std::fs::write(directory.join(man.get_filename()), text)
}

fn page(command: Command, section: &str) -> Man {
    Man::new(command).section(section).manual("Orbit Grid")
}

/// What is not in a command line's description.
fn rest_of_page(notes: &ServerNotes) -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["SETTINGS"]);
    for (index, paragraph) in LAYERS.iter().enumerate() {
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(*paragraph)]);
    }
    page.control("SH", ["SIGNALS"]).text([roman(notes.signals)]);
    page.control("SH", ["EXIT STATUS"]).text([roman(notes.exit)]);
    page.control("SH", ["FILES"]);
    for (path, meaning) in notes.files {
        page.control("TP", []).text([bold(*path)]).text([roman(*meaning)]);
    }
    page.control("SH", ["SEE ALSO"]).text([roman(notes.see_also)]);
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Color;

    /// The pages by name, as they read: without fonts and escapes.
    fn written() -> impl Fn(&str) -> String {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path(), Output::new(false, Color::Never)).unwrap();
        move |name: &str| {
            let path = directory.path().join(name);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            ["\\fB", "\\fI", "\\fR", "\\&"]
                .iter()
                .fold(text, |text, escape| text.replace(escape, ""))
                .replace("\\-", "-")
                .replace("\\*(Aq", "'")
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let page = written();
        assert!(page("orbit.1").contains("ORBIT_COORDINATOR"));
        for command in Args::command().get_subcommands() {
            let page = page(&format!("orbit-{}.1", command.get_name()));
            assert!(page.contains("NAME") && page.contains("SYNOPSIS"), "{}", command.get_name());
        }
        assert!(page("orbit-job-create.1").contains("--files-from"));
    }

    #[test]
    fn the_pages_of_the_servers_have_every_setting_with_variable_key_and_default() {
        let page = written();
        for (name, command) in
            [("orbit-coordinator", CoordinatorFlags::command()), ("orbit-star", StarFlags::command())]
        {
            let text = page(&format!("{name}.8"));
            let mut count = 0;
            for arg in command.get_arguments() {
                let Some(flag) = arg.get_long().filter(|flag| !["help", "version"].contains(flag)) else {
                    continue;
                };
                count += 1;
                let variable = format!("ORBIT_{}", flag.replace('-', "_").to_uppercase());
                let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
                for part in [format!("\n--{flag}"), variable, format!("In the file: {flag} = "), meaning] {
                    assert!(text.contains(&part), "{name}: {part:?} is not in\n{text}");
                }
                let takes_values = arg.get_action().takes_values();
                for default in arg.get_default_values().iter().filter(|_| takes_values) {
                    let default = format!("[default: {}]", default.to_string_lossy());
                    assert!(text.contains(&default), "{name}: --{flag}: {default}\n{text}");
                }
            }
            assert!(count >= 10, "{name} has only {count} settings");
            for part in ["--config", "ORBIT_CONFIG", "--print-config", "SIGNALS", "EXIT STATUS", "SEE ALSO"] {
                assert!(text.contains(part), "{name}: {part}");
            }
        }
        assert!(page("orbit-star-vault.8").contains("orbit-star-vault-rebuild(8)"));
        assert!(page("orbit-star-vault-rebuild.8").contains("orbit-star vault rebuild"));
    }
}
