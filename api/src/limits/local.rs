//! What one process counts by itself while Redis is down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Answer, Question, WINDOW_MS};

/// Counters kept at most. Past that all are forgotten: a flood of subjects must not become a flood of memory.
const MOST: usize = 50_000;

/// The windows of `window.lua`, in memory.
#[derive(Debug, Default)]
pub struct Local(Mutex<HashMap<String, Counter>>);

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    number: u64,
    count: u64,
    before: u64,
}

impl Local {
    pub fn ask(&self, question: &Question<'_>, now_ms: u64) -> Answer {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() > MOST {
            counters.clear();
        }
        let (number, into) = (now_ms / WINDOW_MS, now_ms % WINDOW_MS);
        let (mut granted, mut left) = (u64::from(question.wanted), [0; 2]);
        for (n, (key, limit)) in question.counters.iter().enumerate() {
            let counter = counters.entry((*key).to_owned()).or_default();
            *counter = match number.checked_sub(counter.number) {
                Some(0) => *counter,
                Some(1) => Counter { number, count: 0, before: counter.count },
                _ => Counter { number, ..Counter::default() },
            };
            counter.count = counter.count.saturating_sub(question.back.into());
            let used = counter.count + (counter.before * (WINDOW_MS - into)).div_ceil(WINDOW_MS);
            left[n] = u64::from(*limit).saturating_sub(used);
            granted = granted.min(left[n]);
        }
        if granted < question.least.into() {
            granted = 0;
        }
        for (n, (key, _)) in question.counters.iter().enumerate() {
            if let Some(counter) = counters.get_mut(*key) {
                counter.count += granted;
            }
            left[n] -= granted;
        }
        let wait_ms = if granted == 0 { (WINDOW_MS - into).min(5_000) } else { 0 };
        Answer { granted: granted as u32, wait_ms, reset_ms: WINDOW_MS - into, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let local = Local::default();
        let ask = |wanted, now_ms| {
            local.ask(&Question { counters: &[("a", 60), ("b", 100)], wanted, least: 1, back: 0 }, now_ms)
        };
        assert_eq!(ask(50, 0), Answer { granted: 50, wait_ms: 0, reset_ms: 60_000, left: [10, 50] });
        assert_eq!(ask(50, 30_000).granted, 10);
        assert_eq!((ask(1, 59_000).granted, ask(1, 60_000).granted), (0, 0));
        assert_eq!(ask(60, 90_000).granted, 30, "half of the window before has gone by");
        assert_eq!(ask(60, 300_000).granted, 60);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let local = Local::default();
        let ask = |wanted, back| local.ask(&Question { counters: &[("a", 10)], wanted, least: 1, back }, 0).granted;
        assert_eq!((ask(10, 0), ask(1, 0), ask(5, 4), ask(9, 99)), (10, 0, 4, 9));
    }
}
