//! Mails to users about their accounts.

use std::sync::Arc;

use millwork_shared::auth::jobs::{SendVerification, SendWelcome};
use millwork_shared::auth::queries::verification::{Verification, verify_email};
use millwork_shared::infra::crypto;
use millwork_shared::infra::ids::{JobId, TenantId, UserId};
use millwork_shared::jobs::Outcome;
use millwork_shared::tenants::Role;
use millwork_shared::tenants::queries::{self, NewUser};
use millwork_shared::testing::TestDb;
use millwork_shared::testing::mail::MailBox;
use millwork_worker::auth::send_verification::send_verification;
use millwork_worker::auth::send_welcome::send_welcome;
use millwork_worker::context::Context;
use millwork_worker::runtime::Run;

use crate::support::{context, no_egress};

const ADA: &str = "ada@example.com";

struct World {
    db: TestDb,
    tenant: TenantId,
    ada: UserId,
    mail_box: MailBox,
    ctx: Arc<Context>,
}

impl World {
    async fn with_ada_at_acme() -> Self {
        let db = TestDb::create().await;
        let tenant = db.tenant("Acme").await;
        let mut tx = db.db.identity().await.unwrap();
        let user = NewUser { email: ADA, name: "Ada", password_hash: "" };
        let ada = queries::insert_user(&mut tx, &user).await.unwrap();
        queries::insert_membership(&mut tx, tenant, ada, Role::Owner).await.unwrap();
        tx.commit().await.unwrap();
        let mail_box = MailBox::fresh();
        let ctx = Arc::new(context(&db.db, no_egress(), &mail_box.url()));
        Self { db, tenant, ada, mail_box, ctx }
    }

    fn run(&self) -> Arc<Run> {
        Arc::new(Run::for_test(self.tenant, JobId::generate()))
    }

    async fn welcome(&self) {
        let outcome = send_welcome(SendWelcome { user: self.ada }, self.run(), self.ctx.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    async fn verify(&self, run: Arc<Run>) {
        let outcome = send_verification(SendVerification { user: self.ada }, run, self.ctx.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    async fn tokens(&self) -> usize {
        self.db.sql("select id::text from one_time_tokens").await.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.mail_box.path());
    }
}

#[tokio::test]
async fn a_new_user_is_welcomed_to_their_tenant() {
    let world = World::with_ada_at_acme().await;
    world.welcome().await;
    let mail = world.mail_box.mails_to(ADA).remove(0);
    assert_eq!(mail.subject, "Welcome to Acme");
    assert_eq!(mail.link("https://"), Some("https://millwork.example.com/m/"));
}

#[tokio::test]
async fn the_link_that_proves_an_address_carries_a_token_that_is_stored_as_its_hash() {
    let world = World::with_ada_at_acme().await;
    world.verify(world.run()).await;

    let mail = world.mail_box.mails_to(ADA).remove(0);
    let token =
        mail.link("https://").unwrap().strip_prefix("https://millwork.example.com/m/verify-email?token=").unwrap();
    assert_eq!(token.len(), 43, "32 bytes in base64url");
    let row = "select concat(user_id, purpose, expires_at - created_at, used_at) from one_time_tokens";
    assert_eq!(world.db.sql(row).await, [Some(format!("{}verify_email1 day", world.ada))]);
    let mut tx = world.ctx.db.identity().await.unwrap();
    let verification = verify_email(&mut tx, crypto::token_hash(token)).await.unwrap();
    assert_eq!(verification, Verification::Done(world.ada));
    let whole = world.db.sql("select t::text from one_time_tokens t").await;
    assert!(!whole[0].as_deref().unwrap().contains(token), "the token itself is stored");
    assert!(mail.html.as_deref().unwrap().contains("24 hours"));
}

#[tokio::test]
async fn a_second_run_sends_another_link_and_both_work() {
    let world = World::with_ada_at_acme().await;
    let run = world.run();
    for _ in 0..2 {
        world.verify(run.clone()).await;
    }
    assert_eq!((world.tokens().await, world.mail_box.mails().len()), (2, 1)); // one file a job
}

#[tokio::test]
async fn who_has_proven_their_address_or_has_left_gets_no_mail() {
    for (change, welcomed) in [
        ("update users set verified_at = ledger_now()", 1),
        ("update users set deactivated_at = ledger_now()", 0),
        ("delete from memberships", 0),
    ] {
        let world = World::with_ada_at_acme().await;
        world.db.sql(change).await;
        world.verify(world.run()).await;
        assert_eq!((world.tokens().await, world.mail_box.mails().len()), (0, 0), "{change}");
        world.welcome().await;
        assert_eq!(world.mail_box.mails().len(), welcomed, "{change}");
    }
}

#[tokio::test]
async fn names_that_would_break_a_header_do_not() {
    let world = World::with_ada_at_acme().await;
    world.db.sql("update users set name = E'Ada\\r\\nBcc: eve@example.com'").await;
    world.db.sql("update tenants set name = repeat(E'Acme\\n', 100)").await;
    world.welcome().await;
    world.verify(world.run()).await;
    let mails = world.mail_box.mails_to(ADA);
    assert_eq!(mails.len(), 2);
    assert!(mails.iter().all(|mail| mail.header("Bcc").is_none()));
    assert!(mails[0].subject.starts_with("Welcome to Acme Acme"));
}
