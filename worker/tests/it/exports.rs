//! Exports that are stopped, overtaken and cancelled.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::TryStreamExt;
use millwork_shared::exports::jobs::RunExport;
use millwork_shared::exports::queries::{self as exports, ExportRow, NewExport};
use millwork_shared::exports::source::Filters;
use millwork_shared::exports::{Format, Resource};
use millwork_shared::infra::ids::{ActorId, ExportId, JobId, TenantId};
use millwork_shared::infra::storage::Key;
use millwork_shared::jobs::{NewJob, Outcome, queries as jobs};
use millwork_shared::maintenance::PLATFORM;
use millwork_shared::objects::jobs::SweepObjects;
use millwork_worker::exports::run::run;
use millwork_worker::objects::sweep::sweep;
use millwork_worker::runtime::Run;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::support::{World, done, killed_after};

const JOBS: usize = 30;

struct Stage {
    world: World,
    export: ExportId,
    job: JobId,
}

impl Stage {
    /// Thirty jobs, and an export of them that waits.
    async fn create() -> Self {
        let world = World::create().await;
        let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
        let waiting: Vec<NewJob> = (0..JOBS).map(|n| echo(world.tenant, n)).collect();
        jobs::enqueue(&mut tx, &waiting).await.unwrap();
        let (export, job) = (ExportId::generate(), JobId::generate());
        let new = NewExport {
            id: export,
            resource: Resource::Jobs,
            format: Format::Ndjson,
            compress: None,
            filters: &Filters { kind: Some("echo".into()), ..Filters::default() },
            requested_by: ActorId::generate(),
            notify: None,
            job,
        };
        exports::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        Self { world, export, job }
    }

    fn begin(&self) -> Arc<Run> {
        Arc::new(self.world.run(self.job))
    }

    async fn run(&self) -> Outcome {
        run(RunExport { export: self.export }, self.begin(), self.world.ctx.clone()).await.unwrap()
    }

    async fn row(&self) -> ExportRow {
        let mut tx = self.world.db.db.tenant(self.world.tenant).await.unwrap();
        exports::get(&mut tx, self.export).await.unwrap()
    }

    /// The lines of what is ready.
    async fn lines(&self) -> usize {
        let key = Key::of(self.world.tenant, self.row().await.object_id.unwrap());
        let bytes = self.world.ctx.storage.read(&key, 0..u64::MAX).await.unwrap().unwrap();
        let bytes: Vec<_> = bytes.try_collect().await.unwrap();
        bytes.concat().iter().filter(|byte| **byte == b'\n').count()
    }

    async fn objects(&self) -> usize {
        self.world.ctx.storage.list(None, 100).await.unwrap().len()
    }

    /// What the platform does every hour, once everything is old.
    async fn sweep(&self) {
        self.world.db.advance(Duration::from_secs(2 * 3_600)).await;
        let run = Arc::new(Run::for_test(PLATFORM, JobId::generate()));
        done(sweep(SweepObjects { dry_run: false, grace_s: None }, run, self.world.ctx.clone()).await.unwrap());
    }
}

/// A job that nobody runs.
fn echo(tenant: TenantId, n: usize) -> NewJob {
    let job = NewJob::of(tenant, &RunExport { export: ExportId::generate() }).unwrap();
    NewJob { kind: "echo".into(), payload: to_raw_value(&json!({ "n": n })).unwrap(), ..job }
}

/// Drops the handler between any two steps of its, as a kill does, and lets another worker run the job.
#[tokio::test]
async fn killed_at_any_moment_it_begins_anew_and_leaves_one_object() {
    let mut polls = 1;
    loop {
        let stage = Stage::create().await;
        let ended =
            killed_after(polls, run(RunExport { export: stage.export }, stage.begin(), stage.world.ctx.clone())).await;
        let row = stage.row().await;
        assert!(row.ready_at.is_none() || stage.lines().await == JOBS, "{polls}: what is ready is whole");
        stage.run().await;
        assert_eq!((stage.row().await.state(), stage.lines().await), ("ready", JOBS), "{polls}");
        stage.sweep().await;
        assert_eq!((stage.objects().await, stage.lines().await), (1, JOBS), "{polls}");
        if ended {
            return;
        }
        polls += 1 + polls / 3;
    }
}

#[tokio::test]
async fn a_run_that_was_overtaken_does_not_make_it_ready() {
    let stage = Stage::create().await;
    let mut slow = Box::pin(run(RunExport { export: stage.export }, stage.begin(), stage.world.ctx.clone()));
    let mut taken = None;
    while taken.is_none() {
        let polled = std::future::poll_fn(|cx| Poll::Ready(slow.as_mut().poll(cx).is_ready())).await;
        assert!(!polled, "it was too fast to be overtaken");
        tokio::task::yield_now().await;
        taken = stage.row().await.object_id;
    }
    done(stage.run().await);
    let object = stage.row().await.object_id;
    assert_ne!(object, taken);
    match slow.await {
        Ok(Outcome::Done(None)) | Err(_) => {} // it finds that its object was given up
        other => panic!("{other:?}"),
    }
    assert_eq!((stage.row().await.object_id, stage.lines().await), (object, JOBS));
    stage.sweep().await;
    assert_eq!(stage.objects().await, 1);
}

#[tokio::test]
async fn one_that_is_cancelled_leaves_nothing() {
    let stage = Stage::create().await;
    let begun = stage.begin();
    begun.cancelled.cancel();
    let outcome = run(RunExport { export: stage.export }, begun, stage.world.ctx.clone()).await.unwrap();
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    assert!(stage.row().await.ready_at.is_none());
    stage.sweep().await;
    assert_eq!(stage.objects().await, 0);
}
