//! The plans of the hot statements: what they touch must not grow with what has finished or waits.

use millwork_shared::jobs::queries;
use millwork_shared::schedules::queries as schedules;
use sqlx::AssertSqlSafe;

use super::Ledger;

/// The plan of `sql` under the claim's own settings, on a ledger with some ballast.
async fn plan(ledger: &Ledger, sql: &str) -> String {
    let mut tx = ledger.system.system_by_index().await.unwrap();
    let lines: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("explain (costs off) {sql}"))).fetch_all(&mut *tx).await.unwrap();
    lines.join("\n")
}

async fn ballast() -> Ledger {
    let ledger = Ledger::create().await;
    for _ in 0..5 {
        ledger.store(&(0..400).map(|_| ledger.job()).collect::<Vec<_>>()).await;
    }
    let owner = ledger.test.owner().await;
    sqlx::raw_sql("analyze").execute(&owner).await.unwrap();
    ledger
}

/// A backlog of which the statistics know nothing: the last ANALYZE saw as many pages, and no live row in them.
async fn unforeseen_backlog() -> Ledger {
    let ledger = ballast().await;
    let owner = ledger.test.owner().await;
    let jobs = (0..400).map(|_| ledger.job()).collect::<Vec<_>>();
    sqlx::raw_sql("alter table job_live set (autovacuum_enabled = off)").execute(&owner).await.unwrap();
    sqlx::raw_sql("delete from job_live").execute(&owner).await.unwrap();
    sqlx::raw_sql("analyze job_live").execute(&owner).await.unwrap();
    ledger.store(&jobs).await;
    ledger
}

/// An empty queue's dead rows, which somebody's old transaction keeps: the last VACUUM saw many pages and no live row.
async fn kept_dead_rows() -> Ledger {
    let ledger = ballast().await;
    let owner = ledger.test.owner().await;
    let mut old = owner.acquire().await.unwrap();
    let begin = "begin isolation level repeatable read; select txid_current()";
    sqlx::raw_sql(begin).execute(&mut *old).await.unwrap();
    sqlx::raw_sql("alter table job_live set (autovacuum_enabled = off)").execute(&owner).await.unwrap();
    sqlx::raw_sql("delete from job_live").execute(&owner).await.unwrap();
    sqlx::raw_sql("vacuum job_live").execute(&owner).await.unwrap();
    sqlx::raw_sql("rollback").execute(&mut *old).await.unwrap();
    ledger
}

fn claim(ledger: &Ledger) -> String {
    let id = ledger.job().id;
    queries::CLAIM
        .replace("$1", &format!("array_fill('{}'::uuid, array[300])", ledger.tenant))
        .replace("$2", &format!("array_fill('{id}'::uuid, array[300])"))
        .replace("$3", &format!("'{id}'"))
        .replace("$4", &format!("'{id}'"))
        .replace("$5", &format!("'{id}'"))
}

fn finish(ledger: &Ledger) -> String {
    let uuids = format!("array_fill('{}'::uuid, array[300])", ledger.tenant);
    let texts = "array_fill('succeeded'::text, array[300])";
    let arrays = [&uuids, &uuids, "array_fill(1::int2, array[300])", &uuids, texts, texts, texts, texts];
    (1..)
        .zip(arrays)
        .fold(queries::END.to_owned(), |sql, (n, array)| sql.replace(&format!("${n}::"), &format!("{array}::")))
}

#[tokio::test]
async fn a_claim_looks_its_rows_up_by_key_in_the_partitions_it_needs() {
    for ledger in [ballast().await, unforeseen_backlog().await, kept_dead_rows().await] {
        let plan = plan(&ledger, &claim(&ledger)).await;
        assert!(plan.contains("Index Scan using job_live_pkey"), "{plan}");
        assert!(plan.contains("_pkey on jobs_p"), "{plan}");
        assert_eq!(plan.matches(" on jobs_p").count(), 1, "one partition: {plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Bitmap") && !plan.contains("Join Filter"), "{plan}");
    }
}

#[tokio::test]
async fn an_end_looks_its_rows_up_by_key() {
    for ledger in [ballast().await, unforeseen_backlog().await, kept_dead_rows().await] {
        let plan = plan(&ledger, &finish(&ledger)).await;
        assert!(plan.contains("Index Scan using job_live_pkey"), "{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Bitmap") && !plan.contains("Join Filter"), "{plan}");
    }
}

/// The plan of a statement that reads on in an index, under the settings of the loops that do.
async fn plan_in_order(ledger: &Ledger, sql: &str) -> String {
    let mut tx = ledger.system.system_in_order().await.unwrap();
    let sql = format!("explain (costs off) {sql}");
    let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn a_lane_is_read_in_order_from_its_index() {
    for ledger in [ballast().await, unforeseen_backlog().await, kept_dead_rows().await] {
        let sql = queries::LIST_LANE
            .replace("$1", "'default'")
            .replace("$2", &format!("'{}'", ledger.tenant))
            .replace("$3", "4::smallint")
            .replace("$4", "'epoch'")
            .replace("$5", "'00000000-0000-0000-0000-000000000000'")
            .replace("$6", "100");
        let plan = plan_in_order(&ledger, &sql).await;
        assert!(plan.contains("Index Scan using job_live_lane"), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn jobs_for_later_are_read_in_order_from_their_index() {
    for ledger in [ballast().await, unforeseen_backlog().await, kept_dead_rows().await] {
        let sql = queries::LIST_DUE
            .replace("$1", "'epoch'")
            .replace("$2", "'00000000-0000-0000-0000-000000000000'")
            .replace("$3", "5000");
        let plan = plan_in_order(&ledger, &sql).await;
        assert!(plan.contains("Index Scan using job_live_due"), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn due_schedules_are_read_in_order_from_their_index() {
    let ledger = ballast().await;
    let sql = schedules::LIST_DUE
        .replace("$1", "'epoch'")
        .replace("$2", "'00000000-0000-0000-0000-000000000000'")
        .replace("$3", "1000");
    let plan = plan(&ledger, &sql).await;
    assert!(plan.contains("using schedules_due"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
}
