//! `cargo dev bench` against the binaries of this build: the figures mean nothing here, but that they can be taken does.

use std::process::Command;

use millwork_dev::{bench, process};
use serde_json::Value;

#[test]
fn a_figure_is_a_line_of_json_and_nothing_else_is_printed() {
    let api = process::binary("millwork-api").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millwork-dev"))
        .args(["bench", "latency", "--json", "--seconds", "1"])
        .env(bench::BIN_DIR, api.parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let lines = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let figure = |name: &str| figures.iter().find(|figure| figure["name"] == name);
    for name in ["machine.fdatasync", "latency.start_p50", "latency.start_p99", "latency.answer_p50"] {
        let figure = figure(name).unwrap();
        assert!(figure["value"].as_f64().is_some_and(|ms| ms > 0.0) && figure["unit"] == "ms", "{figure}");
        assert!(figure["with"]["postgresql"].is_string(), "{figure}");
    }
    let p50 = figure("latency.start_p50").unwrap();
    assert!(
        p50["target"].is_string() && p50["reached"].is_boolean() && p50["with"]["jobs"].as_u64() > Some(20),
        "{p50}"
    );
}
