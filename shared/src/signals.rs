//! Which signals a program should handle.

/// Whether the program was started with SIGHUP ignored, as `nohup` does. Then it must stay ignored.
pub fn is_hangup_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The signals count from 1 and SIGHUP is the first.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_noticed() {
        // Either is possible for a test; the expected answer is the kernel's for the process that asks.
        let ask =
            |program: &str| std::process::Command::new("sh").args(["-c", program]).output().unwrap().stdout;
        let ignored = ask("trap '' HUP; grep SigIgn /proc/self/status");
        let mask = String::from_utf8(ignored).unwrap();
        assert!(mask.trim_end().ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']), "{mask}");
        let _ = is_hangup_ignored();
    }
}
