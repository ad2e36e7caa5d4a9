//! The built-in rules. Names are in lower case, as the registry compares them.
//!
//! A name that is also used for bulk data is deliberately absent: not every `.json` is configuration (dumps are `.json`
//! too), and not every `.log` is a write-ahead log.

use super::{ContentKind, Priority, SemanticRule};

const KEYNOTE_NAMES: &[&str] = &["*.key"];

const KEY_NAMES: &[&str] = &[
    "id_rsa",
    "id_rsa.pub",
    "id_dsa",
    "id_dsa.pub",
    "id_ecdsa",
    "id_ecdsa.pub",
    "id_ecdsa_sk",
    "id_ecdsa_sk.pub",
    "id_ed25519",
    "id_ed25519.pub",
    "id_ed25519_sk",
    "id_ed25519_sk.pub",
    "ssh_host_*_key",
    "ssh_host_*_key.pub",
    "authorized_keys",
    "known_hosts",
    "*.pem",
    "*.key",
    "*.crt",
    "*.cer",
    "*.der",
    "*.csr",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.age",
    "*.gpg-key",
    "*.kubeconfig",
];

const KEY_HEADERS: &[&[u8]] = &[
    b"-----BEGIN PRIVATE KEY",
    b"-----BEGIN ENCRYPTED PRIVATE KEY",
    b"-----BEGIN RSA PRIVATE KEY",
    b"-----BEGIN EC PRIVATE KEY",
    b"-----BEGIN OPENSSH PRIVATE KEY",
    b"-----BEGIN PGP PRIVATE KEY",
    b"-----BEGIN CERTIFICATE",
    b"PuTTY-User-Key-File-",
];

const CONFIG_NAMES: &[&str] = &[
    "*.toml",
    "*.yaml",
    "*.yml",
    "*.conf",
    "*.cfg",
    "*.cnf",
    "*.ini",
    "*.env",
    ".env",
    ".env.*",
    "*.properties",
    "*.config",
    "*.service",
    "*.timer",
    "*.socket",
    "*.mount",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.*.json",
    "jsconfig.json",
    "composer.json",
    "deno.json",
    "angular.json",
    "appsettings.json",
    "appsettings.*.json",
    "config.json",
    "settings.json",
    "manifest.json",
    "*.config.json",
    "*.tf",
    "*.tfvars",
    "dockerfile",
    "makefile",
    "fstab",
    "crontab",
    "sshd_config",
    "ssh_config",
    ".gitconfig",
    ".npmrc",
    ".netrc",
];

const WAL_NAMES: &[&str] = &[
    "*.wal",
    "*-wal",
    "*.journal",
    "*-journal",
    "*.redo",
    "ib_logfile*",
    "**/#innodb_redo/*",
    "*-bin.[0-9]*",
    "*-relay-bin.[0-9]*",
    "**/pg_wal/**",
    "**/pg_xlog/**",
    "**/wal/*",
    "**/journal/wiredtiger*",
    "**/journal/j._*",
];

const EXECUTABLE_NAMES: &[&str] = &[
    "*.so",
    "*.so.[0-9]*",
    "*.dylib",
    "*.dll",
    "*.exe",
    "*.sys",
    "*.ko",
    "*.ko.xz",
    "*.ko.zst",
    "*.efi",
    "*.wasm",
];

const MEDIA_NAMES: &[&str] = &[
    "*.jpg", "*.jpeg", "*.png", "*.gif", "*.bmp", "*.tif", "*.tiff", "*.webp", "*.heic", "*.heif", "*.avif",
    "*.jxl", "*.psd", "*.exr", "*.dpx", "*.cr2", "*.cr3", "*.nef", "*.arw", "*.dng", "*.raf", "*.orf",
    "*.mp3", "*.m4a", "*.aac", "*.flac", "*.wav", "*.aif", "*.aiff", "*.ogg", "*.oga", "*.opus", "*.wma",
    "*.mp4", "*.m4v", "*.mov", "*.mkv", "*.avi", "*.webm", "*.mpg", "*.mpeg", "*.mts", "*.m2ts", "*.mxf",
    "*.wmv", "*.flv", "*.vob", "*.r3d", "*.braw",
];

const ARCHIVE_NAMES: &[&str] = &[
    "*.zip", "*.tar", "*.gz", "*.tgz", "*.bz2", "*.tbz2", "*.xz", "*.txz", "*.zst", "*.tzst", "*.lz4",
    "*.lz", "*.7z", "*.rar", "*.cab", "*.iso", "*.img", "*.dmg", "*.qcow2", "*.vmdk", "*.vdi", "*.vhd",
    "*.vhdx", "*.ova", "*.deb", "*.rpm", "*.jar", "*.war", "*.apk", "*.cpio", "*.bak",
];

/// The rules in the order in which they are tried.
pub(super) fn rules() -> Vec<SemanticRule> {
    let named = |globs: &[&str], priority| SemanticRule::for_globs(globs.iter().copied(), priority);
    let mut rules = Vec::new();
    // A presentation shares its extension with private keys, but it is a zip file.
    rules.push(SemanticRule { kind: Some(ContentKind::Archive), ..named(KEYNOTE_NAMES, Priority::Normal) });
    rules.push(named(KEY_NAMES, Priority::Critical));
    rules.extend(KEY_HEADERS.iter().map(|header| SemanticRule::for_magic(header, 0, Priority::Critical)));
    rules.push(named(CONFIG_NAMES, Priority::Critical));
    rules.push(named(WAL_NAMES, Priority::High));
    rules.push(named(EXECUTABLE_NAMES, Priority::High));
    rules.push(named(MEDIA_NAMES, Priority::Low));
    rules.push(named(ARCHIVE_NAMES, Priority::Low));
    // After all names, since every known name says more about a file than its first bytes.
    rules.push(SemanticRule::for_kind(ContentKind::Executable, Priority::High));
    rules.push(SemanticRule::for_magic(b"#!", 0, Priority::High));
    for kind in [ContentKind::Image, ContentKind::Audio, ContentKind::Video, ContentKind::Archive] {
        rules.push(SemanticRule::for_kind(kind, Priority::Low));
    }
    rules
}
