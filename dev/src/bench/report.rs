//! All figures, as a table for people or as lines of JSON for programs.

use serde_json::{Map, Value};

use super::figure::{Figure, readable};
use crate::terminal;

#[derive(Debug)]
pub struct Report {
    json: bool,
    figures: Vec<Figure>,
    /// Of the machine and the programs: part of every line of JSON.
    common: Map<String, Value>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, figures: Vec::new(), common: Map::new() }
    }

    /// What holds for all figures.
    pub fn common(&mut self, name: &str, value: impl Into<Value>) {
        self.common.insert(name.to_owned(), value.into());
    }

    /// As JSON it is printed at once, so that an interrupted run has told what it found.
    pub fn add(&mut self, mut figure: Figure) {
        terminal::note(said(&figure));
        if self.json {
            let own = std::mem::take(&mut figure.with);
            figure.with = self.common.clone().into_iter().chain(own).collect();
            terminal::result(&figure.json().to_string());
        }
        self.figures.push(figure);
    }

    #[cfg(test)]
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// The table; nothing where JSON was asked for, which is out already.
    pub fn print(&self) {
        if self.json {
            return;
        }
        terminal::step("figures");
        let cells: Vec<[String; 4]> = self.figures.iter().map(cells).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (names, values, targets) = (width(0), width(1), width(2));
        let mut last = "";
        for (figure, [name, value, target, verdict]) in self.figures.iter().zip(&cells) {
            let group = figure.name.split('.').next().unwrap_or_default();
            if group != last && !last.is_empty() {
                terminal::note("\n");
            }
            last = group;
            terminal::note(format!("{name:names$}  {value:>values$}  {target:targets$}  {verdict}"));
        }
        let with_target: Vec<&Figure> = self.figures.iter().filter(|figure| figure.target.is_some()).collect();
        let missed = with_target.iter().filter(|figure| figure.reached() == Some(false));
        let missed: Vec<&str> = missed.map(|figure| figure.name.as_str()).collect();
        match (with_target.len(), missed.len()) {
            (0, _) => {}
            (count, 0) => terminal::step(format!("all {count} targets reached")),
            (count, missing) => {
                terminal::step(format!("{missing} of {count} targets not reached: {}", missed.join(", ")));
            }
        }
    }
}

fn cells(figure: &Figure) -> [String; 4] {
    let target = figure.target.map(|target| format!("target {}", target.text())).unwrap_or_default();
    let verdict = match figure.reached() {
        Some(true) => "reached",
        Some(false) => "NOT REACHED",
        None => "",
    };
    [figure.name.clone(), format!("{} {}", readable(figure.value), figure.unit), target, verdict.to_owned()]
}

/// One line with everything that belongs to the figure.
fn said(figure: &Figure) -> String {
    let [name, value, target, verdict] = cells(figure);
    let verdict = [target, verdict].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
    let verdict = if verdict.is_empty() { verdict } else { format!(" ({verdict})") };
    let with: Vec<String> = figure.with.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
    let with = if with.is_empty() { String::new() } else { format!("; {}", with.join("; ")) };
    format!("{name} {value}{verdict}{with}")
}

/// JSON without its punctuation.
fn plain(value: &Value) -> String {
    match value {
        Value::Number(number) => readable(number.as_f64().unwrap_or_default()),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" / "),
        Value::Object(members) => {
            members.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
