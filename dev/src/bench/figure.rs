//! One measured number.

use serde_json::{Map, Value, json};

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    fn accepts(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Below(limit) => value < limit,
        }
    }

    pub fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", readable(least)),
            Self::AtMost(most) => format!("≤ {}", readable(most)),
            Self::Below(limit) => format!("< {}", readable(limit)),
        }
    }
}

/// One measured number, and what it was measured with.
#[derive(Debug, Clone)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub target: Option<Target>,
    pub with: Map<String, Value>,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, target: None, with: Map::new() }
    }

    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.with.insert(name.to_owned(), value.into());
        self
    }

    /// `None` without a target.
    pub fn reached(&self) -> Option<bool> {
        self.target.map(|target| target.accepts(self.value))
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.name, "value": rounded(self.value), "unit": self.unit,
            "target": self.target.map(Target::text), "reached": self.reached(), "with": self.with,
        })
    }
}

/// To three decimals: no measurement here is better than that.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `12,345`, `47.1`, `0.83`.
pub fn readable(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (12345.6, "12,346"),
            (999.0, "999"),
            (1_000_000.0, "1,000,000"),
            (47.12, "47.1"),
            (0.826, "0.83"),
            (0.0, "0"),
            (15.0, "15"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(readable(value), text);
        }
    }

    #[test]
    fn a_figure_is_compared_with_its_target() {
        let figure = |value, target| Figure::new("x", value, "ms").target(target).reached();
        assert_eq!(figure(12_000.0, Target::AtLeast(12_000.0)), Some(true));
        assert_eq!(figure(15.0, Target::Below(15.0)), Some(false));
        assert_eq!(figure(3.0, Target::AtMost(3.0)), Some(true));
        assert_eq!(figure(f64::NAN, Target::AtMost(3.0)), Some(false));
        assert_eq!(Figure::new("x", 1.0, "ms").reached(), None);
    }
}
