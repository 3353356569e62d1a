//! Five fields and a place: when a schedule comes.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::{Misfire, ON_TIME};

const LONGEST: usize = 100;

/// When a schedule comes: a cron expression, read by the clock of a time zone.
///
/// An expression that names one minute and one hour is a time of day: on a day that has no such time it comes at the
/// first moment after the gap, and on one that has it twice, at the first. Every other expression follows what the
/// clock shows: nothing comes in a gap, and what happens twice comes twice (decision 0017).
#[derive(Clone)]
pub struct Rhythm {
    cron: Cron,
    zone: Tz,
}

/// What is wrong with a rhythm: the field, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RhythmFault {
    Cron(String),
    Zone(String),
}

/// By the expression: what it was read to is long.
impl fmt::Debug for Rhythm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron.pattern, self.zone)
    }
}

impl Rhythm {
    /// # Errors
    /// Every fault: of the expression, and of the time zone.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, Vec<RhythmFault>> {
        match (parse_cron(cron), parse_zone(zone)) {
            (Ok(cron), Ok(zone)) => Ok(Self { cron, zone }),
            (cron, zone) => {
                let cron = cron.err().map(RhythmFault::Cron);
                Err(cron.into_iter().chain(zone.err().map(RhythmFault::Zone)).collect())
            }
        }
    }

    /// The first time after `moment`; none if there is none in the calendar.
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut from = moment;
        // A time that the library gives back a second time would be fired for ever: a later start does not have it.
        for _ in 0..3 {
            let next = self.cron.find_next_occurrence(&from.with_timezone(&self.zone), false).ok()?.to_utc();
            if next > moment {
                return Some(next);
            }
            from += TimeDelta::minutes(1);
        }
        None
    }

    /// The times from `first` on, which is one of them: at most `count`.
    pub fn upcoming(&self, first: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(Some(first), |last| self.next_after(*last)).take(count).collect()
    }

    /// Whether a schedule that is found due at `now` is to run. It is if one of its times was a moment ago; if all of
    /// them are long past, `misfire` decides.
    pub fn runs_at(&self, now: DateTime<Utc>, misfire: Misfire) -> bool {
        misfire == Misfire::Once || self.next_after(now - ON_TIME).is_some_and(|time| time <= now)
    }
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    let fields = text.split_ascii_whitespace().count();
    if fields != 5 {
        return Err(format!("has {fields} fields; it takes five: minute, hour, day of month, month, day of week"));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | ',' | '-' | '/' | '#' | ' ');
    if text.len() > LONGEST || !text.chars().all(known) {
        let detail = format!("has up to {LONGEST} letters, digits, spaces and * , - / # only");
        return Err(detail);
    }
    if text.split_ascii_whitespace().flat_map(|field| field.split(',')).any(str::is_empty) {
        return Err("has a list with nothing between two commas".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|e| format!("is not a cron expression: {e}"))
}

fn parse_zone(text: &str) -> Result<Tz, String> {
    let unknown = || "is not an IANA time zone such as Europe/Berlin or UTC".to_owned();
    text.parse().map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn rhythm(cron: &str, zone: &str) -> Rhythm {
        Rhythm::parse(cron, zone).unwrap()
    }

    /// The times after a moment, as that place's clock shows them.
    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let rhythm = rhythm(cron, zone);
        let first = rhythm.next_after(at(after)).unwrap();
        let times = rhythm.upcoming(first, count);
        times.iter().map(|time| time.with_timezone(&rhythm.zone).format("%m-%d %H:%M %z").to_string()).collect()
    }

    #[test]
    fn the_five_fields_are_those_of_crontab() {
        for (cron, expected) in [
            ("*/15 9-10 * * *", ["12-01 09:00 +0000", "12-01 09:15 +0000", "12-01 09:30 +0000"]),
            ("5,35 0 * * *", ["12-01 00:05 +0000", "12-01 00:35 +0000", "12-02 00:05 +0000"]),
            ("0 12 * * mon-FRI", ["12-01 12:00 +0000", "12-02 12:00 +0000", "12-03 12:00 +0000"]),
            ("0 0 * * 7", ["12-06 00:00 +0000", "12-13 00:00 +0000", "12-20 00:00 +0000"]),
            ("0 0 * * 0", ["12-06 00:00 +0000", "12-13 00:00 +0000", "12-20 00:00 +0000"]),
            ("0 0 13 * FRI", ["12-04 00:00 +0000", "12-11 00:00 +0000", "12-13 00:00 +0000"]), // either day
            ("0 6 L * *", ["12-31 06:00 +0000", "01-31 06:00 +0000", "02-28 06:00 +0000"]),
            ("0 6 * * MON#1", ["12-07 06:00 +0000", "01-04 06:00 +0000", "02-01 06:00 +0000"]),
            ("0 6 * * FRI#L", ["12-25 06:00 +0000", "01-29 06:00 +0000", "02-26 06:00 +0000"]),
            ("0 6 1W aug *", ["08-02 06:00 +0000", "08-01 06:00 +0000", "08-01 06:00 +0000"]),
        ] {
            assert_eq!(times(cron, "UTC", "2026-11-30T23:59:59Z", 3), expected, "{cron}");
        }
    }

    #[test]
    fn what_is_no_rhythm_is_refused_with_every_fault() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "@daily",
            "60 * * * *",
            "* 24 * * *",
            "0 0 0 * *",
            "0 0 * 13 *",
            "0 0 * * 8",
            "* * * * MOO",
            "a b c d e",
            "*/0 * * * *",
            "5-1 * * * *",
            "0 0 ? * *",
            "0 0 1 * +MON",
            "0 0 * *\t*",
            "1,,2 * * * *",
            "-1 * * * *",
        ] {
            assert!(matches!(Rhythm::parse(bad, "UTC").unwrap_err()[..], [RhythmFault::Cron(_)]), "{bad}");
        }
        let long = format!("{} * * * *", ["1"; 60].join(","));
        assert!(Rhythm::parse(&long, "UTC").is_err());
        for bad in ["", "Mars/Olympus", "+02:00", "Europe/Berlin\0", "europe berlin"] {
            assert!(matches!(Rhythm::parse("* * * * *", bad).unwrap_err()[..], [RhythmFault::Zone(_)]), "{bad}");
        }
        assert_eq!(Rhythm::parse("x", "y").unwrap_err().len(), 2);
    }

    #[test]
    fn a_day_that_never_comes_is_found_out() {
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(rhythm(never, "Europe/Berlin").next_after(at("2026-01-01T00:00:00Z")), None, "{never}");
        }
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2), ["02-29 00:00 +0000", "02-29 00:00 +0000"]);
    }

    /// Clocks go from 02:00 to 03:00 on 29 March 2026.
    #[test]
    fn a_time_that_a_day_does_not_have() {
        let berlin = |cron, count| times(cron, "Europe/Berlin", "2026-03-28T01:15:00Z", count);
        assert_eq!(berlin("30 2 * * *", 3), ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]);
        assert_eq!(berlin("0 2 29 3 *", 1), ["03-29 03:00 +0200"]);
        // What follows the clock has nothing in the gap.
        let day = |cron, count| times(cron, "Europe/Berlin", "2026-03-29T00:15:00Z", count);
        assert_eq!(day("*/30 * * * *", 3), ["03-29 01:30 +0100", "03-29 03:00 +0200", "03-29 03:30 +0200"]);
        assert_eq!(day("15,45 2 * * *", 2), ["03-30 02:15 +0200", "03-30 02:45 +0200"]);
        assert_eq!(day("0 */2 * * *", 2), ["03-29 04:00 +0200", "03-29 06:00 +0200"]);
    }

    /// Clocks go from 03:00 back to 02:00 on 25 October 2026.
    #[test]
    fn a_time_that_a_day_has_twice() {
        let berlin = |cron, count| times(cron, "Europe/Berlin", "2026-10-24T00:40:00Z", count);
        assert_eq!(berlin("30 2 * * *", 3), ["10-25 02:30 +0200", "10-26 02:30 +0100", "10-27 02:30 +0100"]);
        let day = |cron, count| times(cron, "Europe/Berlin", "2026-10-24T23:45:00Z", count);
        assert_eq!(
            day("*/30 2-3 * * *", 6),
            [
                "10-25 02:00 +0200",
                "10-25 02:30 +0200",
                "10-25 02:00 +0100",
                "10-25 02:30 +0100",
                "10-25 03:00 +0100",
                "10-25 03:30 +0100"
            ]
        );
        // From within the second half, a time of day is not found again.
        let within = times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        assert_eq!(within, ["10-26 02:30 +0100"]);
        // Half an hour only, and the other way round the year.
        let howe = times("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:40:00Z", 4);
        assert_eq!(howe, ["04-05 01:45 +1100", "04-05 01:30 +1030", "04-05 01:45 +1030", "04-05 02:00 +1030"]);
    }

    #[test]
    fn a_time_just_past_runs_and_long_past_ones_as_the_misfire_rule_says() {
        let hourly = rhythm("0 * * * *", "UTC");
        for (now, skip) in [
            ("2026-11-30T12:00:00Z", true),
            ("2026-11-30T12:00:59Z", true),
            ("2026-11-30T12:01:00.001Z", false),
            ("2026-11-30T15:30:00Z", false),
            ("2026-11-30T16:00:30Z", true), // the last of those that were missed is on time
        ] {
            assert_eq!(hourly.runs_at(at(now), Misfire::Skip), skip, "{now}");
            assert!(hourly.runs_at(at(now), Misfire::Once));
        }
        assert!(rhythm("* * * * *", "UTC").runs_at(at("2026-11-30T15:30:59.9Z"), Misfire::Skip), "always on time");
    }
}
