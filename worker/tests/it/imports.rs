//! Imports that are stopped, and overtaken.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use millwork_shared::files::VersionState;
use millwork_shared::files::queries::{self as files, NewFile, NewVersion};
use millwork_shared::imports::jobs::RunImport;
use millwork_shared::imports::queries::{self as imports, Counts, NewImport};
use millwork_shared::imports::{Format, Mode, Resource};
use millwork_shared::infra::ids::{ActorId, FileId, ImportId, JobId, RunId, UserId};
use millwork_shared::infra::storage::Key;
use millwork_shared::objects::{Purpose, queries as objects};
use millwork_worker::imports::run::run;

use crate::support::{World, killed_after};

const ROWS: usize = 450; // three chunks

struct Stage {
    world: World,
    import: ImportId,
}

impl Stage {
    /// A file of so many event types, every fiftieth of which has no name, and an import of it that waits.
    async fn create(mode: Mode) -> Self {
        let world = World::create().await;
        let (tenant, user) = (world.tenant, UserId::generate());
        let sql = format!(
            "insert into users (id, email, name, password_hash) values ('{user}', 'o@example.com', 'O', 'x');
             insert into memberships (tenant_id, user_id, role) values ('{tenant}', '{user}', 'owner')"
        );
        world.db.sql(sql).await;
        let mut text = String::from("name,description\n");
        for n in 0..ROWS {
            let name = if n % 50 == 49 { String::new() } else { format!("order.n{n}") };
            writeln!(text, "{name},d").unwrap();
        }
        let mut tx = world.db.db.tenant(tenant).await.unwrap();
        let (object, _) = objects::begin(&mut tx, Purpose::File, 0, i64::MAX).await.unwrap();
        tx.commit().await.unwrap();
        let mut writer = world.ctx.storage.write(&Key::of(tenant, object)).await.unwrap();
        writer.push(Bytes::from(text)).await.unwrap();
        let stored = writer.finish().await.unwrap();
        let (file, import, by) = (FileId::generate(), ImportId::generate(), ActorId(user.0));
        let mut tx = world.db.db.tenant(tenant).await.unwrap();
        objects::store(&mut tx, object, stored.size_bytes as i64, &stored.sha256).await.unwrap();
        let new = NewFile { id: file, name: "t.csv", keep_versions: 1, created_by: by, expires_at: None };
        files::insert(&mut tx, &new).await.unwrap();
        let version = NewVersion {
            object,
            state: VersionState::Ready,
            media_type: "text/csv",
            claimed_bytes: None,
            claimed_sha256: None,
            created_by: by,
        };
        files::add_version(&mut tx, file, &version).await.unwrap();
        let new = NewImport {
            id: import,
            file,
            number: 1,
            resource: Resource::EventTypes,
            format: Format::Csv,
            mode,
            requested_by: by,
            user,
            permissions: &["event_types:write"],
            job: JobId::generate(),
        };
        imports::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        Self { world, import }
    }

    fn job(&self) -> RunImport {
        RunImport { import: self.import }
    }

    fn run(&self) -> Arc<millwork_worker::runtime::Run> {
        Arc::new(self.world.run(JobId::generate()))
    }

    async fn row(&self) -> imports::ImportRow {
        let mut tx = self.world.db.db.tenant(self.world.tenant).await.unwrap();
        imports::get(&mut tx, self.import).await.unwrap()
    }

    async fn count(&self, sql: &str) -> String {
        self.world.db.sql(format!("select count(*)::text from {sql}")).await[0].clone().unwrap()
    }
}

/// Drops the handler between any two steps of its, as a kill does, and lets another worker run the job.
#[tokio::test]
async fn killed_at_any_moment_no_row_is_lost_and_none_is_made_or_counted_twice() {
    let mut polls = 1;
    loop {
        let stage = Stage::create(Mode::Commit).await;
        let ended = killed_after(polls, run(stage.job(), stage.run(), stage.world.ctx.clone())).await;
        run(stage.job(), stage.run(), stage.world.ctx.clone()).await.unwrap();
        let row = stage.row().await;
        assert_eq!((row.state(), row.position), ("finished", ROWS as i64), "{polls}");
        assert_eq!(row.counts, Counts { created: 441, unchanged: 0, failed: 9 }, "{polls}");
        assert!(row.has_report, "{polls}");
        assert_eq!(stage.count("event_types").await, "441", "{polls}");
        assert_eq!(stage.count("import_errors").await, "0", "{polls}: they are in the report");
        if ended {
            return;
        }
        polls += 1 + polls / 3;
    }
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_and_counts_the_same() {
    let stage = Stage::create(Mode::DryRun).await;
    run(stage.job(), stage.run(), stage.world.ctx.clone()).await.unwrap();
    assert_eq!(stage.row().await.counts, Counts { created: 441, unchanged: 0, failed: 9 });
    assert_eq!(stage.count("event_types").await, "0");
}

#[tokio::test]
async fn a_run_that_was_thought_dead_goes_no_further() {
    let stage = Stage::create(Mode::Commit).await;
    let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    let (old, new) = (RunId::generate(), RunId::generate());
    imports::take(&mut tx, stage.import, old).await.unwrap().unwrap();
    imports::take(&mut tx, stage.import, new).await.unwrap().unwrap();
    let counts = Counts { created: 7, ..Counts::default() };
    assert!(!imports::advance(&mut tx, stage.import, old, 7, counts).await.unwrap());
    assert!(!imports::finish(&mut tx, stage.import, old, None).await.unwrap());
    assert!(imports::advance(&mut tx, stage.import, new, 7, counts).await.unwrap());
}
