//! Whose job runs next.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::queries::Claimed;

use super::slots::most_of_one;

/// The handlers of one queue that run: no more at once than it has slots, and of one tenant no more than its share, so
/// that jobs that turn out to be slow leave slots to everyone else.
pub struct Turns {
    slots: usize,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    all: usize,
    by_tenant: HashMap<TenantId, usize>,
    /// Who waits for the next turn.
    waker: Option<Waker>,
}

/// A job whose turn it is, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    tenant: TenantId,
}

impl Turns {
    pub fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots, running: Mutex::default() })
    }

    /// Whether any tenant's job may start. If none may, the task of `cx` is woken when one ends.
    fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        let mut running = self.lock();
        if running.all < self.slots {
            return Poll::Ready(());
        }
        running.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// None while `tenant` has its share; the task of `cx` is woken when a job ends.
    fn begin(self: &Arc<Self>, tenant: TenantId, cx: &Context<'_>) -> Option<Turn> {
        let mut running = self.lock();
        let of_tenant = running.by_tenant.entry(tenant).or_default();
        if *of_tenant >= most_of_one(self.slots) {
            running.waker = Some(cx.waker().clone());
            return None;
        }
        *of_tenant += 1;
        running.all += 1;
        Some(Turn { turns: self.clone(), tenant })
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.turns.lock();
        running.all -= 1;
        if let Some(of_tenant) = running.by_tenant.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                running.by_tenant.remove(&self.tenant);
            }
        }
        let waker = running.waker.take();
        drop(running);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Claimed jobs that wait for a turn: those of a tenant in the order in which they were claimed.
pub struct Line {
    turns: Arc<Turns>,
    /// Of tenants that had their share when they came to the front; two or three at most have at once.
    passed: Vec<(TenantId, VecDeque<Claimed>)>,
}

impl Line {
    pub fn new(turns: Arc<Turns>) -> Self {
        Self { turns, passed: Vec::new() }
    }

    /// The next job and its turn, of those that were passed over and then of what `claimed` brings, None when that has
    /// ended and nothing waits.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut claimed: impl FnMut(&mut Context<'_>) -> Poll<Option<Claimed>>,
    ) -> Poll<Option<(Claimed, Turn)>> {
        std::task::ready!(self.turns.poll_free(cx));
        if let Some(next) = self.next_passed(cx) {
            return Poll::Ready(Some(next));
        }
        while let Some(job) = std::task::ready!(claimed(cx)) {
            match self.passed.iter_mut().find(|(tenant, _)| *tenant == job.tenant) {
                Some((_, line)) => line.push_back(job),
                None => match self.turns.begin(job.tenant, cx) {
                    Some(turn) => return Poll::Ready(Some((job, turn))),
                    None => self.passed.push((job.tenant, VecDeque::from([job]))),
                },
            }
        }
        if self.passed.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }

    fn next_passed(&mut self, cx: &Context<'_>) -> Option<(Claimed, Turn)> {
        for at in 0..self.passed.len() {
            let (tenant, line) = &mut self.passed[at];
            if let Some(turn) = self.turns.begin(*tenant, cx) {
                let job = line.pop_front();
                if line.is_empty() {
                    self.passed.swap_remove(at);
                }
                return job.map(|job| (job, turn));
            }
        }
        None
    }
}
