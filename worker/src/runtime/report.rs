//! What handlers say while they run: progress and lines of a log. Gathered here and written for many jobs at once, at a
//! bounded pace; what is left at the end of an attempt goes with its outcome. A job that says nothing costs nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millwork_shared::Result;
use millwork_shared::infra::clock::Clock;
use millwork_shared::infra::db::{PATIENCE, SystemDb};
use millwork_shared::infra::ids::{JobId, TenantId, WorkerId};
use millwork_shared::jobs::queries::{self, LINE_MAX_BYTES, LINES, LogLine, PROGRESS_MAX_BYTES, Report};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

/// Between writes, while anyone has something to say.
const PACE: Duration = Duration::from_millis(500);
/// Jobs written by one statement at most.
const BATCH: usize = 200;

/// Where journals are left to be written. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Those that have news, each once.
    open: Mutex<Vec<Arc<Journal>>>,
    news: Notify,
    clock: Clock,
}

/// What one attempt has said and is not yet written.
#[derive(Debug)]
pub struct Journal {
    tenant: TenantId,
    job: JobId,
    attempt: i16,
    owner: WorkerId,
    pending: Mutex<Pending>,
    /// Held while some of it is being written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Pending {
    progress: Option<Box<RawValue>>,
    lines: VecDeque<LogLine>,
    line_count: i64,
    /// It is among the open ones.
    listed: bool,
}

impl Reports {
    /// Writes what is left here, for ever.
    pub async fn write(self, system: SystemDb) {
        loop {
            self.0.news.notified().await;
            tokio::time::sleep(PACE).await;
            let open = std::mem::take(&mut *lock(&self.0.open));
            for batch in open.chunks(BATCH) {
                self.write_batch(&system, batch).await;
            }
        }
    }

    async fn write_batch(&self, system: &SystemDb, journals: &[Arc<Journal>]) {
        let (mut reports, mut held) = (Vec::new(), Vec::new());
        for journal in journals {
            held.push(journal.writing.lock().await);
            reports.extend(journal.take());
        }
        if reports.is_empty() {
            return;
        }
        if let Err(error) = system.within(PATIENCE, save(system, &mut reports)).await {
            tracing::debug!(%error, jobs = reports.len(), "cannot store what handlers say; trying again");
            for report in reports {
                if let Some(journal) = journals.iter().find(|j| (j.job, j.attempt) == (report.id, report.attempt)) {
                    journal.put_back(report);
                    self.list(journal);
                }
            }
        }
    }

    fn list(&self, journal: &Arc<Journal>) {
        if !std::mem::replace(&mut lock(&journal.pending).listed, true) {
            lock(&self.0.open).push(journal.clone());
            self.0.news.notify_one();
        }
    }
}

async fn save(system: &SystemDb, reports: &mut [Report]) -> Result<()> {
    let mut tx = system.system_relaxed().await?;
    queries::save_reports(&mut tx, reports).await?;
    tx.commit().await
}

impl Journal {
    pub fn new((tenant, job): (TenantId, JobId), attempt: i16, owner: WorkerId) -> Self {
        let (pending, writing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { tenant, job, attempt, owner, pending, writing }
    }

    /// Notes how far the handler is. What is no JSON or too large is left out.
    pub fn progress(self: &Arc<Self>, progress: &impl Serialize, reports: &Reports) {
        match serde_json::value::to_raw_value(progress) {
            Ok(json) if json.get().len() <= PROGRESS_MAX_BYTES => {
                lock(&self.pending).progress = Some(json);
                reports.list(self);
            }
            _ => tracing::debug!(limit = PROGRESS_MAX_BYTES, "a progress cannot be kept"),
        }
    }

    /// Adds a line, cut to what is kept of one. `attempt` is the one that people count.
    pub fn log(self: &Arc<Self>, attempt: i16, message: &str, reports: &Reports) {
        let line = LogLine { at: reports.0.clock.now(), attempt, message: cut(message) };
        let mut pending = lock(&self.pending);
        pending.lines.push_back(line);
        pending.line_count += 1;
        if pending.lines.len() > LINES {
            pending.lines.pop_front();
        }
        drop(pending);
        reports.list(self);
    }

    /// What is left when the handler has left; nothing of it is being written any more.
    pub async fn close(&self) -> Option<Report> {
        let _nobody_writes = self.writing.lock().await;
        self.take()
    }

    fn take(&self) -> Option<Report> {
        let Pending { progress, lines, line_count, .. } = std::mem::take(&mut *lock(&self.pending));
        let (tenant, id, attempt, owner) = (self.tenant, self.job, self.attempt, self.owner);
        let lines: Vec<_> = lines.into();
        (progress.is_some() || !lines.is_empty()).then_some(Report {
            tenant,
            id,
            attempt,
            owner,
            progress,
            lines,
            line_count,
        })
    }

    /// What could not be written goes before what was said meanwhile.
    fn put_back(&self, report: Report) {
        let mut pending = lock(&self.pending);
        pending.progress = pending.progress.take().or(report.progress);
        pending.line_count += report.line_count;
        for line in report.lines.into_iter().rev() {
            if pending.lines.len() < LINES {
                pending.lines.push_front(line);
            }
        }
    }
}

fn cut(message: &str) -> String {
    let end = (0..=message.len().min(LINE_MAX_BYTES)).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
    message[..end].replace('\0', "") // which PostgreSQL cannot hold
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Arc<Journal> {
        Arc::new(Journal::new((TenantId::generate(), JobId::generate()), 3, WorkerId::generate()))
    }

    fn messages(report: &Report) -> Vec<&str> {
        report.lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn the_last_progress_and_the_newest_lines_are_kept() {
        let (journal, reports) = (journal(), Reports::default());
        assert!(journal.take().is_none());
        for n in 0..150 {
            journal.progress(&n, &reports);
            journal.log(1, &n.to_string(), &reports);
        }
        journal.progress(&"x".repeat(2_000), &reports);
        assert_eq!(lock(&reports.0.open).len(), 1, "listed once");
        let report = journal.take().unwrap();
        assert_eq!(report.progress.as_ref().unwrap().get(), "149");
        assert_eq!((report.lines.len(), report.line_count), (100, 150));
        assert_eq!((messages(&report)[0], messages(&report)[99]), ("50", "149"));
        assert!(journal.take().is_none());

        // What could not be written comes first again, and gives way to news.
        journal.log(1, "new", &reports);
        journal.progress(&"new", &reports);
        journal.put_back(report);
        let report = journal.take().unwrap();
        assert_eq!((messages(&report)[0], messages(&report)[99], report.line_count), ("51", "new", 151));
        assert_eq!(report.progress.unwrap().get(), "\"new\"");
    }

    #[test]
    fn a_line_is_cut_at_a_letter() {
        assert_eq!(cut(&"ä".repeat(400)).len(), 500);
        assert_eq!(cut(&format!("x{}", "ä".repeat(400))).len(), 499);
        assert_eq!(cut("a\0b"), "ab");
        assert_eq!(cut(""), "");
    }
}
