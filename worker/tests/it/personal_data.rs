//! Erasures that are stopped, cancelled, and run twice.

use std::sync::Arc;

use millwork_shared::exports::queries::{self as exports, NewExport};
use millwork_shared::exports::source::Filters;
use millwork_shared::exports::{Format, Resource};
use millwork_shared::infra::ids::{ActorId, ExportId, JobId, UserId};
use millwork_shared::jobs::Outcome;
use millwork_shared::objects::{Purpose, queries as objects};
use millwork_shared::personal_data::jobs::EraseUser;
use millwork_worker::personal_data::erase::erase;
use serde_json::Value;

use crate::support::{World, done, killed_after};

struct Stage {
    world: World,
    user: UserId,
}

impl Stage {
    /// A tenant with an owner, and a viewer who asked for a job and gets alerts.
    async fn create() -> Self {
        let world = World::create().await;
        let (tenant, owner, user) = (world.tenant, UserId::generate(), UserId::generate());
        for (id, name, role) in [(owner, "olga", "owner"), (user, "victor", "viewer")] {
            let sql = format!(
                "insert into users (id, email, name, password_hash) values ('{id}', '{name}@example.com', '{name}', 'x');
                 insert into memberships (tenant_id, user_id, role) values ('{tenant}', '{id}', '{role}')"
            );
            world.db.sql(sql).await;
        }
        let alert = JobId::generate();
        let sql = format!(
            "insert into alerts (tenant_id, id, cause, email, event)
             values ('{tenant}', '{alert}', 'job.failed', 'Victor@example.com', false)"
        );
        world.db.sql(sql).await;
        Self { world, user }
    }

    fn job(&self) -> EraseUser {
        EraseUser { user: self.user, delete_files: false }
    }

    fn run(&self) -> Arc<millwork_worker::runtime::Run> {
        Arc::new(self.world.run(JobId::generate()))
    }

    async fn count(&self, sql: &str) -> String {
        self.world.db.sql(format!("select count(*)::text from {sql}")).await[0].clone().unwrap()
    }
}

fn found(report: &Value, name: &str) -> (Value, Value) {
    let sections = report["sections"].as_array().unwrap();
    let section = sections.iter().find(|section| section["section"] == name).unwrap();
    (section["found"].clone(), section["done"].clone())
}

/// Drops the handler between any two steps of its, as a kill does, and lets another worker run the job.
#[tokio::test]
async fn killed_at_any_moment_all_goes_or_nothing_and_the_report_is_there() {
    let mut polls = 1;
    loop {
        let stage = Stage::create().await;
        let ended = killed_after(polls, erase(stage.job(), stage.run(), stage.world.ctx.clone())).await;
        let report = done(erase(stage.job(), stage.run(), stage.world.ctx.clone()).await.unwrap());
        assert_eq!(report["account_erased"], true, "{polls}: {report}");
        assert_eq!(found(&report, "account").0, 1, "{polls}: of the run that erased");
        assert_eq!(found(&report, "alerts"), (1.into(), "erased".into()), "{polls}");
        assert_eq!(stage.count("users where name = 'victor'").await, "0", "{polls}");
        assert_eq!(stage.count("alerts").await, "0", "{polls}");
        assert_eq!(stage.count("audit_logs where action = 'user.erased'").await, "1", "{polls}");
        if ended {
            return;
        }
        polls += 1 + polls / 8;
    }
}

#[tokio::test]
async fn an_account_that_another_tenant_has_stays() {
    let stage = Stage::create().await;
    let other = stage.world.db.tenant("Other").await;
    let sql =
        format!("insert into memberships (tenant_id, user_id, role) values ('{other}', '{}', 'viewer')", stage.user);
    stage.world.db.sql(sql).await;
    let report = done(erase(stage.job(), stage.run(), stage.world.ctx.clone()).await.unwrap());
    assert_eq!(report["account_erased"], false);
    assert_eq!(found(&report, "account").1, "kept: another tenant has the account too");
    assert_eq!(stage.count("users where name = 'victor'").await, "1");
    assert_eq!(stage.count("memberships where role = 'viewer'").await, "1");
}

#[tokio::test]
async fn the_last_owner_stays_and_a_cancelled_erasure_erases_nothing() {
    let stage = Stage::create().await;
    let run = stage.run();
    run.cancelled.cancel();
    let outcome = erase(stage.job(), run, stage.world.ctx.clone()).await.unwrap();
    assert!(matches!(outcome, Outcome::Cancelled), "{outcome:?}");
    assert_eq!(stage.count("users where name = 'victor'").await, "1");
    let owner = stage.world.db.sql("select id::text from users where name = 'olga'").await[0].clone().unwrap();
    let job = EraseUser { user: owner.parse().unwrap(), delete_files: false };
    let error = erase(job, stage.run(), stage.world.ctx.clone()).await.unwrap_err();
    assert!(error.to_string().contains("owner"), "{error}");
    assert_eq!(stage.count("users where name = 'olga'").await, "1");
}

#[tokio::test]
async fn a_copy_that_is_being_written_is_not_made_ready_after_the_erasure() {
    let stage = Stage::create().await;
    let (export, filters) = (ExportId::generate(), Filters { user_id: Some(stage.user.0), ..Filters::default() });
    let new = NewExport {
        id: export,
        resource: Resource::PersonalData,
        format: Format::Json,
        compress: None,
        filters: &filters,
        requested_by: ActorId(stage.user.0),
        notify: None,
        job: JobId::generate(),
    };
    let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    exports::insert(&mut tx, &new).await.unwrap();
    let (object, _) = objects::begin(&mut tx, Purpose::Export, 0, 0).await.unwrap();
    exports::take(&mut tx, export, object).await.unwrap();
    tx.commit().await.unwrap();
    done(erase(stage.job(), stage.run(), stage.world.ctx.clone()).await.unwrap());
    let mut tx = stage.world.db.db.tenant(stage.world.tenant).await.unwrap();
    assert!(!exports::finish(&mut tx, export, object, 9, 99).await.unwrap());
}
