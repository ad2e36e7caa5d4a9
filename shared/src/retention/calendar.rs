//! Periods of the civil calendar in UTC, by the algorithms of Howard Hinnant's `chrono`-compatible date paper
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// A kind of period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Period {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week that starts on Monday, as in ISO 8601.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// Its name, as in "newest of day 2026-11-25".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The name of the period that contains a time.
    pub fn name(self, time: WallTime) -> String {
        let days = time.seconds.div_euclid(DAY_SECONDS);
        let (year, month, day) = civil(days);
        match self {
            Self::Hour => {
                let hour = time.seconds.rem_euclid(DAY_SECONDS) / 3600;
                format!("{year:04}-{month:02}-{day:02} {hour:02}h")
            }
            Self::Day => format!("{year:04}-{month:02}-{day:02}"),
            Self::Week => {
                let (year, week) = iso_week(days);
                format!("{year:04}-W{week:02}")
            }
            Self::Month => format!("{year:04}-{month:02}"),
            Self::Year => format!("{year:04}"),
        }
    }
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 1970-01-01 of the first day of a year.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    365 * year + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162 - 365
}

/// The ISO year and week of a day: a week belongs to the year that contains its Thursday.
fn iso_week(days: i64) -> (i64, i64) {
    // 1970-01-01 was a Thursday.
    let weekday = (days + 3).rem_euclid(7);
    let thursday = days - weekday + 3;
    let (year, ..) = civil(thursday);
    (year, (thursday - first_day(year)) / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime { seconds, nanos: 0 }
    }

    #[test]
    fn known_days_have_their_names() {
        let names = |seconds| {
            [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year]
                .map(|period| period.name(at(seconds)))
        };
        // 2026-11-25 14:46:08 UTC, a Wednesday.
        assert_eq!(names(1_795_617_968), ["2026-11-25 14h", "2026-11-25", "2026-W48", "2026-11", "2026"]);
        assert_eq!(names(0), ["1970-01-01 00h", "1970-01-01", "1970-W01", "1970-01", "1970"]);
        assert_eq!(names(-1), ["1969-12-31 23h", "1969-12-31", "1970-W01", "1969-12", "1969"]);
        // 2021-01-03, a Sunday, still belongs to the last week of 2020; 2024-02-29 is a leap day.
        assert_eq!(Period::Week.name(at(1_609_632_000)), "2020-W53");
        assert_eq!(Period::Day.name(at(1_709_164_800)), "2024-02-29");
    }

    #[test]
    fn the_first_day_of_a_year_is_that_of_the_calendar() {
        for year in 1900..2200 {
            assert_eq!(civil(first_day(year)), (year, 1, 1));
            assert_eq!(civil(first_day(year) - 1), (year - 1, 12, 31));
        }
    }
}
