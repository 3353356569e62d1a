//! Requests that one process may answer before it asks again.
//!
//! A caller who asks seldom costs a call of Redis a request. One who asks often is granted a lot, which lasts for a second at
//! most; what is left of it is given back with the next question. A lot is a hundredth of the limit at most, so that what lies
//! with processes that do not need it is little.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Answer, Standing};

/// How long a lot lasts.
const LASTS: Duration = Duration::from_secs(1);
/// How much larger the next lot is when one was used up early.
const GROWTH: u32 = 8;
/// Longest time for which a refusal is repeated without asking anew.
const REFUSED_FOR: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Lease {
    state: Mutex<State>,
    /// Held by who asks; the others wait for the answer.
    pub asking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    tokens: u32,
    /// What the last lot was, and what the next one is to be.
    lot: u32,
    next: u32,
    until: Duration,
    refused_until: Duration,
    standing: Standing,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Admitted(Standing),
    Refused(Standing, Duration),
}

impl Lease {
    pub fn new() -> Self {
        let state = State {
            tokens: 0,
            lot: 0,
            next: 1,
            until: Duration::ZERO,
            refused_until: Duration::ZERO,
            standing: Standing::default(),
        };
        Self { state: Mutex::new(state), asking: tokio::sync::Mutex::new(()) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verdict, where it needs no question.
    pub fn take(&self, cost: u32, now: Duration) -> Option<Verdict> {
        let mut state = self.state();
        if now < state.until && state.tokens >= cost {
            state.tokens -= cost;
            return Some(Verdict::Admitted(state.standing.with(state.tokens)));
        }
        if now < state.refused_until && state.tokens < cost {
            return Some(Verdict::Refused(state.standing.with(state.tokens), state.refused_until - now));
        }
        None
    }

    /// What to ask for: how many, and how many are given back.
    pub fn question(&self, cost: u32, most: u32, now: Duration) -> (u32, u32) {
        let mut state = self.state();
        let used = state.lot - state.tokens;
        state.next = if now < state.until { state.next.max(state.lot).saturating_mul(GROWTH) } else { used }
            .clamp(1, most.max(1));
        (state.next.max(cost), std::mem::take(&mut state.tokens))
    }

    /// Takes an answer, and `cost` out of what it grants.
    pub fn settle(&self, cost: u32, answer: &Answer, standing: Standing, now: Duration) -> Verdict {
        let mut state = self.state();
        state.standing = standing;
        state.lot = answer.granted;
        state.until = now + LASTS;
        if answer.granted < cost {
            state.tokens = 0;
            let wait = Duration::from_millis(answer.wait_ms.max(1));
            if cost == 1 {
                state.refused_until = now + wait.min(REFUSED_FOR);
            }
            return Verdict::Refused(standing, wait);
        }
        state.tokens = answer.granted - cost;
        state.refused_until = Duration::ZERO;
        Verdict::Admitted(standing.with(state.tokens))
    }

    /// Whether nobody has asked for a while.
    pub fn is_idle(&self, now: Duration) -> bool {
        now >= self.state().until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Counts the questions that requests at this pace ask in ten seconds.
    fn questions(gap: Duration, most: u32) -> u32 {
        let (lease, mut now, mut asked) = (Lease::new(), Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            if lease.take(1, now).is_none() {
                let (wanted, _) = lease.question(1, most, now);
                let answer = Answer { granted: wanted, wait_ms: 0, reset_ms: 0, left: [0; 2] };
                lease.settle(1, &answer, Standing::default(), now);
                asked += 1;
            }
            now += gap;
        }
        asked
    }

    #[test]
    fn a_busy_caller_is_asked_for_once_a_second_or_so() {
        assert!(questions(MS / 25, 60_000) < 30, "{}", questions(MS / 25, 60_000));
        assert_eq!(questions(MS * 1_500, 60_000), 7, "one a request");
        assert_eq!(questions(MS * 10, 1), 1_000, "a small limit is counted exactly");
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let lease = Lease::new();
        let answer = Answer { granted: 10, wait_ms: 0, reset_ms: 0, left: [0; 2] };
        lease.settle(3, &answer, Standing::default(), Duration::ZERO);
        assert!(matches!(lease.take(2, MS), Some(Verdict::Admitted(_))));
        assert_eq!(lease.take(1, MS * 1_000), None, "it lasts for a second");
        assert_eq!(lease.question(1, 100, MS * 1_000), (5, 5));
        assert_eq!(lease.question(1, 100, MS * 1_000).1, 0, "once");
    }

    #[test]
    fn a_refusal_is_repeated_for_a_moment() {
        let lease = Lease::new();
        let answer = Answer { granted: 0, wait_ms: 9_000, reset_ms: 0, left: [0; 2] };
        assert!(
            matches!(lease.settle(1, &answer, Standing::default(), Duration::ZERO), Verdict::Refused(_, wait) if wait == MS * 9_000)
        );
        assert!(matches!(lease.take(1, MS * 249), Some(Verdict::Refused(..))));
        assert_eq!(lease.take(1, MS * 250), None);
    }
}
