//! The ledger: every statement on the tables of jobs.
//!
//! Batches are sorted by (tenant, id) before they meet the database, so that no two of them can deadlock.

mod bulk;
mod claim;
mod control;
mod count;
mod depths;
mod finish;
mod follow;
mod intake;
mod lanes;
mod progress;
mod read;
mod reap;
mod stats;
mod tell;
mod workers;

pub use bulk::{PAGE, Sweep, SweepPage, cancel_many, lock_sweep, page_of_ended, page_of_live, replay, save_sweep};
pub use claim::{CLAIM, Claimed, LEASE_GONE, claim, release};
pub use control::{CancelResult, cancel, list_cancels, list_pauses, pause, resume, retry_now};
pub use depths::{CountedQueue, allow_long_count, count_queues, list_counted_queues};
pub use finish::{END, Ending, Ends, Finished, Retried, Snoozed, end, finish, retry, snooze};
pub use follow::{Followed, Unknown, follow};
pub use intake::{enqueue, enqueue_free, hold_key, hold_keys, insert, insert_unique};
pub use lanes::{DueJob, LIST_DUE, LIST_LANE, list_due, list_lane, list_lanes};
pub use progress::{JobLog, LINE_MAX_BYTES, LINES, LogLine, PROGRESS_MAX_BYTES, Report, read_log, save_reports};
pub use read::{Attempt, Filter, JobRow, StateRow, find, find_submitter, get, list, list_attempts, list_states};
pub use reap::{ReapReport, count_newly_lost, mark_lost, reap};
pub use stats::{BUCKETS, MinuteStats, QueueDepth, StatsRow, add_stats, list_depths, list_stats};
pub use tell::{Place, Told, find_untold, tell_ends};
pub use workers::{Heartbeat, NewWorker, WorkerRow, heartbeat, list_alive, register, say_goodbye};

/// A duration as PostgreSQL counts it, in microseconds.
fn interval(duration: std::time::Duration) -> sqlx::postgres::types::PgInterval {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    sqlx::postgres::types::PgInterval { months: 0, days: 0, microseconds }
}
