//! Tests of the layers and their precedence, and of the messages about mistakes.

use clap::{FromArgMatches as _, Parser};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "sample")]
struct Sample {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:7200")]
    listen: std::net::SocketAddr,
    /// What it is called.
    #[arg(long)]
    star_id: String,
    /// What it exports.
    #[arg(long)]
    root: Vec<String>,
    /// Whether it talks.
    #[arg(long)]
    verbose: bool,
    /// How many.
    #[arg(long, env = "SAMPLE_THREADS")]
    thread_count: Option<u16>,
    /// Gets it in.
    #[arg(long)]
    join: Option<String>,
    /// Where spans go.
    #[arg(long)]
    endpoint: Option<String>,
    #[command(subcommand)]
    command: Option<SampleCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum SampleCommand {
    /// Copies.
    Copy {
        /// How fast.
        #[arg(long)]
        rate: Option<u32>,
        /// What not.
        #[arg(long)]
        exclude: Vec<String>,
        #[arg(long, requires = "rate")]
        hard: Option<String>,
    },
}

#[test]
fn a_flag_of_a_subcommand_has_a_variable_too() {
    let copy = |args: &[&str], variables: &[(&str, &str)]| match sample(args, variables, "").command {
        Some(SampleCommand::Copy { rate, exclude, hard }) => (rate, exclude, hard),
        None => panic!("it is given"),
    };
    let variables = [("ORBIT_RATE", "7"), ("ORBIT_EXCLUDE", "a,b"), ("ORBIT_HARD", "yes")];
    let (rate, exclude, hard) = copy(&["--star-id", "s", "copy"], &variables);
    assert_eq!(
        (rate, exclude, hard),
        (Some(7), vec!["a".to_owned(), "b".to_owned()], Some("yes".to_owned()))
    );
    let (rate, exclude, _) = copy(&["--star-id", "s", "copy", "--rate", "8", "--exclude", "c"], &variables);
    assert_eq!((rate, exclude), (Some(8), vec!["c".to_owned()]));
    let text = message(&["--star-id", "s", "copy"], &[("ORBIT_RATE", "fast")], "");
    assert!(text.starts_with("env ORBIT_RATE: the value \"fast\" of rate"), "{text}");
}

#[test]
fn a_secret_is_not_printed_but_its_source_is() {
    let variables = [("ORBIT_JOIN", "orbit-join-x"), ("ORBIT_ENDPOINT", "http://me:hush@host:1/a")];
    let printed = parse(&["--star-id", "s"], &variables, "").unwrap().print_config();
    assert!(printed.contains("# join = \"(hidden)\"  # env ORBIT_JOIN\n"), "{printed}");
    assert!(!printed.contains("orbit-join-x") && !printed.contains("hush"), "{printed}");
    assert!(parse(&["--star-id", "s"], &[], "").unwrap().print_config().contains("# join is not set\n"));
}

fn parse(args: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Layered, SettingsError> {
    let args = std::iter::once("sample").chain(args.iter().copied()).map(OsString::from);
    let environment = |name: &str| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
    };
    let read_file = |path: &Path| match path.to_str() {
        Some("orbit.toml") => Ok(file.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    parse_with_environment(<Sample as clap::CommandFactory>::command(), args, environment, read_file)
}

fn sample(args: &[&str], variables: &[(&str, &str)], file: &str) -> Sample {
    let layered = parse(args, variables, file).unwrap();
    Sample::from_arg_matches(&layered.matches).unwrap()
}

fn message(args: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    let error = parse(args, variables, file).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

const FILE: [&str; 2] = ["--config", "orbit.toml"];

#[test]
fn each_layer_wins_over_the_one_below() {
    let file = "star_id = 'by-file'";
    let variables = [("ORBIT_STAR_ID", "by-env")];
    let by_flag = ["--star-id", "by-flag", "--config", "orbit.toml"];
    assert_eq!(sample(&by_flag, &variables, file).star_id, "by-flag");
    assert_eq!(sample(&FILE, &variables, file).star_id, "by-env");
    assert_eq!(sample(&FILE, &[], file).star_id, "by-file");
    assert_eq!(sample(&FILE, &[], file).listen.port(), 7200);
}

#[test]
fn a_required_flag_can_come_from_any_layer_but_must_be_set() {
    assert!(message(&[], &[], "").contains("--star-id"));
    assert_eq!(sample(&[], &[("ORBIT_STAR_ID", "s")], "").star_id, "s");
}

#[test]
fn keys_are_written_with_dashes_or_underscores_but_only_once() {
    assert_eq!(sample(&FILE, &[], "star-id = 's'\nthread_count = 3").thread_count, Some(3));
    let twice = message(&FILE, &[], "star-id = 's'\nstar_id = 't'");
    assert_eq!(twice, "orbit.toml: star-id is set twice, once with - and once with _");
}

#[test]
fn an_unknown_key_is_refused_with_its_file_and_its_nearest_neighbour() {
    let text = message(&FILE, &[], "star-id = 's'\nlisten_on = '127.0.0.1:1'");
    assert_eq!(text, "orbit.toml: there is no setting listen_on; did you mean listen?");
    let text = message(&FILE, &[], "[table]\na = 1");
    assert!(text.starts_with("orbit.toml: there is no setting table; did you mean"), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_by_key_and_file() {
    let text = message(&FILE, &[], "star-id = 's'\nverbose = 'yes'");
    assert_eq!(text, "orbit.toml: verbose must be true or false, not a string");
    let text = message(&FILE, &[], "star-id = ['s']");
    assert_eq!(text, "orbit.toml: star-id must be a string, a number or a boolean, not an array");
    let text = message(&FILE, &[], "star-id = 's'\nroot = [['/a']]");
    assert_eq!(text, "orbit.toml: root must be an array of strings, numbers or booleans, not an array");
}

#[test]
fn a_value_that_its_flag_cannot_parse_names_the_layer_it_came_from() {
    let text = message(&FILE, &[], "star-id = 's'\nlisten = 'nowhere'");
    assert!(text.starts_with("file orbit.toml: the value \"nowhere\" of listen is not acceptable"), "{text}");
    let text = message(&["--star-id", "s"], &[("SAMPLE_THREADS", "many")], "");
    assert!(text.starts_with("env SAMPLE_THREADS: the value \"many\" of thread-count"), "{text}");
    let text = message(&["--star-id", "s", "--listen", "nowhere"], &[("ORBIT_LISTEN", "[::1]:1")], "");
    assert!(text.contains("--listen"), "{text}");
}

#[test]
fn a_repeatable_flag_is_an_array_in_the_file_and_a_list_in_the_environment() {
    let file = "star-id = 's'\nroot = ['/a', '/b:ro']";
    assert_eq!(sample(&FILE, &[], file).root, ["/a", "/b:ro"]);
    assert_eq!(sample(&FILE, &[("ORBIT_ROOT", "/c,/d")], file).root, ["/c", "/d"]);
    assert_eq!(sample(&["--root", "/e", "--config", "orbit.toml"], &[], file).root, ["/e"]);
    assert_eq!(sample(&FILE, &[], "star-id = 's'\nroot = '/a'").root, ["/a"]);
}

#[test]
fn a_switch_can_be_set_by_every_layer() {
    assert!(sample(&["--star-id", "s", "--verbose"], &[], "").verbose);
    assert!(sample(&["--star-id", "s"], &[("ORBIT_VERBOSE", "true")], "").verbose);
    assert!(sample(&FILE, &[], "star-id = 's'\nverbose = true").verbose);
    assert!(!sample(&FILE, &[("ORBIT_VERBOSE", "false")], "star-id = 's'\nverbose = true").verbose);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(sample(&FILE, &[("ORBIT_STAR_ID", "")], "star-id = 's'").star_id, "s");
}

#[test]
fn the_file_can_be_named_by_a_variable_and_must_exist() {
    assert_eq!(sample(&[], &[("ORBIT_CONFIG", "orbit.toml")], "star-id = 's'").star_id, "s");
    let text = message(&["--config", "none.toml"], &[("ORBIT_CONFIG", "orbit.toml")], "star-id = 's'");
    assert!(text.starts_with("--config none.toml: "), "{text}");
    assert!(message(&FILE, &[], "star-id = ").starts_with("orbit.toml: TOML parse error at line 1"));
}

#[test]
fn the_printed_settings_name_their_sources_and_can_be_read_again() {
    let file = "root = ['/a', '/b']\nverbose = true";
    let args = ["--star-id", "007", "--config", "orbit.toml", "--print-config"];
    let layered = parse(&args, &[("SAMPLE_THREADS", "4")], file).unwrap();
    assert!(layered.is_print_requested);
    let printed = layered.print_config();
    let expected = "listen = \"127.0.0.1:7200\"  # default\n\
                    star-id = \"007\"  # flag\n\
                    root = [\"/a\", \"/b\"]  # file orbit.toml\n\
                    verbose = true  # file orbit.toml\n\
                    thread-count = 4  # env SAMPLE_THREADS\n\
                    # join is not set\n\
                    # endpoint is not set\n";
    assert_eq!(printed, expected);
    let again = sample(&FILE, &[], &printed);
    assert_eq!((again.star_id.as_str(), again.root.len(), again.thread_count), ("007", 2, Some(4)));
    assert!(
        parse(&["--star-id", "s"], &[], "").unwrap().print_config().contains("# thread-count is not set\n")
    );
}

#[test]
fn help_names_the_variable_of_every_flag_and_is_not_a_failure() {
    let error = parse(&["--help"], &[], "").unwrap_err();
    assert_eq!(error.exit_code(), 0);
    let help = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for variable in ["ORBIT_LISTEN", "ORBIT_STAR_ID", "SAMPLE_THREADS", "ORBIT_CONFIG"] {
        assert!(help.contains(&format!("[env: {variable}]")), "{help}");
    }
}

#[test]
fn a_manual_names_every_flag_with_its_variable_and_its_key() {
    let described = described_for_manual(<Sample as clap::CommandFactory>::command());
    let said = |id: &str| {
        let arg = described.get_arguments().find(|arg| arg.get_id() == id).expect("it is described");
        let variable = arg.get_env().map(|variable| variable.to_string_lossy().into_owned());
        (arg.get_help().map(ToString::to_string).unwrap_or_default(), variable.unwrap_or_default())
    };
    assert_eq!(
        said("star_id"),
        ("What it is called. In the file: star-id = \"...\".".into(), "ORBIT_STAR_ID".into())
    );
    assert_eq!(said("thread_count").1, "SAMPLE_THREADS");
    assert!(said("verbose").0.ends_with("In the file: verbose = true."));
    assert!(
        said("root")
            .0
            .contains("root = [\"...\", \"...\"]; in the environment, values are separated by commas")
    );
    assert_eq!(said(CONFIG).1, CONFIG_VARIABLE);
    assert_eq!(said(PRINT_CONFIG).1, "", "it is no setting");
}
