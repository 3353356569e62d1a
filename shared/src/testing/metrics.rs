//! A page of metrics as Prometheus reads it.

/// The value of a series, written as on the page: `name{a="x",b="y"}`, labels in the order of their names.
pub fn sample(page: &str, series: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().expect("a value is a number"))
}

/// The names of all metrics on the page, without the endings of a histogram's parts.
pub fn names(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}
