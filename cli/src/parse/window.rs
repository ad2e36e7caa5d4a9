//! Limits of bandwidth at some times of the day, as they are written on a command line.

use orbit_proto::v1::BandwidthWindow;

use super::quantity;

/// Parses `FROM-TO=RATE`, such as `08:00-18:00=10M`. Whether the times are times of a day, the coordinator says.
pub(crate) fn parse(text: &str) -> Result<BandwidthWindow, String> {
    let refused = || format!("{text:?} is no window; write for example 08:00-18:00=10M or 22:00-06:00=off");
    let (times, rate) = text.split_once('=').ok_or_else(refused)?;
    let (start, end) = times.split_once('-').ok_or_else(refused)?;
    let max_bytes_per_second = quantity::rate(rate)?;
    Ok(BandwidthWindow { start: start.trim().to_owned(), end: end.trim().to_owned(), max_bytes_per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_two_times_and_a_rate() {
        let window = parse("08:00-18:30=10M").unwrap();
        assert_eq!((window.start.as_str(), window.end.as_str()), ("08:00", "18:30"));
        assert_eq!(window.max_bytes_per_second, 10 << 20);
        assert_eq!(parse("22:00-06:00=off").unwrap().max_bytes_per_second, 0);
        for bad in ["", "08:00=1M", "08:00-18:00", "08:00-18:00=fast"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
