//! Times as people write them in settings.

use std::time::Duration;

/// A whole number and a unit: `ms`, `s`, `m` or `h`, for example `30s`.
///
/// # Errors
///
/// A sentence that says what a time looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = || "a time is a whole number and one of ms, s, m, h, for example 30s".to_owned();
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| refused())?;
    match unit {
        "ms" => Ok(Duration::from_millis(1) * number),
        "s" => Ok(Duration::from_secs(1) * number),
        "m" => Ok(Duration::from_secs(60) * number),
        "h" => Ok(Duration::from_secs(3600) * number),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
