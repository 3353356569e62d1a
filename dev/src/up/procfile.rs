//! The Procfile: one `name: command` a line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub command: String,
}

pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is no Procfile", path.display()))
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entries: Vec<Entry> = lines
        .map(|line| {
            let (name, command) = line.split_once(':').with_context(|| format!("{line:?} is not `name: command`"))?;
            let (name, command) = (name.trim().to_owned(), command.trim().to_owned());
            ensure!(!name.is_empty() && !command.is_empty(), "{line:?} is not `name: command`");
            Ok(Entry { name, command })
        })
        .collect::<Result<_>>()?;
    ensure!(!entries.is_empty(), "it names no process");
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_commands_are_read() {
        let entries = parse("# processes\napi: millwork-api\n\nworker:millwork-worker --queues a,b\n").unwrap();
        let pairs: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.command.as_str())).collect();
        assert_eq!(pairs, [("api", "millwork-api"), ("worker", "millwork-worker --queues a,b")]);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for text in ["", "# nothing\n", "api\n", "api:\n", ": millwork-api\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
