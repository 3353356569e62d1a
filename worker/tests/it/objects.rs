//! Sweeping storage: what is cleared away, what stays, and that no moment is a wrong one to be killed at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millwork_shared::files::queries::{self as files, NewFile, NewVersion};
use millwork_shared::files::{GRACE, VersionState};
use millwork_shared::infra::ids::{ActorId, FileId, JobId, ObjectId, TenantId};
use millwork_shared::infra::storage::{Key, Storage, Writer};
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::PLATFORM;
use millwork_shared::objects::jobs::SweepObjects;
use millwork_shared::objects::{Purpose, queries};
use millwork_shared::testing::TestDb;
use millwork_shared::testing::object_store::ObjectStore;
use millwork_shared::{Error, Result};
use millwork_worker::context::Context;
use millwork_worker::objects::sweep::{sweep, sweep_by};
use millwork_worker::runtime::Run;
use serde_json::{Value, json};

use crate::support::{World, done, killed_after};

const QUOTA: i64 = 1 << 40;
/// Longer than the sweep leaves alone what nobody is at.
const LONG: Duration = Duration::from_secs(2 * 3_600);

struct Stage {
    db: TestDb,
    ctx: Arc<Context>,
    storage: Storage,
    tenant: TenantId,
    other: TenantId,
    store: Option<ObjectStore>,
}

impl Stage {
    async fn folder() -> Self {
        Self::over(millwork_shared::testing::storage(), None).await
    }

    async fn bucket() -> Self {
        let store = ObjectStore::start().await;
        Self::over(store.storage(), Some(store)).await
    }

    async fn over(storage: Storage, store: Option<ObjectStore>) -> Self {
        let World { db, ctx, tenant, .. } = World::create().await;
        let other = db.tenant("Other").await;
        let ctx = Arc::into_inner(ctx).map(|ctx| Context { storage: storage.clone(), ..ctx }).unwrap();
        Self { db, ctx: Arc::new(ctx), storage, tenant, other, store }
    }

    async fn begin(&self, tenant: TenantId) -> Key {
        let mut tx = self.db.db.tenant(tenant).await.unwrap();
        let (object, _) = queries::begin(&mut tx, Purpose::File, 100, QUOTA).await.unwrap();
        tx.commit().await.unwrap();
        Key::of(tenant, object)
    }

    async fn put(&self, key: &Key, content: &'static str) {
        let mut writer = self.storage.write(key).await.unwrap();
        writer.push(Bytes::from_static(content.as_bytes())).await.unwrap();
        writer.finish().await.unwrap();
    }

    async fn store(&self, key: &Key, size_bytes: i64) -> Result<()> {
        let mut tx = self.db.db.tenant(key.tenant()).await.unwrap();
        queries::store(&mut tx, key.object(), size_bytes, &[0; 32]).await?;
        tx.commit().await
    }

    async fn stored(&self, tenant: TenantId) -> Key {
        let key = self.begin(tenant).await;
        self.put(&key, "content").await;
        self.store(&key, 7).await.unwrap();
        key
    }

    async fn delete(&self, key: &Key, grace: Duration) {
        let mut tx = self.db.db.tenant(key.tenant()).await.unwrap();
        queries::delete(&mut tx, key.object(), grace).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn touch(&self, key: &Key) {
        let mut tx = self.db.db.tenant(key.tenant()).await.unwrap();
        queries::touch(&mut tx, key.object()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A file of the content that `key` has.
    async fn file(&self, key: &Key, state: VersionState, expires_at: Option<DateTime<Utc>>) -> FileId {
        let id = FileId::generate();
        let created_by = ActorId::generate();
        let mut tx = self.db.db.tenant(key.tenant()).await.unwrap();
        let file = NewFile { id, name: "a.txt", keep_versions: 3, created_by, expires_at };
        files::insert(&mut tx, &file).await.unwrap();
        let version = NewVersion {
            object: key.object(),
            state,
            media_type: "text/plain",
            claimed_bytes: None,
            claimed_sha256: None,
            created_by,
        };
        files::add_version(&mut tx, id, &version).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    fn run(&self, tenant: TenantId) -> Run {
        Run::for_test(tenant, JobId::generate())
    }

    async fn sweep_as(&self, tenant: TenantId, job: SweepObjects) -> Value {
        done(sweep_by(3, job, Arc::new(self.run(tenant)), self.ctx.clone()).await.unwrap())
    }

    async fn sweep(&self) -> Value {
        self.sweep_as(PLATFORM, SweepObjects::default()).await
    }

    async fn there(&self, key: &Key) -> bool {
        self.storage.head(key).await.unwrap().is_some()
    }

    /// The state of a row, if there is one, and whether its object is missed.
    async fn row(&self, key: &Key) -> Option<String> {
        let sql = format!(
            "select state || case when missing_at is null then '' else ', missing' end from objects
              where tenant_id = '{}' and id = '{}'",
            key.tenant(),
            key.object()
        );
        self.db.sql(sql).await.pop().flatten()
    }

    async fn count(&self, from: &str) -> i64 {
        self.db.sql(format!("select count(*)::text from {from}")).await[0].as_ref().unwrap().parse().unwrap()
    }

    /// Whether quotas are what the rows say.
    async fn quotas_are_exact(&self) {
        let wrong = "(select tenant_id, coalesce(sum(quota_bytes(o)), 0) as bytes from objects o group by 1) o
                     full join storage_usage u using (tenant_id) where coalesce(o.bytes, 0) <> coalesce(u.bytes, 0)";
        assert_eq!(self.count(wrong).await, 0);
    }

    /// What the audit log says of sweeps, by tenant.
    async fn told(&self) -> BTreeMap<String, Vec<Value>> {
        let sql = "select jsonb_build_object('tenant', tenant_id, 'after', after)::text from audit_logs
                    where action = 'storage.swept' order by id";
        let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in self.db.sql(sql).await {
            let entry: Value = serde_json::from_str(&entry.unwrap()).unwrap();
            told.entry(entry["tenant"].as_str().unwrap().to_owned()).or_default().push(entry["after"].clone());
        }
        told
    }
}

fn nothing() -> Value {
    json!({ "expired": 0, "stale": 0, "deleted": 0, "unfinished": 0, "orphans": 0, "missing": 0, "found": 0, "differing": 0 })
}

/// One of everything that a sweep may find, and of everything that it must leave alone.
struct Mess {
    kept: Vec<Key>,
    orphan: Key,
    stale: Key,
    due: Key,
    missing: Key,
    differing: Key,
    in_flight: Key,
    writer: Writer,
    unfinished: Key,
    restorable: Key,
    direct: Key,
}

impl Mess {
    /// Made long ago but for what is in flight.
    async fn make(stage: &Stage) -> Self {
        let tenant = stage.tenant;
        let mut kept = Vec::new();
        for _ in 0..7 {
            kept.push(stage.stored(tenant).await);
        }
        kept.push(stage.stored(stage.other).await);
        let orphan = Key::of(tenant, ObjectId::generate());
        stage.put(&orphan, "orphan").await;
        let stale = stage.begin(tenant).await;
        stage.put(&stale, "stale").await;
        let due = stage.stored(tenant).await;
        stage.delete(&due, Duration::from_secs(10)).await;
        let restorable = stage.stored(tenant).await;
        stage.delete(&restorable, GRACE).await;
        let missing = stage.stored(tenant).await;
        stage.storage.delete(&missing).await.unwrap();
        let differing = stage.begin(tenant).await;
        stage.put(&differing, "another size").await;
        stage.store(&differing, 7).await.unwrap();
        let direct = stage.begin(tenant).await;
        stage.file(&direct, VersionState::Verifying, None).await;
        let in_flight = stage.begin(tenant).await;
        let mut writer = stage.storage.write(&in_flight).await.unwrap();
        writer.push(vec![1; 9 << 20].into()).await.unwrap();
        // Its writer has gone, and so has its row.
        let unfinished = Key::of(tenant, ObjectId::generate());
        let mut lost = stage.storage.write(&unfinished).await.unwrap();
        lost.push(vec![1; 9 << 20].into()).await.unwrap();
        std::mem::forget(lost);
        stage.db.advance(LONG).await;
        stage.touch(&in_flight).await;
        Self { kept, orphan, stale, due, missing, differing, in_flight, writer, unfinished, restorable, direct }
    }

    fn expected() -> Value {
        json!({
            "expired": 0, "stale": 1, "deleted": 2, "unfinished": 1, "orphans": 1, "missing": 1, "found": 0,
            "differing": 1,
        })
    }

    async fn ends_cleared(self, stage: &Stage) {
        for key in &self.kept {
            assert!(stage.there(key).await, "a stored object is gone");
            assert_eq!(stage.row(key).await.as_deref(), Some("stored"));
        }
        for gone in [&self.orphan, &self.stale, &self.due] {
            assert!(!stage.there(gone).await);
            assert_eq!(stage.row(gone).await, None);
        }
        assert_eq!(stage.row(&self.missing).await.as_deref(), Some("stored, missing"));
        assert_eq!(stage.row(&self.differing).await.as_deref(), Some("stored"));
        assert!(stage.there(&self.differing).await);
        assert_eq!(stage.row(&self.restorable).await.as_deref(), Some("deleted"));
        assert!(stage.there(&self.restorable).await);
        assert_eq!(stage.row(&self.direct).await.as_deref(), Some("pending"));
        let unfinished = stage.storage.unfinished(None, 10).await.unwrap();
        assert_eq!(unfinished.iter().map(|u| u.key).collect::<Vec<_>>(), [self.in_flight]);
        assert_ne!(self.unfinished, self.in_flight);
        // What was in flight is not held up.
        let written = self.writer.finish().await.unwrap();
        stage.store(&self.in_flight, i64::try_from(written.size_bytes).unwrap()).await.unwrap();
        stage.quotas_are_exact().await;
    }
}

async fn what_has_no_counterpart_is_cleared_away_and_all_else_stays(stage: Stage) {
    let mess = Mess::make(&stage).await;
    let dry = stage.sweep_as(PLATFORM, SweepObjects { dry_run: true, grace_s: None }).await;
    let mut expected = Mess::expected();
    expected["deleted"] = json!(1); // what is stale is not given up yet
    assert_eq!(dry["found"], expected, "{dry}");
    assert_eq!(dry["examples"]["orphans"], json!([mess.orphan.to_string()]));
    assert_eq!(stage.row(&mess.stale).await.as_deref(), Some("pending"), "a dry run changes nothing");
    assert!(stage.there(&mess.orphan).await && stage.there(&mess.due).await);
    assert_eq!(stage.row(&mess.missing).await.as_deref(), Some("stored"));
    assert_eq!(stage.told().await, BTreeMap::new());

    let swept = stage.sweep().await;
    assert_eq!(swept["found"], Mess::expected(), "{swept}");
    assert_eq!(swept["orphans_bytes"], 6);
    assert_eq!(swept["examples"]["missing"], json!([mess.missing.to_string()]));
    let told = json!({ "stale": 1, "deleted": 2, "unfinished": 1, "orphans": 1, "missing": 1 });
    assert_eq!(stage.told().await, [(stage.tenant.to_string(), vec![told])].into());
    let missing = mess.missing;

    let again = stage.sweep().await;
    let mut expected = nothing();
    (expected["missing"], expected["differing"]) = (json!(1), json!(1));
    assert_eq!(again["found"], expected, "twice is as once");
    assert_eq!(stage.told().await[&stage.tenant.to_string()].len(), 1, "and nothing is told of it");
    mess.ends_cleared(&stage).await;

    stage.put(&missing, "content").await;
    let found = stage.sweep().await;
    assert_eq!((&found["found"]["found"], &found["found"]["missing"]), (&json!(1), &json!(0)));
    assert_eq!(stage.row(&missing).await.as_deref(), Some("stored"));
}

#[tokio::test]
async fn what_has_no_counterpart_is_cleared_away_and_all_else_stays_in_a_folder() {
    what_has_no_counterpart_is_cleared_away_and_all_else_stays(Stage::folder().await).await;
}

#[tokio::test]
async fn what_has_no_counterpart_is_cleared_away_and_all_else_stays_in_a_bucket() {
    what_has_no_counterpart_is_cleared_away_and_all_else_stays(Stage::bucket().await).await;
}

#[tokio::test]
async fn what_is_young_is_left_alone() {
    let stage = Stage::folder().await;
    let orphan = Key::of(stage.tenant, ObjectId::generate());
    stage.put(&orphan, "young").await;
    let pending = stage.begin(stage.tenant).await;
    assert_eq!(stage.sweep().await["found"], nothing());
    assert!(stage.there(&orphan).await);
    let all = SweepObjects { dry_run: false, grace_s: Some(0) };
    let found = stage.sweep_as(PLATFORM, all).await;
    assert_eq!((&found["found"]["orphans"], &found["found"]["stale"]), (&json!(1), &json!(1)));
    assert_eq!(stage.row(&pending).await, None);
}

#[tokio::test]
async fn a_tenant_sweeps_what_is_its_own() {
    let stage = Stage::folder().await;
    let orphans = [stage.tenant, stage.other].map(|tenant| Key::of(tenant, ObjectId::generate()));
    for orphan in &orphans {
        stage.put(orphan, "x").await;
        for _ in 0..4 {
            stage.stored(orphan.tenant()).await;
        }
    }
    stage.delete(&stage.stored(stage.other).await, Duration::ZERO).await;
    stage.db.advance(LONG).await;
    for tenant in [stage.tenant, stage.other] {
        let found = stage.sweep_as(tenant, SweepObjects::default()).await;
        assert_eq!((&found["objects"], &found["rows"]), (&json!(5), &json!(4)), "{found}");
        assert_eq!(found["found"]["orphans"], 1);
        assert_eq!(stage.there(&orphans[1]).await, tenant == stage.tenant, "another's stays");
    }
}

/// Drops the sweep between any two steps of its, as a kill does, and lets the next one finish.
#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing_and_the_next_one_finishes() {
    let mut polls = 1;
    loop {
        let stage = Stage::folder().await;
        let mess = Mess::make(&stage).await;
        let job = stage.run(PLATFORM).job;
        let run = Arc::new(Run::for_test(PLATFORM, job));
        let ended = killed_after(polls, sweep_by(3, SweepObjects::default(), run, stage.ctx.clone())).await;
        // The same job, on another worker; then the next one.
        let run = Arc::new(Run::for_test(PLATFORM, job));
        done(sweep_by(3, SweepObjects::default(), run, stage.ctx.clone()).await.unwrap());
        stage.sweep().await;
        mess.ends_cleared(&stage).await;
        let told = stage.told().await;
        assert_eq!(told.len(), 1, "{polls}: {told:?}");
        if ended {
            return;
        }
        polls += 1 + polls / 2;
    }
}

#[tokio::test]
async fn beside_uploads_no_file_is_lost_and_nothing_is_left_over() {
    let stage = Stage::folder().await;
    let upload = async {
        let mut stored = Vec::new();
        for n in 0..60 {
            let key = stage.begin(stage.tenant).await;
            stage.put(&key, "content").await;
            match stage.store(&key, 7).await {
                Ok(()) => stored.push(key),
                Err(Error::Conflict { code: "upload_expired", .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            if let Some(key) = stored.pop_if(|_| n % 5 == 0) {
                stage.delete(&key, Duration::ZERO).await;
            }
        }
        stored
    };
    let ended = tokio_util::sync::CancellationToken::new();
    let sweeps = async {
        let mut given_up = 0;
        while !ended.is_cancelled() {
            // Without any grace: what is at work is given up all the time.
            let found = stage.sweep_as(PLATFORM, SweepObjects { dry_run: false, grace_s: Some(0) }).await;
            given_up += found["found"]["stale"].as_u64().unwrap();
            assert_eq!(found["found"]["missing"], 0, "{found}");
        }
        given_up
    };
    let uploads = async {
        let stored = upload.await;
        ended.cancel();
        stored
    };
    let (stored, given_up) = tokio::join!(uploads, sweeps);
    assert!(!stored.is_empty() && given_up > 0, "{} stored, {given_up} given up", stored.len());
    stage.sweep_as(PLATFORM, SweepObjects { dry_run: false, grace_s: Some(0) }).await;
    let mut there: Vec<Key> = stage.storage.list(None, 1_000).await.unwrap().iter().map(|entry| entry.key).collect();
    there.sort();
    assert_eq!(there, stored, "what was stored is there, and nothing else");
    assert_eq!(stage.count("objects").await, i64::try_from(stored.len()).unwrap());
    stage.quotas_are_exact().await;
}

#[tokio::test]
async fn files_whose_time_is_over_go_and_can_be_had_back_for_a_while() {
    let stage = Stage::folder().await;
    let (a, b) = (stage.stored(stage.tenant).await, stage.stored(stage.tenant).await);
    let soon = stage.db.clock.now() + chrono::Duration::minutes(1);
    let expiring = stage.file(&a, VersionState::Ready, Some(soon)).await;
    stage.file(&b, VersionState::Ready, None).await;
    assert_eq!(stage.sweep().await["found"], nothing());

    stage.db.advance(LONG).await;
    let mut expected = nothing();
    expected["expired"] = json!(1);
    assert_eq!(stage.sweep().await["found"], expected);
    assert!(stage.there(&a).await);
    let mut tx = stage.db.db.tenant(stage.tenant).await.unwrap();
    files::restore(&mut tx, expiring, QUOTA).await.unwrap();
    assert!(files::get(&mut tx, expiring).await.unwrap().expires_at.is_none());
    files::delete(&mut tx, expiring).await.unwrap();
    tx.commit().await.unwrap();

    stage.db.advance(GRACE + LONG).await;
    stage.sweep().await;
    assert!(!stage.there(&a).await && stage.there(&b).await);
    assert_eq!(stage.count("files").await, 1);
    assert_eq!(stage.count("file_versions").await, 1);
    stage.quotas_are_exact().await;
}

/// Once the sweep has taken a row it may be deleting the object.
#[tokio::test]
async fn a_file_cannot_be_had_back_once_its_object_may_be_gone() {
    let stage = Stage::folder().await;
    let key = stage.stored(stage.tenant).await;
    let file = stage.file(&key, VersionState::Ready, None).await;
    let mut tx = stage.db.db.tenant(stage.tenant).await.unwrap();
    files::delete(&mut tx, file).await.unwrap();
    tx.commit().await.unwrap();
    stage.db.advance(GRACE + LONG).await;
    let mut tx = stage.ctx.system.system().await.unwrap();
    assert_eq!(millwork_shared::objects::sweep::take_due(&mut tx, None, 10).await.unwrap(), [key]);
    tx.commit().await.unwrap();
    let mut tx = stage.db.db.tenant(stage.tenant).await.unwrap();
    let error = files::restore(&mut tx, file, QUOTA).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { code: "file_gone", .. }), "{error:?}");
}

#[tokio::test]
async fn a_cancelled_sweep_stops_and_tells_what_it_did() {
    let stage = Stage::folder().await;
    let mess = Mess::make(&stage).await;
    let run = stage.run(PLATFORM);
    run.cancelled.cancel();
    let outcome = sweep(SweepObjects::default(), Arc::new(run), stage.ctx.clone()).await.unwrap();
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    assert!(stage.there(&mess.orphan).await);
}

#[tokio::test]
async fn a_storage_that_is_down_changes_nothing_and_the_same_job_goes_on_later() {
    let mut stage = Stage::bucket().await;
    let mess = Mess::make(&stage).await;
    let job = JobId::generate();
    let run = || Arc::new(Run::for_test(PLATFORM, job));
    stage.store.as_mut().unwrap().stop();
    let error = sweep(SweepObjects::default(), run(), stage.ctx.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { dependency: "storage", .. }), "{error:?}");
    assert_eq!(stage.row(&mess.missing).await.as_deref(), Some("stored"), "what cannot be seen is not missing");
    stage.store.as_mut().unwrap().resume().await;
    done(sweep(SweepObjects::default(), run(), stage.ctx.clone()).await.unwrap());
    mess.ends_cleared(&stage).await;
}
