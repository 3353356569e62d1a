//! Figures of the queues: what waits, and how fast it goes.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use millwork_shared::jobs::Queue;
use millwork_shared::jobs::queries::{BUCKETS, QueueDepth, StatsRow};
use poem_openapi::Object;
use serde::Serialize;

/// A tenant's jobs, counted.
#[derive(Debug, Object, Serialize)]
pub struct Figures {
    pub queues: Vec<QueueFigures>,
}

/// One queue's jobs, counted.
#[derive(Debug, Object, Serialize)]
pub struct QueueFigures {
    pub queue: String,
    pub scheduled: i64,
    pub queued: i64,
    pub running: i64,
    pub retrying: i64,
    /// How long the job that waits longest has been due
    pub oldest_queued_age_ms: Option<i64>,
    pub last_1_min: Window,
    pub last_5_min: Window,
    pub last_15_min: Window,
}

/// What happened in the last minutes, the one under way included. Times are upper bounds of power-of-two buckets.
#[derive(Debug, Object, Serialize)]
pub struct Window {
    pub succeeded: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub retried: i64,
    /// Jobs that ended, by second, over the time that was looked at
    pub throughput_per_s: f64,
    /// From due to started
    pub wait_ms: Percentiles,
    /// From started to finished
    pub run_ms: Percentiles,
}

#[derive(Debug, Object, Serialize)]
pub struct Percentiles {
    pub p50: Option<i64>,
    pub p95: Option<i64>,
    pub p99: Option<i64>,
}

impl Figures {
    pub fn new(depths: &[QueueDepth], stats: &[StatsRow], now: DateTime<Utc>) -> Self {
        let depths: BTreeMap<&str, &QueueDepth> = depths.iter().map(|d| (d.queue.as_str(), d)).collect();
        let queues = Queue::ALL.map(|queue| QueueFigures::new(queue.as_str(), depths.get(queue.as_str()), stats, now));
        Self { queues: queues.into() }
    }
}

impl QueueFigures {
    fn new(queue: &str, depth: Option<&&QueueDepth>, stats: &[StatsRow], now: DateTime<Utc>) -> Self {
        let rows: Vec<&StatsRow> = stats.iter().filter(|row| row.queue == queue).collect();
        Self {
            queue: queue.to_owned(),
            scheduled: depth.map_or(0, |d| d.scheduled),
            queued: depth.map_or(0, |d| d.queued),
            running: depth.map_or(0, |d| d.running),
            retrying: depth.map_or(0, |d| d.retrying),
            oldest_queued_age_ms: depth.and_then(|d| d.oldest_due_at).map(|due| (now - due).num_milliseconds().max(0)),
            last_1_min: Window::new(&rows, now, 1),
            last_5_min: Window::new(&rows, now, 5),
            last_15_min: Window::new(&rows, now, 15),
        }
    }
}

impl Window {
    fn new(rows: &[&StatsRow], now: DateTime<Utc>, minutes: i64) -> Self {
        // Counts are kept by the minute: all minutes of which a part lies in the window.
        let since = (now - TimeDelta::minutes(minutes)).duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        let seconds = (now - since).num_seconds().max(1);
        let rows: Vec<_> = rows.iter().filter(|row| row.minute >= since).collect();
        let sum = |of: fn(&StatsRow) -> i64| rows.iter().map(|row| of(row)).sum::<i64>();
        let (succeeded, failed, cancelled) = (sum(|r| r.succeeded), sum(|r| r.failed), sum(|r| r.cancelled));
        Self {
            succeeded,
            failed,
            cancelled,
            retried: sum(|r| r.retried),
            throughput_per_s: (succeeded + failed + cancelled) as f64 / seconds as f64,
            wait_ms: Percentiles::of(rows.iter().map(|row| row.wait_ms.as_slice())),
            run_ms: Percentiles::of(rows.iter().map(|row| row.run_ms.as_slice())),
        }
    }
}

impl Percentiles {
    /// Of histograms whose n-th bucket counts times below 2^n ms.
    fn of<'a>(histograms: impl Iterator<Item = &'a [i64]>) -> Self {
        let mut sum = [0i64; BUCKETS];
        for histogram in histograms {
            sum.iter_mut().zip(histogram).for_each(|(total, n)| *total += n);
        }
        let total: i64 = sum.iter().sum();
        let at = |share: f64| {
            let rank = (total as f64 * share).ceil() as i64;
            let mut seen = 0;
            let bucket = sum.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            bucket.filter(|_| total > 0).map(|n| 1i64 << n)
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_every_minute_of_which_it_has_a_part() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let row = |minute: &str| StatsRow {
            queue: "default".into(),
            minute: at(minute),
            succeeded: 60,
            failed: 0,
            cancelled: 0,
            retried: 0,
            wait_ms: vec![0; BUCKETS],
            run_ms: vec![0; BUCKETS],
        };
        let rows = ["2026-01-31T11:58:00Z", "2026-01-31T11:59:00Z", "2026-01-31T12:00:00Z"].map(row);
        let rows: Vec<_> = rows.iter().collect();
        let window = |now: &str, minutes| Window::new(&rows, at(now), minutes);
        let just_begun = window("2026-01-31T12:00:01Z", 1);
        assert_eq!((just_begun.succeeded, just_begun.throughput_per_s), (120, 120.0 / 61.0));
        assert_eq!(window("2026-01-31T12:00:59Z", 1).succeeded, 120);
        assert_eq!(window("2026-01-31T12:00:30Z", 5).succeeded, 180);
        assert_eq!(window("2026-01-31T12:02:30Z", 1).succeeded, 0);
    }

    #[test]
    fn percentiles_are_upper_bounds_of_their_bucket() {
        let mut histogram = [0; BUCKETS];
        histogram[1] = 90; // 1 ms
        histogram[4] = 9; // 8 to 15 ms
        histogram[10] = 1;
        let p = Percentiles::of([&histogram[..]].into_iter());
        assert_eq!((p.p50, p.p95, p.p99), (Some(2), Some(16), Some(16)));
        assert_eq!(Percentiles::of(std::iter::empty()).p50, None);
    }
}
