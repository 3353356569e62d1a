//! How often something is done whose cost grows with the ledger.

use std::time::Duration;

/// It may take one part in so many of the time.
const SHARE: u32 = 20;

/// How long to rest after it took `took`: `least`, unless its cost asks for more.
pub fn rest(least: Duration, took: Duration) -> Duration {
    least.max(took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_less_than_a_twentieth_of_the_time() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        for (took, expected) in [(ms(1), s(10)), (ms(500), s(10)), (s(1), s(20)), (s(30), s(600))] {
            assert_eq!(rest(s(10), took), expected, "{took:?}");
        }
    }
}
