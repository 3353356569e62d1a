//! The page about security names tests that there are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/security.md");

#[test]
fn every_test_that_the_page_about_security_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for crate_folder in ["api", "worker", "scheduler", "shared", "dev"] {
        for part in ["src", "tests"] {
            collect(&root.join(crate_folder).join(part), &mut known);
        }
    }
    let named = named();
    assert!(named.len() > 100, "{named:?}");
    let missing: Vec<_> = named.difference(&known).collect();
    assert!(missing.is_empty(), "docs/security.md names tests that there are not: {missing:#?}");
}

/// Words in backticks that look like the name of a test: several words of lower case.
fn named() -> BTreeSet<String> {
    let words = PAGE.split('`').skip(1).step_by(2);
    let is_test = |word: &&str| {
        word.matches('_').count() >= 3 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    words.filter(is_test).map(str::to_owned).collect()
}

/// The names of functions right behind a `#[test]` or `#[tokio::test]`.
fn collect(folder: &Path, known: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        if path.is_dir() {
            collect(&path, known);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for part in text.split("test]\n").chain(text.split("test(start_paused = true)]\n")).skip(1) {
                let function = part.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                known.extend(function.map(str::to_owned));
            }
        }
    }
}
