//! Medians, percentiles, slopes and changes.

/// Of no values: not a number.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that `percent` of them do not exceed, by nearest rank.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// How much `y` grows for each unit of `x`, by least squares.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if variance == 0.0 { 0.0 } else { covariance / variance }
}

/// How a value that was seen again and again went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// In the middle of the first quarter.
    pub first: f64,
    /// In the middle of the last quarter.
    pub last: f64,
}

impl Change {
    /// What is no number was not seen.
    pub fn of(values: &[f64]) -> Self {
        let seen: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let quarter = seen.len().div_ceil(4);
        Self { first: median(&seen[..quarter]), last: median(&seen[seen.len() - quarter..]) }
    }

    /// Whether it did not grow by more than this share of it, or by more than `slack` where that is more. What was never
    /// seen did not grow.
    pub fn is_within(self, share: f64, slack: f64) -> bool {
        let grown = self.last - self.first;
        grown.is_nan() || grown <= (self.first * share).max(slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_that_from_the_first_quarter_to_the_last() {
        let change = Change::of(&[10.0, 11.0, 50.0, f64::NAN, 50.0, 50.0, 50.0, 12.0, 30.0]);
        assert_eq!(change, Change { first: 10.0, last: 12.0 });
        assert!(change.is_within(0.2, 0.0) && change.is_within(0.0, 2.0));
        assert!(!change.is_within(0.1, 1.0));
        assert!(Change { first: 10.0, last: 1.0 }.is_within(0.1, 0.0));
        assert!(Change::of(&[]).is_within(0.1, 0.0));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&values), 3.0);
        assert_eq!(percentile(&values, 99.0), 5.0);
        assert_eq!(percentile(&values, 1.0), 1.0);
        assert_eq!(percentile(&values[..2], 50.0), 1.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_slope_of_a_line_is_its_growth() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
        assert_eq!(slope(&[(1.0, 1.0)]), 0.0);
    }
}
