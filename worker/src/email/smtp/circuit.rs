//! Whether a server is worth trying.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Opens when the server fails, for a rest that doubles with every further failure. After the rest one mail tries it; the
/// others keep away until that one knows.
#[derive(Debug, Default)]
pub struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts changes for better or worse, so that mails which set out before the last one have no say.
    era: u64,
    failures: u32,
    /// Meaningful after a failure: nobody tries before.
    rests_until: Option<Instant>,
}

/// The right to try the server once.
#[derive(Debug)]
pub struct Pass {
    era: u64,
}

impl Circuit {
    /// None while the server rests. `patience` is how long the mail that tries a rested server may take to find out.
    pub fn enter(&self, now: Instant, patience: Duration) -> Option<Pass> {
        let mut state = self.state();
        if let Some(until) = state.rests_until {
            if now < until {
                return None;
            }
            state.rests_until = Some(now + patience);
        }
        Some(Pass { era: state.era })
    }

    pub fn succeeded(&self, pass: &Pass) {
        let mut state = self.state();
        if state.era == pass.era && state.failures > 0 {
            *state = State { era: state.era + 1, ..State::default() };
        }
    }

    pub fn failed(&self, pass: &Pass, now: Instant) {
        let mut state = self.state();
        if state.era == pass.era {
            let rest = FIRST_REST * 2_u32.pow(state.failures.min(16));
            *state = State {
                era: state.era + 1,
                failures: state.failures + 1,
                rests_until: Some(now + rest.min(LONGEST_REST)),
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn mails_that_fail_together_count_once() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        let passes: Vec<_> = (0..20).map(|_| circuit.enter(now, PATIENCE).unwrap()).collect();
        passes.iter().for_each(|pass| circuit.failed(pass, now));
        assert!(circuit.enter(now + S / 2, PATIENCE).is_none());
        assert!(circuit.enter(now + S, PATIENCE).is_some());
    }

    #[test]
    fn after_the_rest_one_mail_tries_and_the_rest_doubles_up_to_a_minute() {
        let (circuit, mut now) = (Circuit::default(), Instant::now());
        let pass = circuit.enter(now, PATIENCE).unwrap();
        circuit.failed(&pass, now);
        for rest_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(circuit.enter(now + S * rest_s - S / 10, PATIENCE).is_none(), "{rest_s}");
            now += S * rest_s;
            let probe = circuit.enter(now, PATIENCE).unwrap();
            assert!(circuit.enter(now, PATIENCE).is_none(), "two try at once");
            circuit.failed(&probe, now);
        }
    }

    #[test]
    fn one_success_closes_it_and_stragglers_do_not_open_it_again() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        let [straggler, late] = [(); 2].map(|()| circuit.enter(now, PATIENCE).unwrap());
        circuit.failed(&late, now);
        let probe = circuit.enter(now + S, PATIENCE).unwrap();
        circuit.succeeded(&straggler); // says nothing of the server now
        assert!(circuit.enter(now + S, PATIENCE).is_none());
        circuit.succeeded(&probe);
        circuit.failed(&straggler, now + S);
        assert!(circuit.enter(now + S, PATIENCE).is_some());
        assert!(circuit.enter(now + S, PATIENCE).is_some());
    }

    #[test]
    fn a_try_that_never_reports_does_not_close_the_server_for_good() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        circuit.failed(&circuit.enter(now, PATIENCE).unwrap(), now);
        let _lost = circuit.enter(now + S, PATIENCE).unwrap();
        assert!(circuit.enter(now + S + PATIENCE - S / 10, PATIENCE).is_none());
        assert!(circuit.enter(now + S + PATIENCE, PATIENCE).is_some());
    }
}
