//! A receiver that lets us wait in vain is left alone for a while, so that waiting for it does not delay the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use millwork_shared::infra::ids::WebhookId;

/// Timeouts in a row that open the circuit.
const TIMEOUTS: u32 = 5;
/// How long it stays open before one call tries again.
const OPEN: TimeDelta = TimeDelta::seconds(30);
/// Receivers in trouble that are remembered; beyond, new ones are called as if nothing were wrong.
const REMEMBERED: usize = 10_000;

/// What this process has lately seen of receivers in trouble. Cheap to clone.
///
/// Only timeouts count: whatever ends sooner, be it with a refused connection, does not hold a worker's slot for long.
#[derive(Debug, Clone, Default)]
pub struct Circuits(Arc<Mutex<HashMap<WebhookId, Trouble>>>);

#[derive(Debug)]
struct Trouble {
    timeouts: u32,
    last: DateTime<Utc>,
    /// The next call that is let through while the circuit is open.
    probe_at: DateTime<Utc>,
}

impl Circuits {
    /// Whether to call at `now`. While the circuit is open, one call in thirty seconds is let through.
    pub fn lets_through(&self, webhook: WebhookId, now: DateTime<Utc>) -> bool {
        match self.lock().get_mut(&webhook) {
            Some(trouble) if trouble.timeouts >= TIMEOUTS => {
                let due = now >= trouble.probe_at;
                if due {
                    trouble.probe_at = now + OPEN;
                }
                due
            }
            _ => true,
        }
    }

    /// Notes how a call ended.
    pub fn note(&self, webhook: WebhookId, timed_out: bool, now: DateTime<Utc>) {
        let mut troubles = self.lock();
        if !timed_out {
            troubles.remove(&webhook);
            return;
        }
        if troubles.len() >= REMEMBERED && !troubles.contains_key(&webhook) {
            troubles.retain(|_, trouble| now - trouble.last < OPEN * 10);
            if troubles.len() >= REMEMBERED {
                return;
            }
        }
        let trouble = troubles.entry(webhook).or_insert(Trouble { timeouts: 0, last: now, probe_at: now });
        trouble.timeouts = trouble.timeouts.saturating_add(1);
        (trouble.last, trouble.probe_at) = (now, now + OPEN);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WebhookId, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // each change is whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMED_OUT: bool = true;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn it_opens_after_silence_and_lets_one_call_through_at_a_time() {
        let (circuits, webhook) = (Circuits::default(), WebhookId::generate());
        for n in 0..5 {
            assert!(circuits.lets_through(webhook, at(n)));
            circuits.note(webhook, TIMED_OUT, at(n));
        }
        assert!(!circuits.lets_through(webhook, at(5)) && !circuits.lets_through(webhook, at(33)));
        assert!(circuits.lets_through(webhook, at(34)), "the probe");
        assert!(!circuits.lets_through(webhook, at(35)), "one alone");
        circuits.note(webhook, TIMED_OUT, at(40));
        assert!(!circuits.lets_through(webhook, at(69)) && circuits.lets_through(webhook, at(70)));
        circuits.note(webhook, !TIMED_OUT, at(71));
        assert!(circuits.lets_through(webhook, at(71)) && circuits.lets_through(webhook, at(71)));
    }

    #[test]
    fn an_answer_between_timeouts_keeps_it_closed_and_others_are_not_concerned() {
        let (circuits, webhook, other) = (Circuits::default(), WebhookId::generate(), WebhookId::generate());
        for n in 0..20 {
            circuits.note(webhook, n % 4 != 3, at(n));
            assert!(circuits.lets_through(webhook, at(n)));
        }
        for n in 0..5 {
            circuits.note(webhook, TIMED_OUT, at(n));
        }
        assert!(!circuits.lets_through(webhook, at(5)) && circuits.lets_through(other, at(5)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_with_time() {
        let circuits = Circuits::default();
        for _ in 0..REMEMBERED + 10 {
            circuits.note(WebhookId::generate(), TIMED_OUT, at(0));
        }
        assert_eq!(circuits.lock().len(), REMEMBERED);
        circuits.note(WebhookId::generate(), TIMED_OUT, at(301));
        assert_eq!(circuits.lock().len(), 1);
    }
}
