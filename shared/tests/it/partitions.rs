//! Retention by dropping partitions.

use std::time::Duration;

use millwork_shared::jobs::Due;
use millwork_shared::jobs::queries::{self, Ending};
use millwork_shared::maintenance::queries as maintenance;

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
