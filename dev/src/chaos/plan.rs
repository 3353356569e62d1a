//! What breaks, when, and for how long: decided by the seed before anything runs.

use std::time::Duration;

use super::random::Random;

/// Something that breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ApiKill,
    ApiHang,
    WorkerKill,
    WorkerHang,
    WorkersRoll,
    LeaderKill,
    LeaderHang,
    RedisKill,
    RedisRestart,
    RedisFlush,
    RedisFull,
    RedisHang,
    PostgresKill,
    PostgresRestart,
    PostgresTerminate,
    PowerCut,
    DiskFull,
    ClockStep,
    NetDelay,
    NetReset,
    NetHold,
    NetSilence,
    NetHalfOpen,
}

/// A fault's name, and how long it lasts, from and to so many milliseconds, for faults that last.
struct Card {
    fault: Fault,
    name: &'static str,
    what: &'static str,
    lasts_ms: (u64, u64),
}

const fn card(fault: Fault, name: &'static str, what: &'static str, lasts_ms: (u64, u64)) -> Card {
    Card { fault, name, what, lasts_ms }
}

/// Everything that can break. A lease lasts 15 s, a standby takes over from a leader that hangs after 10.
const CARDS: [Card; 23] = [
    card(Fault::ApiKill, "api-kill", "SIGKILL to an API", (500, 2_000)),
    card(Fault::ApiHang, "api-hang", "an API held still (SIGSTOP)", (3_000, 8_000)),
    card(Fault::WorkerKill, "worker-kill", "SIGKILL to a worker", (500, 2_000)),
    card(Fault::WorkerHang, "worker-hang", "a worker held still past its lease", (18_000, 22_000)),
    card(Fault::WorkersRoll, "workers-roll", "SIGTERM to each worker in turn", (500, 1_500)),
    card(Fault::LeaderKill, "leader-kill", "SIGKILL to the leading scheduler", (500, 2_000)),
    card(Fault::LeaderHang, "leader-hang", "the leading scheduler held still", (12_000, 16_000)),
    card(Fault::RedisKill, "redis-kill", "SIGKILL to Redis", (1_000, 4_000)),
    card(Fault::RedisRestart, "redis-restart", "Redis restarted", (0, 1_000)),
    card(Fault::RedisFlush, "redis-flush", "FLUSHALL", (0, 0)),
    card(Fault::RedisFull, "redis-full", "maxmemory of Redis reached", (4_000, 9_000)),
    card(Fault::RedisHang, "redis-hang", "Redis held still", (3_000, 8_000)),
    card(Fault::PostgresKill, "postgres-kill", "SIGKILL to all of PostgreSQL", (0, 3_000)),
    card(Fault::PostgresRestart, "postgres-restart", "PostgreSQL restarted", (0, 2_000)),
    card(Fault::PostgresTerminate, "postgres-terminate", "pg_terminate_backend of all", (0, 0)),
    card(Fault::PowerCut, "power-cut", "PostgreSQL goes on from a copy of the moment of its SIGKILL", (0, 2_000)),
    card(Fault::DiskFull, "disk-full", "no room on PostgreSQL's disk", (5_000, 10_000)),
    card(Fault::ClockStep, "clock-step", "the clock of one process stepped", (6_000, 12_000)),
    card(Fault::NetDelay, "net-delay", "a connection's data late by up to 400 ms", (4_000, 9_000)),
    card(Fault::NetReset, "net-reset", "connections reset", (0, 0)),
    card(Fault::NetHold, "net-hold", "a black hole: nothing arrives, then everything", (3_000, 12_000)),
    card(Fault::NetSilence, "net-silence", "connections fall silent for good", (0, 0)),
    card(Fault::NetHalfOpen, "net-half-open", "questions arrive, answers do not", (0, 0)),
];

impl Fault {
    pub fn name(self) -> &'static str {
        self.card().name
    }

    pub fn what(self) -> &'static str {
        self.card().what
    }

    pub fn all() -> Vec<Self> {
        CARDS.iter().map(|card| card.fault).collect()
    }

    pub fn named(name: &str) -> Option<Self> {
        CARDS.iter().find(|card| card.name == name).map(|card| card.fault)
    }

    fn card(self) -> &'static Card {
        // Every fault has a card; a test says so.
        CARDS.iter().find(|card| card.fault == self).unwrap_or(&CARDS[0])
    }
}

/// One fault of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stroke {
    pub fault: Fault,
    /// From the stroke before to this one; longer when that one takes longer.
    pub gap: Duration,
    /// How long it lasts, where it lasts.
    pub lasts: Duration,
    /// Which process, connection or variant.
    pub pick: u64,
}

/// The strokes that a seed deals: every one of `faults` once in each round, in changing order.
pub struct Plan {
    random: Random,
    faults: Vec<Fault>,
    round: Vec<Fault>,
    gap_ms: (u64, u64),
}

const GAP_MS: (u64, u64) = (5_000, 20_000);
/// Of a run that is to be short.
const HASTY_GAP_MS: (u64, u64) = (2_000, 4_000);

impl Plan {
    pub fn new(seed: u64, faults: Vec<Fault>) -> Self {
        Self { random: Random::seeded(seed).split(1), faults, round: Vec::new(), gap_ms: GAP_MS }
    }

    /// The same with one stroke close upon the other.
    pub fn hasty(self) -> Self {
        Self { gap_ms: HASTY_GAP_MS, ..self }
    }
}

impl Iterator for Plan {
    type Item = Stroke;

    fn next(&mut self) -> Option<Stroke> {
        if self.round.is_empty() {
            self.round.clone_from(&self.faults);
            self.random.shuffle(&mut self.round);
        }
        let fault = self.round.pop()?;
        let (least, most) = fault.card().lasts_ms;
        Some(Stroke {
            fault,
            gap: Duration::from_millis(self.random.between(self.gap_ms.0, self.gap_ms.1)),
            lasts: Duration::from_millis(self.random.between(least, most)),
            pick: self.random.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_deals_the_same_plan_again_and_another_seed_another() {
        let deal = |seed| Plan::new(seed, Fault::all()).take(60).collect::<Vec<_>>();
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        for stroke in deal(9) {
            assert!((Duration::from_secs(5)..=Duration::from_secs(20)).contains(&stroke.gap));
        }
    }

    #[test]
    fn each_round_has_every_fault_once() {
        let mut dealt: Vec<Fault> = Plan::new(3, Fault::all()).take(CARDS.len()).map(|stroke| stroke.fault).collect();
        dealt.sort_unstable();
        let mut all = Fault::all();
        all.sort_unstable();
        assert_eq!(dealt, all);
    }

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::all() {
            assert_eq!((Fault::named(fault.name()), fault.card().fault), (Some(fault), fault));
        }
        assert_eq!(Fault::named("nothing"), None);
    }
}
