//! `cargo dev`: see `--help`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use millwork_dev::interrupt::{self, Interrupted};
use millwork_dev::{bench, chaos, fuzz, suite, up};

const HELP: &str = "\
Sets up and runs Millwork on this machine, with PostgreSQL and Redis servers of its own.

cargo dev up [--once] [--release]
    Starts everything, shows the main job (an event, delivered as a signed webhook), and runs until Ctrl-C.
    Data, mails and settings are kept in .dev/ of the checkout.
    --once      stop after showing the main job; the exit code says whether it worked
    --release   build and run with optimisations

cargo dev test [ARGUMENTS]
    Runs the tests against fresh servers. ARGUMENTS go to `cargo nextest run`; where cargo-nextest is missing it is built
    first, into the target folder.

cargo dev bench [NAME]... [--json] [--seconds N] [--rows N] [--minutes N] [--out FOLDER]
    Measures release builds on fresh servers: the figures, their targets, and what the machine can do by itself
    (docs/performance.md). NAME is one of submit, drain, both, latency, events, fair, memory, redis, transport, peers,
    growth, soak; all of them but soak unless named. peers needs Node.js and npm.
    --json        one line of JSON a figure on standard output, and nothing else there
    --seconds N   how long each load lasts, 10 unless told
    --rows N      finished jobs beside which growth measures last, 1,000,000 unless told
    --minutes N   how long soak lasts, 5 unless told
    --out FOLDER  where soak leaves its table and its plot
    MILLWORK_BENCH_BIN_DIR (folder) names binaries to measure instead of building them.

cargo dev chaos [--minutes N] [--seed N] [--only FAULT,...] [--sabotage no-repair|ack-before-commit] [--control]
    Breaks things while clients submit, and then compares what clients were told, what was done outside and what the
    ledger says: docs/reliability.md. The exit code is 1 when a promise was broken.
    --minutes N     how long things break, 3 unless told
    --seed N        repeats the plan of the run that printed it
    --only FAULT    only these
    --sabotage S    a process breaks a promise on purpose
    --control       a short run with each sabotage; the exit code says whether all were found

cargo dev fuzz [--seed N] [--examples N] [-- ARGUMENTS]
    Asks a fresh API everything that its OpenAPI document allows and forbids: the exit code is 1 when an answer was a 5xx
    or other than the document says. Schemathesis is installed into the target folder first; that needs Python 3.10+.
    --seed N        another seed makes up other requests; 1 unless told
    --examples N    requests made up for each operation, besides those at the edges; 40 unless told
    ARGUMENTS go to `schemathesis run`: --include-path /jobs, say

PostgreSQL 15+ and Redis 7+ (and Node.js 18+ for `test`, wrk 4+ for `bench`) are installed with apt-get if they are
missing; it says so before. MILLWORK_PG_BIN (folder), MILLWORK_REDIS_SERVER and MILLWORK_WRK (programs) name others to
use. NO_COLOR turns colours off.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match interrupt::install().and_then(|()| run(&arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            let signal =
                error.downcast_ref::<Interrupted>().and_then(|interrupted| u8::try_from(interrupted.signal).ok());
            signal.map_or(ExitCode::FAILURE, |signal| ExitCode::from(128 + signal))
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("up", rest)) => up::run(up_options(rest)?).map(|()| ExitCode::SUCCESS),
        Some(("test", rest)) => suite::run(rest),
        Some(("bench", rest)) => bench::run(&bench::Options::parse(rest)?).map(|()| ExitCode::SUCCESS),
        Some(("chaos", rest)) => chaos::run(&chaos::Options::parse(rest)?),
        Some(("fuzz", rest)) => fuzz::run(&fuzz::Options::parse(rest)?),
        None | Some(("help" | "--help" | "-h", _)) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some((other, _)) => bail!("there is no `cargo dev {other}`; `cargo dev --help` lists what there is"),
    }
}

fn up_options(arguments: &[String]) -> Result<up::Options> {
    let mut options = up::Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--once" => options.once = true,
            "--release" => options.release = true,
            other => bail!("`cargo dev up` does not take {other:?}; `cargo dev --help` lists what it takes"),
        }
    }
    Ok(options)
}
