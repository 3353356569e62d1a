use std::time::Duration;

use millwork_shared::infra::ids::TenantId;
use millwork_shared::testing::TestDb;
use sqlx::PgConnection;

/// Shorter than the wait of whoever needs what the transaction holds.
const LET_GO: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_server_ends_a_transaction_whose_client_has_vanished_whichever_door_it_came_by() {
    let test = TestDb::create().await;
    let system = test.db.system();
    let tenant = TenantId::generate();
    assert_eq!(limit(&mut test.db.tenant(tenant).await.unwrap()).await, LET_GO);
    assert_eq!(limit(&mut test.db.identity().await.unwrap()).await, LET_GO);
    assert_eq!(limit(&mut system.system().await.unwrap()).await, LET_GO);
    assert_eq!(limit(&mut system.system_relaxed().await.unwrap()).await, LET_GO);
    assert_eq!(limit(&mut system.system_by_index().await.unwrap()).await, LET_GO);
}

async fn limit(tx: &mut PgConnection) -> Duration {
    let setting = "select setting::int from pg_settings where name = 'idle_in_transaction_session_timeout'";
    let ms: i32 = sqlx::query_scalar(setting).fetch_one(tx).await.unwrap();
    Duration::from_millis(u64::try_from(ms).unwrap())
}
