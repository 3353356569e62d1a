//! What maintenance deletes, as its jobs do it.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::infra::ids::JobId;
use millwork_shared::jobs::{NewJob, Outcome, kinds, queries};
use millwork_shared::maintenance::{CleanUp, DeleteFinished, Retention};
use millwork_worker::context::Context;
use millwork_worker::maintenance::clean_up;
use millwork_worker::maintenance::delete_finished::delete_finished;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::{World, done};

const DAY: Duration = Duration::from_secs(86_400);

/// A starter's world, in which another plan keeps rows for longer, with a job that was cancelled ten days ago.
async fn world() -> (World, JobId) {
    let World { db, ctx, tenant, keys } = World::create().await;
    let ctx =
        Arc::into_inner(ctx).map(|ctx| Context { retention: "starter=7,pro=30".parse().unwrap(), ..ctx }).unwrap();
    let job = NewJob::of(tenant, &kinds::Echo(RawValue::from_string("1".into()).unwrap())).unwrap();
    let mut tx = db.db.tenant(tenant).await.unwrap();
    queries::enqueue(&mut tx, std::slice::from_ref(&job)).await.unwrap();
    queries::cancel(&mut tx, job.id).await.unwrap();
    tx.commit().await.unwrap();
    db.advance(DAY * 10).await;
    (World { db, ctx: Arc::new(ctx), tenant, keys }, job.id)
}

async fn is_there(world: &World, job: JobId) -> bool {
    let mut tx = world.db.db.tenant(world.tenant).await.unwrap();
    queries::find(&mut tx, job).await.unwrap().is_some()
}

#[tokio::test]
async fn finished_jobs_go_when_their_plan_says_so_and_twice_is_no_harm() {
    let (world, job) = world().await;
    let run = || Arc::new(world.run(JobId::generate()));
    let result = done(delete_finished(DeleteFinished {}, run(), world.ctx.clone()).await.unwrap());
    assert_eq!((&result["jobs"], &result["job_outcomes"]), (&1.into(), &1.into()), "{result}");
    assert!(!is_there(&world, job).await);
    let result = done(delete_finished(DeleteFinished {}, run(), world.ctx.clone()).await.unwrap());
    assert_eq!(result, serde_json::json!({}));
}

#[tokio::test]
async fn one_retention_for_all_leaves_rows_to_their_partition() {
    let (world, job) = world().await;
    let World { db, ctx, tenant, keys } = world;
    let ctx = Arc::into_inner(ctx).map(|ctx| Context { retention: Retention::default(), ..ctx }).unwrap();
    let world = World { db, ctx: Arc::new(ctx), tenant, keys };
    done(delete_finished(DeleteFinished {}, Arc::new(world.run(JobId::generate())), world.ctx.clone()).await.unwrap());
    assert!(is_there(&world, job).await);
}

#[tokio::test]
async fn a_cancelled_run_stops_and_the_next_one_goes_on() {
    let (world, job) = world().await;
    let run = Arc::new(world.run(JobId::generate()));
    run.cancelled.cancel();
    let outcome = delete_finished(DeleteFinished {}, run, world.ctx.clone()).await.unwrap();
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    assert!(is_there(&world, job).await);
    done(delete_finished(DeleteFinished {}, Arc::new(world.run(JobId::generate())), world.ctx.clone()).await.unwrap());
    assert!(!is_there(&world, job).await);
}

#[tokio::test]
async fn a_clean_up_does_all_of_it_and_says_what() {
    let (world, job) = world().await;
    let result: Value =
        done(clean_up(CleanUp {}, Arc::new(world.run(JobId::generate())), world.ctx.clone()).await.unwrap());
    let steps: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    let all = [
        "audit.expire",
        "files.sweep",
        "maintenance.delete_expired",
        "maintenance.delete_finished",
        "maintenance.roll_partitions",
    ];
    assert_eq!(steps, all);
    assert_eq!(result["maintenance.delete_finished"]["jobs"], 1, "{result}");
    assert!(!is_there(&world, job).await);
}
