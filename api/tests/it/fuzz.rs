//! What cargo-fuzz is given (`fuzz/`), tried by proptest with bytes, and with what looks as if it were meant.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../../../fuzz/entries.rs"]
mod entries;

/// Words of what the entries read, to be put together wrongly.
const WORDS: &[&str] = &[
    "cursor=",
    "limit=",
    "&",
    "=",
    "%",
    "100",
    "AQAAAAAAAAAAAAAAAAAAAAA",
    "v1,",
    "v1a,",
    " ",
    "\n",
    "\t",
    ",",
    "/",
    "*",
    "-",
    "#",
    "L",
    "W",
    "0",
    "1",
    "5",
    "29",
    "30",
    "31",
    "59",
    "2",
    "12",
    "MON",
    "FEB",
    "sun",
    "*/7",
    "1-5",
    "5#3",
    "L-1",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "UTC",
    "whsec_",
    "whpk_",
    "1800000000",
    "-1",
    "9223372036854775807",
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "[fd00::1]:80",
    "203.0.113.7:1",
    "::",
    "/8",
    "/0",
    "/128",
    "unknown",
    "http://",
    "https://",
    "ftp://",
    "user:pw@",
    "localhost",
    "127.1",
    "0x7f",
    "[::1]",
    "example.com",
    ":8080",
    "?",
    "bytes=",
    "\r\n",
    "--",
    "--x",
    "x\n--x\r\n",
    "content-disposition: form-data; name=\"file\"",
    "content-type: text/plain",
    "\r\n\r\n",
    "\"abababababababababababababababababababababababababababababababab\"",
    "é",
    "\0",
];

fn inputs() -> BoxedStrategy<Vec<u8>> {
    let words = || proptest::sample::select(WORDS).prop_map(|word: &str| word.as_bytes().to_vec());
    let bytes = || vec(any::<u8>(), 0..8);
    let mixed = vec(prop_oneof![8 => words(), 1 => bytes()], 0..24).prop_map(|parts| parts.concat());
    let zone = proptest::sample::select(&["", "\nEurope/Berlin", "\nAustralia/Lord_Howe"][..]);
    let expression = (vec(words(), 5), zone).prop_map(|(fields, zone)| [&fields.join(&b' '), zone.as_bytes()].concat());
    prop_oneof![2 => mixed, 1 => vec(any::<u8>(), 0..200), 1 => expression].boxed()
}

#[test]
fn whatever_comes_the_parsers_keep_their_promises() {
    let config = Config { cases: 4_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let tried = runner.run(&inputs(), |data| {
        entries::ENTRIES.iter().for_each(|(_, entry)| entry(&data));
        Ok(())
    });
    tried.unwrap();
}

#[test]
fn a_target_of_cargo_fuzz_runs_each_entry() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in entries::ENTRIES {
        let target = std::fs::read_to_string(folder.join(format!("targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("millwork_fuzz::{name}(data)")), "{target}");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
    }
}
