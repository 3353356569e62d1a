use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use millwork_shared::infra::db::{SystemTx, ledger_now};
use millwork_shared::infra::ids::TenantId;
use millwork_shared::infra::storage::{Key, Unfinished};
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::PLATFORM;
use millwork_shared::objects::GRACE;
use millwork_shared::objects::jobs::SweepObjects;
use millwork_shared::objects::sweep::{self, Finding, Step, Sweep};
use millwork_shared::{Category, Error, Result};
use serde_json::value::to_raw_value;

use super::compare::compare;
use crate::context::Context;
use crate::metrics::METRICS;
use crate::runtime::Run;

/// Objects that are compared, or changed, at a time.
pub const PAGE: usize = 2_000;
/// Requests to storage at once.
const AT_ONCE: usize = 32;
/// How long one run goes on before others get its slot.
const SLICE: Duration = Duration::from_secs(60);
/// Tenants that are told at a time.
const TOLD: i64 = 200;

/// Clears away what storage and the database do not both have.
///
/// In this order: files whose time is over are deleted, writes that nobody is at are given up, objects whose grace period is
/// over are deleted and then their rows, unfinished writes are abandoned, and what is left is compared. Every page ends with
/// the position after it, so it may be killed at any moment and run twice: what it did once it does not find again.
///
/// A writer says by its row that it is at it. Its object without a row is deleted only when it is old and still has none: an id is
/// used once, and its row comes first. A stored row without an object is marked, and never deleted.
pub async fn sweep(job: SweepObjects, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    sweep_by(PAGE, job, run, ctx).await
}

/// By pages of that length.
pub async fn sweep_by(page: usize, job: SweepObjects, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let began = Instant::now();
    let only = (run.tenant != PLATFORM).then_some(run.tenant);
    let grace = job.grace_s.map_or(GRACE, |s| Duration::from_secs(s.into()));
    let mut tx = ctx.system.system().await?;
    let mut state = sweep::load(&mut tx, run.tenant, run.job).await?;
    tx.commit().await?;
    let work = Work { page, only, grace, dry_run: job.dry_run, run: &run, ctx: &ctx };
    while state.step != Step::Done {
        if run.cancelled.is_cancelled() {
            work.tell().await?;
            return Ok(Outcome::Cancelled);
        }
        if began.elapsed() > SLICE {
            return Ok(Outcome::Snooze(Duration::from_millis(100)));
        }
        match state.step {
            Step::Expire => work.expire(&mut state).await?,
            Step::GiveUp => work.give_up(&mut state).await?,
            Step::Delete => work.delete(&mut state).await?,
            Step::Abandon => work.abandon(&mut state).await?,
            Step::Compare | Step::Done => work.compare(&mut state).await?,
        }
        run.progress(&serde_json::json!({
            "step": state.step, "objects": state.objects, "rows": state.rows, "found": state.found,
        }));
    }
    work.tell().await?;
    tracing::info!(dry_run = job.dry_run, objects = state.objects, rows = state.rows, found = ?state.found, "storage swept");
    let found: BTreeMap<Finding, u64> =
        Finding::ALL.into_iter().map(|f| (f, state.found.get(&f).copied().unwrap_or(0))).collect();
    let result = serde_json::json!({
        "dry_run": job.dry_run,
        "objects": state.objects,
        "objects_bytes": state.objects_bytes,
        "rows": state.rows,
        "orphans_bytes": state.orphans_bytes,
        "found": found,
        "examples": state.examples,
    });
    Ok(Outcome::Done(Some(to_raw_value(&result)?)))
}

struct Work<'a> {
    page: usize,
    /// None: everybody's objects.
    only: Option<TenantId>,
    grace: Duration,
    dry_run: bool,
    run: &'a Run,
    ctx: &'a Context,
}

impl Work<'_> {
    async fn expire(&self, state: &mut Sweep) -> Result<()> {
        let mut tx = self.ctx.system.system().await?;
        if self.dry_run {
            let files = sweep::count_expired(&mut tx, self.only).await?;
            return self.counted(tx, state, Finding::Expired, files, Step::GiveUp).await;
        }
        for table in ["exports", "imports"] {
            while sweep::expire_of(&mut tx, table, self.only, self.limit()).await? == self.page as u64 {}
        }
        let expired = sweep::expire_files(&mut tx, self.only, self.limit()).await?;
        self.chunk(tx, state, Finding::Expired, &expired, Step::GiveUp).await
    }

    async fn give_up(&self, state: &mut Sweep) -> Result<()> {
        let mut tx = self.ctx.system.system().await?;
        if self.dry_run {
            let rows = sweep::count_stale(&mut tx, self.only, self.grace).await?;
            return self.counted(tx, state, Finding::Stale, rows, Step::Delete).await;
        }
        let stale = sweep::give_up(&mut tx, self.only, self.grace, self.limit()).await?;
        self.chunk(tx, state, Finding::Stale, &stale, Step::Delete).await
    }

    /// Takes rows, deletes their objects, then the rows. Killed in between, it finds the rows again.
    async fn delete(&self, state: &mut Sweep) -> Result<()> {
        let mut tx = self.ctx.system.system().await?;
        if self.dry_run {
            let rows = sweep::count_due(&mut tx, self.only).await?;
            return self.counted(tx, state, Finding::Deleted, rows, Step::Abandon).await;
        }
        let due = sweep::take_due(&mut tx, self.only, self.limit()).await?;
        tx.commit().await?;
        self.delete_objects(&due).await?;
        let mut tx = self.ctx.system.system().await?;
        sweep::forget(&mut tx, &due).await?;
        while sweep::forget_files(&mut tx, self.only, self.limit()).await? == self.page as u64 {}
        self.chunk(tx, state, Finding::Deleted, &due, Step::Abandon).await
    }

    async fn abandon(&self, state: &mut Sweep) -> Result<()> {
        let old = self.now().await? - self.grace;
        let after = state
            .after
            .as_deref()
            .and_then(Key::parse)
            .zip(state.upload.clone())
            .map(|(key, upload)| Unfinished { key, upload, touched_at: DateTime::UNIX_EPOCH });
        let mut page = self.ctx.storage.unfinished(after.as_ref(), self.page).await?;
        let last = page.last().filter(|_| page.len() == self.page).cloned();
        page.retain(|unfinished| {
            unfinished.touched_at < old && self.only.is_none_or(|only| only == unfinished.key.tenant())
        });
        let mut tx = self.ctx.system.system().await?;
        let written: BTreeSet<Key> = sweep::still_written(&mut tx, &page).await?.into_iter().collect();
        tx.commit().await?;
        page.retain(|unfinished| !written.contains(&unfinished.key));
        if !self.dry_run {
            let storage = &self.ctx.storage;
            let work = stream::iter(page.clone()).map(|unfinished| {
                let storage = storage.clone();
                async move { storage.abandon(&unfinished).await }
            });
            work.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        let keys: Vec<Key> = page.iter().map(|unfinished| unfinished.key).collect();
        state.note(Finding::Unfinished, &keys);
        (state.after, state.upload) = last.map(|last| (last.key.to_string(), last.upload)).unzip();
        if state.after.is_none() {
            state.step = Step::Compare;
        }
        self.save(self.ctx.system.system().await?, state, &[(Finding::Unfinished, &keys)]).await
    }

    async fn compare(&self, state: &mut Sweep) -> Result<()> {
        let born_before = self.now().await? - self.grace;
        let after = state.after.as_deref().and_then(Key::parse).unwrap_or(Key::before_all(self.only));
        let entries = self.ctx.storage.list(Some(&after), self.page).await?;
        let mut tx = self.ctx.system.system_in_order().await?;
        let rows = sweep::rows(&mut tx, self.only, after, self.limit()).await?;
        tx.commit().await?;
        let page = compare(&entries, &rows, self.page, self.only, born_before);
        let absent = self.confirm_absent(&page.absent).await?;
        let mut tx = self.ctx.system.system().await?;
        let candidates: Vec<Key> = page.orphans.iter().map(|(key, _)| *key).collect();
        let orphans = sweep::unknown(&mut tx, &candidates).await?;
        let (mut missing, mut found) = (Vec::new(), Vec::new());
        if !self.dry_run {
            tx.commit().await?;
            self.delete_objects(&orphans).await?;
            tx = self.ctx.system.system().await?;
            missing = sweep::mark_missing(&mut tx, &absent, true).await?;
            found = sweep::mark_missing(&mut tx, &page.found, false).await?;
        }
        if let Some(example) = missing.first() {
            tracing::error!(
                objects = missing.len(), %example, error.category = %Category::Dependency,
                "objects are missing in storage; their rows are kept and marked"
            );
        }
        if let Some(example) = page.differing.first() {
            tracing::error!(
                objects = page.differing.len(), %example, error.category = %Category::Dependency,
                "objects in storage have another size than was stored"
            );
        }
        state.objects += page.objects;
        state.objects_bytes += page.objects_bytes;
        state.rows += page.rows;
        let is_orphan: BTreeSet<Key> = orphans.iter().copied().collect();
        state.orphans_bytes +=
            page.orphans.iter().filter(|(key, _)| is_orphan.contains(key)).map(|(_, size)| size).sum::<u64>();
        state.note(Finding::Orphans, &orphans);
        state.note(Finding::Missing, &absent);
        state.note(Finding::Found, &page.found);
        state.note(Finding::Differing, &page.differing);
        state.after = page.end.map(|end| end.to_string());
        if page.end.is_none() {
            state.step = Step::Done;
        }
        let deeds = [(Finding::Orphans, &*orphans), (Finding::Missing, &missing), (Finding::Found, &found)];
        self.save(tx, state, &deeds).await
    }

    /// Those whose object is not there now either: it may have been written since the listing was read.
    async fn confirm_absent(&self, candidates: &[Key]) -> Result<Vec<Key>> {
        let storage = &self.ctx.storage;
        let looks = stream::iter(candidates.to_vec()).map(|key| {
            let storage = storage.clone();
            async move { Ok::<_, Error>((key, storage.head(&key).await?.is_none())) }
        });
        let looks: Vec<(Key, bool)> = looks.buffered(AT_ONCE).try_collect().await?;
        Ok(looks.into_iter().filter(|(_, absent)| *absent).map(|(key, _)| key).collect())
    }

    async fn delete_objects(&self, keys: &[Key]) -> Result<()> {
        let storage = &self.ctx.storage;
        let work = stream::iter(keys.to_vec()).map(|key| {
            let storage = storage.clone();
            async move { storage.delete(&key).await }
        });
        work.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Ends a chunk of a step that is over when a chunk is not full.
    async fn chunk(&self, tx: SystemTx, state: &mut Sweep, finding: Finding, keys: &[Key], next: Step) -> Result<()> {
        state.note(finding, keys);
        if keys.len() < self.page {
            state.step = next;
        }
        self.save(tx, state, &[(finding, keys)]).await
    }

    /// Ends a step that a dry run only counted.
    async fn counted(&self, tx: SystemTx, state: &mut Sweep, finding: Finding, n: i64, next: Step) -> Result<()> {
        state.found.insert(finding, u64::try_from(n).unwrap_or(0));
        state.step = next;
        self.save(tx, state, &[]).await
    }

    /// Commits what was done, with the position after it. A dry run did nothing.
    async fn save(&self, mut tx: SystemTx, state: &Sweep, deeds: &[(Finding, &[Key])]) -> Result<()> {
        let deeds = deeds.iter().filter(|(_, keys)| !self.dry_run && !keys.is_empty());
        for (finding, keys) in deeds.clone() {
            sweep::add_deeds(&mut tx, self.run.job, *finding, keys).await?;
        }
        sweep::save(&mut tx, self.run.tenant, self.run.job, state).await?;
        tx.commit().await?;
        deeds.for_each(|(finding, keys)| METRICS.swept(*finding, keys.len()));
        Ok(())
    }

    /// Writes down for each tenant what was done.
    async fn tell(&self) -> Result<()> {
        loop {
            let mut tx = self.ctx.system.system().await?;
            let told = sweep::record_deeds(&mut tx, self.run.job, TOLD).await?;
            tx.commit().await?;
            if !told {
                return Ok(());
            }
        }
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        let mut tx = self.ctx.system.system().await?;
        let now = ledger_now(&mut tx).await?;
        tx.commit().await?;
        Ok(now)
    }

    fn limit(&self) -> i64 {
        i64::try_from(self.page).unwrap_or(i64::MAX)
    }
}
