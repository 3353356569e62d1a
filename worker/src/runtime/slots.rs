//! How many jobs of a queue a worker may hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::dispatch::Share;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Jobs of one queue that a worker holds at most, running or waiting for a slot.
pub const MOST: usize = 4_096;
/// Time over which the rate of finished jobs is taken.
const TICK: Duration = Duration::from_millis(20);

/// The slots of one queue: as many handlers at once as its concurrency, and, when handlers are fast, a few jobs more,
/// claimed ahead, as many as finish within [`TICK`]. So a queue of slow jobs never hoards what another worker could run.
pub struct Slots {
    concurrency: usize,
    state: Mutex<State>,
    freed: Notify,
    running: Arc<Semaphore>,
}

struct State {
    held: usize,
    by_tenant: HashMap<TenantId, usize>,
    finished_in_tick: usize,
    tick_began: Instant,
    ahead: usize,
}

impl Slots {
    pub fn new(concurrency: usize) -> Self {
        let state =
            State { held: 0, by_tenant: HashMap::new(), finished_in_tick: 0, tick_began: Instant::now(), ahead: 0 };
        Self {
            concurrency,
            state: Mutex::new(state),
            freed: Notify::new(),
            running: Arc::new(Semaphore::new(concurrency)),
        }
    }

    /// How many jobs may be claimed now, and each tenant's share of them.
    ///
    /// Slow handlers of one tenant may fill three quarters of the slots, so that everyone else's jobs find one.
    pub fn room(&self) -> (usize, Share) {
        let mut state = self.lock();
        state.tick();
        let room = (self.concurrency + state.ahead).min(MOST).saturating_sub(state.held);
        if state.ahead > 0 || self.concurrency < 4 {
            return (room, Share { of: Vec::new(), rest: MOST });
        }
        let cap = self.concurrency - self.concurrency / 4;
        let of = state.by_tenant.iter().map(|(&tenant, &held)| (tenant, cap.saturating_sub(held))).collect();
        (room, Share { of, rest: cap })
    }

    pub fn hold(&self, tenant: TenantId) {
        let mut state = self.lock();
        state.held += 1;
        *state.by_tenant.entry(tenant).or_default() += 1;
    }

    /// A held job has left its handler, or was never started.
    pub fn free(&self, tenant: TenantId) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(1);
        state.finished_in_tick += 1;
        if let Some(held) = state.by_tenant.get_mut(&tenant) {
            *held -= 1;
            if *held == 0 {
                state.by_tenant.remove(&tenant);
            }
        }
        drop(state);
        self.freed.notify_one();
    }

    /// Resolves when a job was freed since the last call.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// The handlers' turns: at most `concurrency` run at once.
    pub fn turns(&self) -> PollSemaphore {
        PollSemaphore::new(self.running.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) {
        let passed = self.tick_began.elapsed();
        if passed >= TICK {
            let per_tick = self.finished_in_tick as f64 * TICK.as_secs_f64() / passed.as_secs_f64();
            self.ahead = per_tick as usize;
            self.finished_in_tick = 0;
            self.tick_began = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_with_slow_jobs_leaves_a_quarter_of_the_slots_to_the_others() {
        let (slots, flood) = (Slots::new(100), TenantId::generate());
        for _ in 0..70 {
            slots.hold(flood);
        }
        let (room, share) = slots.room();
        assert_eq!(room, 30);
        assert_eq!(share.of, [(flood, 5)]);
        assert_eq!(share.rest, 75);
    }

    #[test]
    fn jobs_are_claimed_ahead_only_when_handlers_are_fast() {
        let (slots, tenant) = (Slots::new(10), TenantId::generate());
        assert_eq!(slots.room().0, 10);
        for _ in 0..1_000 {
            slots.hold(tenant);
            slots.free(tenant);
        }
        std::thread::sleep(TICK);
        assert!(slots.room().0 > 10);
        std::thread::sleep(TICK);
        assert_eq!(slots.room().0, 10);
    }
}
