use super::*;

fn by_name(path: &str) -> Priority {
    SemanticRegistry::built_in().classify(path.as_bytes(), None)
}

fn by_content(path: &str, header: &[u8]) -> Priority {
    SemanticRegistry::built_in().classify(path.as_bytes(), Some(header))
}

fn with_rules(rules: &[SemanticRule]) -> SemanticRegistry {
    SemanticRegistry::new(rules).unwrap()
}

#[test]
fn ranks_are_those_of_the_specification_and_order_like_urgency() {
    assert_eq!(Priority::ALL.map(Priority::rank), [0, 10, 50, 100]);
    assert!(Priority::Critical < Priority::High && Priority::Normal < Priority::Low);
    for priority in Priority::ALL {
        assert_eq!(Priority::from_rank(priority.rank()), Some(priority));
        let json = serde_json::to_string(&priority).unwrap();
        assert_eq!(json, format!("\"{priority}\""));
        assert_eq!(serde_json::from_str::<Priority>(&json).unwrap(), priority);
    }
    assert_eq!(Priority::from_rank(11), None);
}

#[test]
fn configuration_is_critical() {
    for path in
        ["app.toml", "a/b/values.YAML", "x.yml", "nginx.conf", "php.ini", "web/.env", ".env.production"]
    {
        assert_eq!(by_name(path), Priority::Critical, "{path}");
    }
}

#[test]
fn private_keys_and_certificates_are_critical_by_name() {
    for path in ["id_rsa", "home/ann/.ssh/id_ed25519", "tls/server.pem", "tls/server.key", "ca.crt"] {
        assert_eq!(by_name(path), Priority::Critical, "{path}");
    }
}

#[test]
fn a_private_key_is_critical_under_any_name() {
    assert_eq!(by_content("secrets/deploy", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"), Priority::Critical);
    assert_eq!(by_content("notes", b"-----BEGIN of a long story"), Priority::Normal);
}

#[test]
fn a_keynote_presentation_is_not_a_key() {
    assert_eq!(by_content("talk.key", b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00"), Priority::Normal);
    assert_eq!(by_content("tls.key", b"-----BEGIN EC PRIVATE KEY-----"), Priority::Critical);
}

#[test]
fn a_json_dump_is_not_configuration() {
    assert_eq!(by_name("exports/users-2023.json"), Priority::Normal);
    assert_eq!(by_name("web/package.json"), Priority::Critical);
    assert_eq!(by_name("web/tsconfig.json"), Priority::Critical);
}

#[test]
fn write_ahead_logs_are_high() {
    for path in ["db/app.wal", "db/app.sqlite-wal", "db/app.db-journal", "pg/pg_wal/000000010000000000000001"]
    {
        assert_eq!(by_name(path), Priority::High, "{path}");
    }
}

#[test]
fn an_ordinary_log_is_normal() {
    assert_eq!(by_name("var/log/nginx/access.log"), Priority::Normal);
    assert_eq!(by_name("blog.log"), Priority::Normal);
}

#[test]
fn executables_are_high_by_content_even_without_an_extension() {
    assert_eq!(by_content("bin/ls", b"\x7fELF\x02\x01\x01\0\0\0\0\0"), Priority::High);
    assert_eq!(by_content("usr/bin/ldd", b"#! /usr/bin/bash\n"), Priority::High);
    assert_eq!(by_name("bin/ls"), Priority::Normal);
}

#[test]
fn shared_libraries_are_high_by_name() {
    for path in ["lib/libc.so", "lib/libc.so.6", "lib/libssl.so.1.1", "app/core.dll", "App.EXE"] {
        assert_eq!(by_name(path), Priority::High, "{path}");
    }
    assert_eq!(by_name("notes.sort"), Priority::Normal);
}

#[test]
fn media_and_archives_are_low_by_name_in_either_case() {
    for path in ["DCIM/IMG_0001.JPG", "film.mkv", "song.flac", "backup.tar.gz", "disk.iso", "a.zip"] {
        assert_eq!(by_name(path), Priority::Low, "{path}");
    }
}

#[test]
fn media_without_an_extension_is_low_by_its_first_bytes() {
    assert_eq!(by_content("IMG", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"), Priority::Low);
    assert_eq!(by_content("blob", b"\x1f\x8b\x08\0\0\0\0\0\0\x03ab"), Priority::Low);
}

#[test]
fn a_database_or_document_is_not_an_archive() {
    assert_eq!(by_content("app", b"SQLite format 3\0\x10\0\x01\x01"), Priority::Normal);
    assert_eq!(by_content("paper", b"%PDF-1.7\n%abcdefgh"), Priority::Normal);
    assert_eq!(ContentKind::of(b"%PDF-1.7\n%abcdefgh"), Some(ContentKind::Document));
}

#[test]
fn text_that_only_looks_like_a_signature_stays_normal() {
    assert_eq!(by_content("notes", b"BC is short for before Christ"), Priority::Normal);
}

#[test]
fn an_unknown_file_is_normal_whatever_its_header_length() {
    for header in [&b""[..], b"a", b"plain text that no rule knows"] {
        assert_eq!(by_content("data/part-0001", header), Priority::Normal);
    }
    assert_eq!(by_name(""), Priority::Normal);
}

#[test]
fn an_operator_overrules_a_built_in_rule() {
    let registry = with_rules(&[SemanticRule::for_globs(["*.yaml"], Priority::Low)]);
    assert_eq!(registry.classify(b"k8s/a.yaml", None), Priority::Low);
    assert_eq!(registry.classify(b"k8s/a.toml", None), Priority::Critical);
}

#[test]
fn the_first_matching_operator_rule_decides() {
    let registry = with_rules(&[
        SemanticRule::for_globs(["scratch/**"], Priority::Low),
        SemanticRule::for_globs(["*.db"], Priority::Critical),
    ]);
    assert_eq!(registry.classify(b"scratch/a.db", None), Priority::Low);
    assert_eq!(registry.classify(b"live/a.db", None), Priority::Critical);
}

#[test]
fn a_glob_with_a_slash_is_anchored_and_one_without_is_not() {
    let registry = with_rules(&[
        SemanticRule::for_globs(["top/*.bin"], Priority::High),
        SemanticRule::for_globs(["*.any"], Priority::Low),
    ]);
    assert_eq!(registry.classify(b"top/a.bin", None), Priority::High);
    assert_eq!(registry.classify(b"sub/top/a.bin", None), Priority::Normal);
    assert_eq!(registry.classify(b"top/sub/a.bin", None), Priority::Normal);
    assert_eq!(registry.classify(b"deep/down/b.any", None), Priority::Low);
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let rule = SemanticRule {
        globs: vec!["*.dat".to_owned()],
        ..SemanticRule::for_magic(b"RIND", 2, Priority::Critical)
    };
    let registry = with_rules(&[rule]);
    assert_eq!(registry.classify(b"a.dat", Some(b"..RIND")), Priority::Critical);
    assert_eq!(registry.classify(b"a.dat", Some(b"..RIN")), Priority::Normal);
    assert_eq!(registry.classify(b"a.dat", None), Priority::Normal);
    assert_eq!(registry.classify(b"a.bin", Some(b"..RIND")), Priority::Normal);
}

#[test]
fn an_operator_can_judge_by_kind() {
    let registry = with_rules(&[SemanticRule::for_kind(ContentKind::Image, Priority::Critical)]);
    assert_eq!(registry.classify(b"x.png", Some(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")), Priority::Critical);
}

#[test]
fn a_path_that_is_not_utf8_is_judged_like_any_other() {
    assert_eq!(SemanticRegistry::built_in().classify(b"caf\xe9/men\xfc.toml", None), Priority::Critical);
}

#[test]
fn bad_rules_are_refused_with_their_number() {
    let good = SemanticRule::for_globs(["*.a"], Priority::Low);
    let refused = |rule| SemanticRegistry::new(&[good.clone(), rule]).unwrap_err();
    let none: [&str; 0] = [];
    assert_eq!(refused(SemanticRule::for_globs(none, Priority::Low)), SemanticRuleError::Empty { rule: 1 });
    assert!(matches!(
        refused(SemanticRule::for_globs(["a[b"], Priority::Low)),
        SemanticRuleError::Glob { rule: 1, .. }
    ));
    let magic = |hex: &str, offset| SemanticRule {
        globs: Vec::new(),
        magic: Some(Magic { hex: hex.to_owned(), offset }),
        kind: None,
        priority: Priority::Low,
    };
    for bad in [magic("", 0), magic("abc", 0), magic("zz", 0), magic("00", 512), magic("00", usize::MAX)] {
        assert!(matches!(refused(bad.clone()), SemanticRuleError::Magic { rule: 1, .. }), "{bad:?}");
    }
    assert!(SemanticRegistry::new(&[magic("00", 511)]).is_ok());
    let many = vec![good; SEMANTIC_RULE_COUNT_MAX + 1];
    assert_eq!(SemanticRegistry::new(&many).unwrap_err(), SemanticRuleError::TooMany { count: 257 });
}

#[test]
fn rules_read_from_configuration_reject_unknown_fields() {
    let rule: SemanticRule =
        serde_json::from_str(r#"{"globs":["*.x"],"magic":{"hex":"00"},"kind":"archive","priority":"low"}"#)
            .unwrap();
    assert_eq!(rule.kind, Some(ContentKind::Archive));
    assert_eq!(rule.magic.as_ref().unwrap().offset, 0);
    let back: SemanticRule = serde_json::from_str(&serde_json::to_string(&rule).unwrap()).unwrap();
    assert_eq!(back, rule);
    assert!(serde_json::from_str::<SemanticRule>(r#"{"glob":["*.x"],"priority":"low"}"#).is_err());
}

#[test]
fn an_operators_rules_are_lines_in_their_order_a_bounded_number() {
    let both =
        SemanticRule { kind: Some(ContentKind::Archive), ..SemanticRule::for_magic(b"SQ", 2, Priority::Low) };
    let registry = with_rules(&[SemanticRule::for_globs(["*.sql", "exports/**"], Priority::Critical), both]);
    assert_eq!(
        registry.describe_rules(),
        ["critical: *.sql, exports/**", "low: has bytes 5351 at 2 and is archive"]
    );
    let lines = with_rules(&vec![SemanticRule::for_globs(["a"], Priority::Low); 100]).describe_rules();
    assert_eq!((lines.len(), lines[63].as_str()), (SEMANTIC_LINES_MAX, "and 37 more"));
    let long = with_rules(&[SemanticRule::for_globs(["x".repeat(4000)], Priority::Low)]).describe_rules();
    assert!(long[0].len() <= 200, "{}", long[0].len());
    assert!(SemanticRegistry::built_in().describe_rules().is_empty());
}

#[test]
fn headers_are_asked_for_only_where_a_rule_needs_them() {
    let rules = [
        SemanticRule::for_globs(["*.skip"], Priority::Low),
        SemanticRule {
            globs: vec!["*.bin".to_owned()],
            ..SemanticRule::for_magic(b"abcd", 4, Priority::High)
        },
        SemanticRule {
            globs: vec!["*.any".to_owned()],
            ..SemanticRule::for_kind(ContentKind::Video, Priority::Low)
        },
    ];
    let registry = with_rules(&rules);
    let asked = |path: &str| registry.header_bytes(path.as_bytes());
    assert_eq!(
        (asked("a.skip"), asked("a.bin"), asked("a.any"), asked("b")),
        (0, 8, SEMANTIC_HEADER_BYTES, 0)
    );
    let everywhere = with_rules(&[SemanticRule::for_magic(b"ab", 0, Priority::High), rules[0].clone()]);
    assert_eq!((everywhere.header_bytes(b"a.skip"), everywhere.header_bytes(b"b")), (2, 2));
    assert_eq!(SemanticRegistry::built_in().header_bytes(b"b"), 0);
    assert_eq!(registry.classify(b"x.bin", Some(b"0123abcd")), Priority::High);
}
