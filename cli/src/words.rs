//! What the coordinator says in the words of its API, said in those of the command line: fields as flags, RPCs as commands.

/// Commands, by the RPC that they call.
const COMMANDS: &[(&str, &str)] = &[
    ("AcknowledgeBulletins", "orbit bulletins ack"),
    ("CancelJob", "orbit job cancel"),
    ("ClearPenalties", "orbit penalties clear"),
    ("CollectGarbage", "orbit gc"),
    ("CordonStar", "orbit star cordon"),
    ("CreateBackup", "orbit backup"),
    ("CreateJob", "orbit job create"),
    ("CreateSchedule", "orbit schedule create"),
    ("CreateToken", "orbit token create"),
    ("DeleteSchedule", "orbit schedule rm"),
    ("DeleteSnapshot", "orbit snapshot rm"),
    ("DiscardDeadLetters", "orbit dead-letters discard"),
    ("DrainStar", "orbit star drain"),
    ("ExplainItem", "orbit job explain"),
    ("GetDeadLetter", "orbit dead-letters show"),
    ("GetHealthHistory", "orbit health --history"),
    ("GetJob", "orbit job show"),
    ("GetReadGrant", "orbit snapshot cat"),
    ("GetSchedule", "orbit schedule show"),
    ("GetSnapshot", "orbit snapshot show"),
    ("GetStar", "orbit star show"),
    ("ListAdvisories", "orbit health"),
    ("ListBulletins", "orbit bulletins"),
    ("ListContainers", "orbit gc"),
    ("ListDeadLetters", "orbit dead-letters ls"),
    ("ListEvents", "orbit provenance"),
    ("ListGuards", "orbit guard ls"),
    ("ListIdentities", "orbit identity ls"),
    ("ListItems", "orbit job items JOB"),
    ("ListJobs", "orbit job ls"),
    ("ListPenalties", "orbit penalties ls"),
    ("ListSchedules", "orbit schedule ls"),
    ("ListSnapshotEntries", "orbit snapshot show"),
    ("ListSnapshots", "orbit snapshot ls"),
    ("ListStars", "orbit star ls"),
    ("ListTokens", "orbit token ls"),
    ("LocateChunk", "orbit provenance --chunk"),
    ("PauseGuard", "orbit guard pause"),
    ("PauseJob", "orbit job pause"),
    ("PauseSchedule", "orbit schedule pause"),
    ("PlanJob", "orbit job plan"),
    ("PruneSnapshots", "orbit snapshot prune"),
    ("RegisterStar", "orbit-star"),
    ("RemoveStar", "orbit star remove"),
    ("RestoreSnapshot", "orbit snapshot restore"),
    ("ResumeGuard", "orbit guard resume"),
    ("ResumeJob", "orbit job resume"),
    ("ResumeSchedule", "orbit schedule resume"),
    ("RetryDeadLetters", "orbit dead-letters retry"),
    ("RevokeIdentity", "orbit identity revoke"),
    ("RevokeToken", "orbit token revoke"),
    ("RotateGrantKey", "orbit keys rotate"),
    ("RunSchedule", "orbit schedule run"),
    ("ScheduleStar", "orbit star schedule"),
    ("ScrubVault", "orbit scrub"),
    ("SetGuardLimits", "orbit guard set"),
    ("ShutdownStar", "orbit star shutdown"),
    ("UncordonStar", "orbit star uncordon"),
    ("UndeleteSnapshot", "orbit snapshot undelete"),
    ("UpdateSchedule", "orbit schedule edit"),
    ("WatchBulletins", "orbit bulletins --follow"),
    ("WatchEvents", "orbit provenance --follow"),
    ("WatchJob", "orbit job watch"),
    ("WatchStars", "orbit star watch"),
];

/// Flags and arguments that are called otherwise than the field that they fill. Others are the field's last name with dashes.
const FLAGS: &[(&str, &str)] = &[
    ("bandwidth_windows", "--bwlimit-at"),
    ("bulletin_ids", "ID"),
    ("chunk_hash", "--chunk"),
    ("compares_content", "--checksum"),
    ("daily_times", "--at"),
    ("dead_letter_id", "ID"),
    ("dead_letter_ids", "ID"),
    ("dead_letter_max", "--dead-letter-max"),
    ("destination", "DST"),
    ("destinations", "DST"),
    ("failure_reason", "--reason"),
    ("interval", "--every"),
    ("item_key", "ITEM"),
    ("job_id", "JOB"),
    ("max_age", "--max-age"),
    ("max_bytes_per_second", "--bwlimit"),
    ("max_delete_percent", "--max-delete"),
    ("max_modify_time", "--min-age"),
    ("max_size_bytes", "--max-size"),
    ("min_modify_time", "--max-age"),
    ("min_size_bytes", "--min-size"),
    ("page_size", "--limit"),
    ("paths", "--files-from"),
    ("policy", "--keep-last or --keep-tag"),
    ("prioritizers", "--prioritizer"),
    ("schedule_id", "SCHEDULE"),
    ("snapshot_id", "SNAPSHOT"),
    ("source", "SRC"),
    ("star_id", "STAR"),
    ("tags", "--tag"),
    ("times", "--every or --at"),
    ("token_id", "ID"),
    ("trash_directory", "--trash"),
];

/// A text with commands in place of RPCs, and flags in place of fields. Paths and names within it stay as they are.
pub(crate) fn said(text: &str) -> String {
    text.split_inclusive(' ').map(said_word).collect()
}

fn said_word(word: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '[' | ']');
    let start = word.len() - word.trim_start_matches(['(', '`', '"']).len();
    let tail = &word[start..];
    let name = &tail[..tail.find(|letter: char| !is_part(letter)).unwrap_or(tail.len())];
    let name = name.trim_end_matches('.');
    let (before, after) = (&word[..start], &tail[name.len()..]);
    if after.starts_with('/') {
        return word.to_owned();
    }
    if let Ok(index) = COMMANDS.binary_search_by_key(&name, |(rpc, _)| rpc) {
        let quote = if before.ends_with('`') { "" } else { "`" };
        return format!("{before}{quote}{}{quote}{after}", COMMANDS[index].1);
    }
    let is_field = ["spec.", "times.", "policy."].iter().any(|within| name.starts_with(within));
    if is_field { format!("{before}{}{after}", flag(name)) } else { word.to_owned() }
}

/// The flag or argument that fills a field, which may be within others, such as `spec.destinations[0].path`.
pub(crate) fn flag(field: &str) -> String {
    let names = field.split('.').map(|part| part.split('[').next().unwrap_or(part));
    let names: Vec<&str> = names.collect();
    // A place is one argument, whichever part of it is meant.
    if let Some(place) = names.iter().find_map(|name| match *name {
        "source" => Some("SRC"),
        "destination" | "destinations" => Some("DST"),
        _ => None,
    }) {
        return place.to_owned();
    }
    let last = names.last().copied().unwrap_or_default();
    match FLAGS.binary_search_by_key(&last, |(field, _)| field) {
        Ok(index) => FLAGS[index].1.to_owned(),
        Err(_) => {
            let flag = format!("--{}", last.replace('_', "-"));
            let mut known = Vec::new();
            flags_of(&crate::command_line(), &mut known);
            // What no flag fills keeps its name: it can only be asked for by other clients.
            if known.contains(&flag) { flag } else { field.to_owned() }
        }
    }
}

/// The long flags of a command and all below it.
fn flags_of(command: &clap::Command, flags: &mut Vec<String>) {
    flags.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))));
    command.get_subcommands().for_each(|below| flags_of(below, flags));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RPCs that no operator calls.
    const NOT_FOR_OPERATORS: [&str; 4] = ["Connect", "Join", "Pull", "Renew"];

    #[test]
    fn every_rpc_has_a_command_and_every_command_is_one() {
        assert!(COMMANDS.is_sorted() && FLAGS.is_sorted());
        for service in orbit_proto::json::descriptors().services() {
            if service.parent_file().package_name() != "orbit.v1" {
                continue;
            }
            for method in service.methods() {
                let name = method.name();
                let is_known = COMMANDS.iter().any(|(rpc, _)| *rpc == name);
                assert!(is_known != NOT_FOR_OPERATORS.contains(&name), "{name} has no command");
            }
        }
        let command_line = crate::command_line();
        for (rpc, command) in COMMANDS.iter().filter(|(_, command)| *command != "orbit-star") {
            let words = command.split(' ').skip(1);
            let words = words
                .take_while(|word| !word.starts_with("--") && word.chars().all(|c| !c.is_ascii_uppercase()));
            words.fold(&command_line, |above, word| {
                above.find_subcommand(word).unwrap_or_else(|| panic!("{rpc}: {command}"))
            });
        }
    }

    #[test]
    fn every_other_name_is_a_flag_or_an_argument() {
        let mut flags = Vec::new();
        flags_of(&crate::command_line(), &mut flags);
        for (field, flag) in FLAGS {
            let are_there = flag.split(" or ").all(|flag| {
                flags.iter().any(|known| known == flag)
                    || flag.chars().all(|letter| letter.is_ascii_uppercase())
            });
            assert!(are_there, "{field}: {flag}");
        }
        for field in [
            "spec.include[0]",
            "spec.exclude[3]",
            "spec.penalty.max_penalties",
            "spec.penalty.initial_delay",
            "spec.penalty.backoff_factor",
            "times.daily_times[0]",
            "spec.mirror.max_delete_percent",
            "ttl",
            "name",
            "role",
            "reason",
            "deadline",
            "max_object_count",
        ] {
            let known = flag(field);
            let is_there = flags.contains(&known) || field == "max_object_count";
            assert!(is_there, "{field}: {known}");
        }
    }

    #[test]
    fn a_text_of_the_coordinator_speaks_of_commands_and_flags() {
        let cases = [
            (
                "schedule 9; ListSchedules shows those there are",
                "schedule 9; `orbit schedule ls` shows those there are",
            ),
            ("take the name free with RemoveStar.", "take the name free with `orbit star remove`."),
            ("times.daily_times[0] is \"25:00\"", "--at is \"25:00\""),
            ("spec.source.path is relative", "SRC is relative"),
            ("spec.max_bytes_per_second is -1", "--bwlimit is -1"),
            (
                "a path such as /a_b/spec.d and ListJobs/x stays",
                "a path such as /a_b/spec.d and ListJobs/x stays",
            ),
            ("the source is gone", "the source is gone"),
        ];
        for (text, spoken) in cases {
            assert_eq!(said(text), spoken);
        }
    }
}
