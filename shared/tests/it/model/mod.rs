//! A job's whole life as a state machine: random histories in the real ledger and the real Redis, beside a model of what
//! was promised. After every step both are compared.
//!
//! A history that fails is shortened, and printed. The histories are the same in every run, so that a failure comes again;
//! `MODEL_SEED` takes others, and `PROPTEST_CASES` more.

mod deeds;
mod promised;
mod promises;
mod snapshot;
mod stage;
mod steps;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::stage::{Ground, Stage};
use self::steps::{Step, step};

/// Histories that a run tries.
const CASES: u32 = 32;
const STEPS: usize = 50;

#[test]
fn no_history_of_jobs_breaks_a_promise() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ground = runtime.block_on(Ground::prepare());
    let seed = std::env::var("MODEL_SEED").ok().map(|seed| seed.parse().expect("MODEL_SEED is a number"));
    let seed: u64 = seed.unwrap_or(1);
    let mut runner = runner(seed);
    let histories = prop::collection::vec(step(), STEPS / 2..STEPS);
    let failed = runner.run(&histories, |steps| runtime.block_on(play(&ground, &steps)).map_err(TestCaseError::fail));
    if let Err(TestError::Fail(why, steps)) = failed {
        panic!("{why}\n\nthe shortest history: {steps:#?}\n\nagain by MODEL_SEED={seed}");
    }
    failed.unwrap();
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = Config::default().cases;
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config {
        cases: if asked { cases } else { CASES },
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

async fn play(ground: &Ground, steps: &[Step]) -> Result<(), String> {
    let mut stage = Stage::set(ground).await;
    for (n, step) in steps.iter().enumerate() {
        stage.step(step).await.map_err(|why| format!("step {n}, {step:?}:\n{why}"))?;
    }
    stage.bring_to_an_end().await.map_err(|why| format!("at the end: {why}"))
}
