//! How many jobs of a queue a worker may hold.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::dispatch::Share;
use tokio::sync::Notify;

/// Jobs of one queue that a worker holds at most, running or waiting for a slot.
pub const MOST: usize = 4_096;
/// Time over which the rate of finished jobs is taken.
const TICK: Duration = Duration::from_millis(20);

/// Jobs of one tenant that run at once, of a queue with so many slots: three quarters, so that everyone else's find one.
pub fn most_of_one(slots: usize) -> usize {
    if slots < 4 { slots } else { slots - slots / 4 }
}

/// What a worker holds of one queue: as many jobs as its concurrency, and, when handlers are fast, a few more, claimed
/// ahead, as many as finish within [`TICK`]. So a queue of slow jobs never hoards what another worker could run.
pub struct Slots {
    concurrency: usize,
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    all: Held,
    by_tenant: HashMap<TenantId, Held>,
    tick_began: Instant,
}

#[derive(Default)]
struct Held {
    now: usize,
    finished_in_tick: usize,
    ahead: usize,
}

impl Slots {
    pub fn new(concurrency: usize) -> Self {
        let state = State { all: Held::default(), by_tenant: HashMap::new(), tick_began: Instant::now() };
        Self { concurrency, state: Mutex::new(state), freed: Notify::new() }
    }

    /// How many jobs may be claimed now, and each tenant's share of them: what it may run at once, and what it finishes
    /// in a tick. A tenant that holds more, claimed ahead before its jobs became slow, takes no room from others by it.
    pub fn room(&self) -> (usize, Share) {
        let mut state = self.lock();
        state.tick();
        let rest = most_of_one(self.concurrency);
        let mut used = 0;
        let of = state.by_tenant.iter().map(|(&tenant, held)| {
            let most = rest + held.ahead;
            used += held.now.min(most);
            (tenant, most.saturating_sub(held.now))
        });
        let of = of.collect();
        let room = (self.concurrency + state.all.ahead).saturating_sub(used);
        (room.min(MOST.saturating_sub(state.all.now)), Share { of, rest })
    }

    pub fn hold(&self, tenant: TenantId) {
        let mut state = self.lock();
        state.all.now += 1;
        state.by_tenant.entry(tenant).or_default().now += 1;
    }

    /// A held job has left its handler, or was never started.
    pub fn free(&self, tenant: TenantId) {
        let mut state = self.lock();
        state.all.free();
        if let Some(held) = state.by_tenant.get_mut(&tenant) {
            held.free();
        }
        drop(state);
        self.freed.notify_one();
    }

    /// Resolves when a job was freed since the last call.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) {
        let passed = self.tick_began.elapsed();
        if passed >= TICK {
            self.tick_began = Instant::now();
            let part = TICK.as_secs_f64() / passed.as_secs_f64();
            self.all.tick(part);
            self.by_tenant.retain(|_, held| {
                held.tick(part);
                held.now + held.ahead > 0
            });
        }
    }
}

impl Held {
    fn free(&mut self) {
        self.now = self.now.saturating_sub(1);
        self.finished_in_tick += 1;
    }

    fn tick(&mut self, part: f64) {
        self.ahead = (self.finished_in_tick as f64 * part) as usize;
        self.finished_in_tick = 0;
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
    fn a_tenant_with_quick_jobs_lifts_no_limit_of_one_with_slow_ones() {
        let (slots, [slow, quick]) = (Slots::new(100), [TenantId::generate(), TenantId::generate()]);
        for _ in 0..75 {
            slots.hold(slow);
        }
        for _ in 0..1_000 {
            slots.hold(quick);
            slots.free(quick);
        }
        std::thread::sleep(TICK);
        let (room, share) = slots.room();
        assert!(room > 25, "{room}");
        let left = |wanted| share.of.iter().find(|(tenant, _)| *tenant == wanted).map(|(_, left)| *left);
        assert_eq!(left(slow), Some(0));
        assert!(left(quick) > Some(75));
    }

    #[test]
    fn what_a_tenant_holds_beyond_its_share_takes_no_room_from_others() {
        let (slots, tenant) = (Slots::new(100), TenantId::generate());
        for _ in 0..400 {
            slots.hold(tenant);
        }
        assert_eq!(slots.room().0, 25);
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
