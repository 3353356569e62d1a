use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{ROUNDS, shown};
use crate::bench::Options;
use crate::bench::cpu::{self, Usage};
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::fleet::{Fleet, Size, batch};
use crate::bench::redis;
use crate::bench::report::Report;
use crate::bench::sink::now_ns;
use crate::bench::site::{Ground, pause};
use crate::bench::statistics::median;
use crate::services::RedisCluster;
use crate::terminal;

const ONE: Size = Size { apis: 1, workers: 1, schedulers: 1 };
const MANY: Size = Size { apis: 2, workers: 4, schedulers: 2 };
const JOBS: usize = 60_000;
/// Jobs in a request.
const BATCH: usize = 100;
const CONNECTIONS: usize = 4;
const LIMIT: Duration = Duration::from_secs(300);
/// The node that is lost, with the queue `webhooks`.
const LOST: usize = 0;
/// What is submitted while a node is lost, of what the same processes did at full load.
const SHARE: f64 = 0.4;
const BEFORE: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(5);

/// One API and one worker on one Redis beside two APIs, four workers and two schedulers on a cluster of three nodes: what
/// they do and what a job costs; then the cluster loses a node under load.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut cluster = RedisCluster::start(&ground.scratch.path().join("scale-cluster"))?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        redis::Connection::open(&ground.services.redis)?.ask(&["FLUSHALL"])?;
        one.push(Round::run(&mut Fleet::open(ground, ONE, None)?)?);
        empty(&cluster)?;
        many.push(Round::run(&mut Fleet::open(ground, MANY, Some(&cluster))?)?);
    }
    for (name, size, rounds) in [("one", ONE, &one), ("many", MANY, &many)] {
        let rates: Vec<f64> = rounds.iter().map(|round| round.per_s).collect();
        let usages: Vec<Usage> = rounds.iter().map(|round| round.usage.clone()).collect();
        report.add(
            Figure::new(format!("scale.{name}_rate"), median(&rates), "jobs/s")
                .with("jobs", JOBS)
                .with("apis", size.apis)
                .with("workers", size.workers)
                .with("schedulers", size.schedulers)
                .with("rounds", shown(&rates))
                .with("others_percent", shown(&usages.iter().map(|usage| usage.others_percent).collect::<Vec<_>>())),
        );
        report.add(cpu::figure(format!("scale.{name}_cpu"), &usages, JOBS as f64));
    }

    let full: Vec<f64> = many.iter().map(|round| round.per_s).collect();
    empty(&cluster)?;
    let mut fleet = Fleet::open(ground, MANY, Some(&cluster))?;
    let loss = Loss::suffer(&mut fleet, &mut cluster, median(&full) * SHARE)?;
    report.add(
        Figure::new("scale.loss_jobs_lost", loss.accepted - loss.ended, "jobs")
            .target(Target::AtMost(0.0))
            .with("accepted", loss.accepted)
            .with("ended", loss.ended)
            .with("refused_requests", loss.refused)
            .with("slowest_request_ms", rounded(loss.slowest_ms)),
    );
    report.add(
        Figure::new("scale.loss_living_rate", loss.living_away_per_s, "jobs/s")
            .with("before_per_s", rounded(loss.living_before_per_s))
            .with("away_s", AWAY.as_secs()),
    );
    report.add(
        Figure::new("scale.loss_resumed", loss.resumed_s, "s")
            .target(Target::Below(5.0))
            .with("all_had_run_s", rounded(loss.caught_up_s))
            .with("waited_jobs", loss.waited),
    );
    Ok(())
}

fn empty(cluster: &RedisCluster) -> Result<()> {
    cluster.nodes.iter().try_for_each(|node| redis::Connection::open(node)?.ask(&["FLUSHALL"]).map(drop))
}

/// Jobs submitted as fast as they are accepted, while the workers do them.
struct Round {
    per_s: f64,
    usage: Usage,
}

impl Round {
    fn run(fleet: &mut Fleet<'_>) -> Result<Self> {
        let (began, meter) = (Instant::now(), fleet.meter());
        let submit = |turn: usize, fleet: &Fleet<'_>| -> Result<()> {
            let (mut connection, body) = (fleet.connect(turn)?, batch(BATCH));
            for _ in 0..JOBS / BATCH / CONNECTIONS {
                crate::interrupt::check()?;
                connection.post("/api/v1/jobs/batch", &body)?;
            }
            Ok(())
        };
        let shared = &*fleet;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|turn| scope.spawn(move || submit(turn, shared))).collect();
            threads.into_iter().try_for_each(joined)
        })?;
        fleet.wait_until_idle(LIMIT)?;
        let (per_s, usage) = (JOBS as f64 / began.elapsed().as_secs_f64(), meter.stop());
        let [ended] = fleet.psql.numbers("select count(*) from job_outcomes where state = 'succeeded';")?;
        ensure!(ended >= JOBS as f64, "{ended} of {JOBS} jobs succeeded");
        terminal::note(format!("{per_s:.0} jobs/s"));
        Ok(Self { per_s, usage })
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().ok().context("a submitting thread panicked")?
}

/// What became of the jobs when a node was lost, and came back empty.
struct Loss {
    accepted: f64,
    ended: f64,
    refused: usize,
    slowest_ms: f64,
    /// Of the queues of other nodes.
    living_before_per_s: f64,
    living_away_per_s: f64,
    /// From the node's return to the first end of a job of its queue, and until all that had waited were done.
    resumed_s: f64,
    caught_up_s: f64,
    waited: f64,
}

impl Loss {
    fn suffer(fleet: &mut Fleet<'_>, cluster: &mut RedisCluster, per_s: f64) -> Result<Self> {
        let over = AtomicBool::new(false);
        let (shared, over) = (&*fleet, &over);
        let (sides, began_ns, lost_ns, back_ns) = std::thread::scope(|scope| {
            let sides: Vec<_> =
                (0..CONNECTIONS).map(|turn| scope.spawn(move || Side::submit(shared, turn, per_s, over))).collect();
            let mut course = || -> Result<(u64, u64, u64)> {
                pause(Duration::from_secs(1))?; // until it is steady
                let began_ns = now_ns();
                pause(BEFORE)?;
                let node = cluster.nodes.get_mut(LOST).context("no such node")?;
                node.kill9()?;
                let lost_ns = now_ns();
                pause(AWAY)?;
                node.lose_data()?;
                node.restart()?;
                let back_ns = now_ns();
                pause(AFTER)?;
                Ok((began_ns, lost_ns, back_ns))
            };
            let course = course();
            over.store(true, Ordering::Relaxed);
            let sides = sides.into_iter().map(joined).collect::<Result<Vec<_>>>()?;
            let (began_ns, lost_ns, back_ns) = course?;
            anyhow::Ok((sides, began_ns, lost_ns, back_ns))
        })?;
        fleet.wait_until_idle(LIMIT)?;

        let s = |ns: u64| ns as f64 / 1e9;
        let psql = &mut fleet.psql;
        let [ended] = psql.numbers("select count(*) from job_outcomes where state = 'succeeded';")?;
        let [before, away] = psql.numbers(&format!(
            "with e as (select extract(epoch from finished_at) as at from job_outcomes join jobs using (tenant_id, id)
                         where queue in ('default', 'files'))
             select count(*) filter (where at >= {} and at < {lost}), count(*) filter (where at >= {lost} and at < {back}) from e;",
            s(began_ns),
            lost = s(lost_ns),
            back = s(back_ns)
        ))?;
        let [resumed_s, caught_up_s, waited] = psql.numbers(&format!(
            "with e as (select extract(epoch from finished_at) - {back} as after_s, extract(epoch from run_at) - {back} as made_s
                          from job_outcomes join jobs using (tenant_id, id) where queue = 'webhooks')
             select min(after_s), max(after_s) filter (where made_s < 0), count(*) filter (where made_s < 0)
               from e where after_s > 0;",
            back = s(back_ns)
        ))?;
        Ok(Self {
            accepted: sides.iter().map(|side| side.accepted as f64).sum(),
            ended,
            refused: sides.iter().map(|side| side.refused).sum(),
            slowest_ms: sides.iter().map(|side| side.slowest.as_secs_f64() * 1000.0).fold(0.0, f64::max),
            living_before_per_s: before / (s(lost_ns) - s(began_ns)),
            living_away_per_s: away / (s(back_ns) - s(lost_ns)),
            resumed_s,
            caught_up_s,
            waited,
        })
    }
}

/// One client's part of the load.
#[derive(Default)]
struct Side {
    accepted: usize,
    refused: usize,
    slowest: Duration,
}

impl Side {
    /// Submits at a steady pace, its share of `per_s`, until it is over.
    fn submit(fleet: &Fleet<'_>, turn: usize, per_s: f64, over: &AtomicBool) -> Result<Self> {
        let (mut connection, body) = (fleet.connect(turn)?, batch(BATCH));
        let interval = Duration::from_secs_f64((BATCH * CONNECTIONS) as f64 / per_s);
        let (mut side, mut next) =
            (Self::default(), Instant::now() + interval.mul_f64(turn as f64 / CONNECTIONS as f64));
        while !over.load(Ordering::Relaxed) {
            pause(next.saturating_duration_since(Instant::now()))?;
            next += interval;
            let began = Instant::now();
            match connection.post("/api/v1/jobs/batch", &body) {
                Ok(_) => side.accepted += BATCH,
                Err(error) => {
                    terminal::note(format!("refused: {error:#}"));
                    side.refused += 1;
                    connection = fleet.connect(turn)?;
                }
            }
            side.slowest = side.slowest.max(began.elapsed());
        }
        Ok(side)
    }
}
