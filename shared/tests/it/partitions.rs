//! Retention by dropping partitions.

use std::time::Duration;

use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::queries::{self, Ending};
use millwork_shared::jobs::{Due, NewJob};
use millwork_shared::maintenance::queries as maintenance;
use millwork_shared::tenants::Plan;
use serde_json::value::to_raw_value;

use super::Ledger;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn finished_jobs_leave_with_their_partition_and_live_ones_stay() {
    let ledger = Ledger::create().await;
    let (finished, mut far) = (ledger.job(), ledger.job());
    far.due = Due::In(DAY * 60);
    ledger.store(&[finished.clone(), far.clone()]).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&finished)).await.remove(0);
    ledger.finish(&claimed, Ending::Succeeded).await;

    ledger.test.advance(DAY * 40).await;
    roll(&ledger).await;
    let mut tx = ledger.tenant().await;
    assert!(queries::find(&mut tx, finished.id).await.unwrap().is_none());
    assert_eq!(queries::get(&mut tx, far.id).await.unwrap().state().as_str(), "scheduled");
    drop(tx);

    // It runs at last, and its end is kept for the whole retention.
    ledger.test.advance(DAY * 21).await;
    let claimed = ledger.claim(ledger.worker().await, std::slice::from_ref(&far)).await.remove(0);
    ledger.finish(&claimed, Ending::Succeeded).await;
    roll(&ledger).await;
    assert_eq!(ledger.state(far.id).await, "succeeded");
    ledger.test.advance(DAY * 32).await;
    roll(&ledger).await;
    let mut tx = ledger.tenant().await;
    assert!(queries::find(&mut tx, far.id).await.unwrap().is_none());
}

#[tokio::test]
async fn rows_that_came_before_their_partition_move_into_it() {
    let ledger = Ledger::create().await;
    let owner = ledger.test.owner().await;
    // As if the scheduler had been away for long: the partition of today does not exist, the default one takes the row.
    let today: String = sqlx::query_scalar("select 'jobs_p' || to_char(now() at time zone 'utc', 'YYYYMMDD')")
        .fetch_one(&owner)
        .await
        .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop table {today}"))).execute(&owner).await.unwrap();
    let job = ledger.job();
    ledger.store(std::slice::from_ref(&job)).await;
    let mut tx = ledger.system.system().await.unwrap();
    assert_eq!(maintenance::ensure_partitions(&mut tx, 7).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let (default, moved): (i64, i64) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "select (select count(*) from jobs_default), (select count(*) from {today})"
    )))
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!((default, moved), (0, 1));
    assert_eq!(ledger.state(job.id).await, "queued");
}

async fn roll(ledger: &Ledger) {
    let mut tx = ledger.system.system().await.unwrap();
    maintenance::ensure_partitions(&mut tx, 7).await.unwrap();
    for table in maintenance::ROLLED {
        maintenance::drop_partitions(&mut tx, table, DAY * 30).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn tenants_of_a_plan_with_less_time_lose_their_rows_before_the_partition_goes() {
    let ledger = Ledger::create().await;
    let pro = ledger.test.tenant("pro").await;
    move_to(&ledger, pro, "pro").await;
    let mut far = ledger.job();
    far.due = Due::In(DAY * 60);
    ledger.store(std::slice::from_ref(&far)).await;
    let mut kept = ledger.job();
    kept.tenant = pro;
    let mut tx = ledger.test.db.tenant(pro).await.unwrap();
    queries::enqueue(&mut tx, std::slice::from_ref(&kept)).await.unwrap();
    tx.commit().await.unwrap();
    let mut finished = Vec::new();
    for _ in 0..1_500 {
        let mut job = ledger.job();
        job.payload = to_raw_value(&"x".repeat(1_800)).unwrap(); // four a page: more pages than one statement reads
        finished.push(job);
    }
    ledger.store(&finished).await;
    let running: Vec<NewJob> = finished.iter().chain([&kept]).cloned().collect();
    let worker = ledger.worker().await;
    for jobs in running.chunks(500) {
        for claimed in ledger.claim(worker, jobs).await {
            ledger.finish(&claimed, Ending::Succeeded).await;
        }
    }

    ledger.test.advance(DAY * 6).await;
    assert_eq!(expire(&ledger).await.0, 0, "no day is wholly past");
    ledger.test.advance(DAY * 3).await;
    let (deleted, statements) = expire(&ledger).await;
    assert_eq!(deleted, 3_000, "jobs and their ends");
    assert!(statements > maintenance::ROLLED.len(), "{statements}: range by range of pages");
    assert_eq!(expire(&ledger).await, (0, 0), "no page is read twice");
    let mut tx = ledger.tenant().await;
    assert!(queries::find(&mut tx, finished[0].id).await.unwrap().is_none());
    assert_eq!(queries::get(&mut tx, far.id).await.unwrap().state().as_str(), "scheduled");
    drop(tx);
    let mut tx = ledger.test.db.tenant(pro).await.unwrap();
    assert_eq!(queries::get(&mut tx, kept.id).await.unwrap().state().as_str(), "succeeded", "another plan's stay");
    drop(tx);

    // What one plan kept is looked at again by the next one.
    move_to(&ledger, pro, "starter").await;
    assert_eq!(expire(&ledger).await.0, 2);
    let mut tx = ledger.test.db.tenant(pro).await.unwrap();
    assert!(queries::find(&mut tx, kept.id).await.unwrap().is_none());
}

async fn move_to(ledger: &Ledger, tenant: TenantId, plan: &str) {
    ledger.test.sql(format!("update tenants set plan = '{plan}' where id = '{tenant}'")).await;
}

/// Deletes what `starter` keeps for no longer than a week. Answers how many rows went, and in how many statements.
async fn expire(ledger: &Ledger) -> (u64, usize) {
    let (mut deleted, mut calls) = (0, 0);
    for table in maintenance::ROLLED {
        loop {
            let mut tx = ledger.system.system().await.unwrap();
            let rows = maintenance::expire_rows(&mut tx, table, Plan::Starter, DAY * 7).await.unwrap();
            tx.commit().await.unwrap();
            let Some(rows) = rows else { break };
            deleted += rows;
            calls += 1;
        }
    }
    (deleted, calls)
}
