//! Mails to users about their accounts.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::auth::jobs::{Notice, SendNotice, SendPasswordReset, SendVerification, SendWelcome};
use millwork_shared::auth::queries::passwords;
use millwork_shared::auth::queries::verification::{Verification, verify_email};
use millwork_shared::infra::crypto;
use millwork_shared::infra::ids::{JobId, TenantId, UserId};
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::DeleteExpired;
use millwork_shared::tenants::Role;
use millwork_shared::tenants::queries::{self, NewUser};
use millwork_shared::testing::TestDb;
use millwork_shared::testing::mail::MailBox;
use millwork_worker::auth::send_notice::send_notice;
use millwork_worker::auth::send_password_reset::send_password_reset;
use millwork_worker::auth::send_verification::send_verification;
use millwork_worker::auth::send_welcome::send_welcome;
use millwork_worker::context::Context;
use millwork_worker::maintenance::delete_expired;
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

    async fn reset(&self, user: Option<UserId>, run: Arc<Run>) {
        let outcome = send_password_reset(SendPasswordReset { user }, run, self.ctx.clone()).await.unwrap();
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
async fn the_link_for_another_password_works_once_and_for_an_hour() {
    let world = World::with_ada_at_acme().await;
    world.reset(Some(world.ada), world.run()).await;
    let mail = world.mail_box.mails_to(ADA).remove(0);
    assert_eq!(mail.subject, "Reset your password");
    let token =
        mail.link("https://").unwrap().strip_prefix("https://millwork.example.com/m/reset-password?token=").unwrap();
    let row = "select concat(user_id, purpose, expires_at - created_at, used_at) from one_time_tokens";
    assert_eq!(world.db.sql(row).await, [Some(format!("{}reset_password01:00:00", world.ada))]);
    let mut tx = world.ctx.db.identity().await.unwrap();
    assert!(passwords::reset(&mut tx, crypto::token_hash(token), "fresh").await.unwrap());
    assert!(!passwords::reset(&mut tx, crypto::token_hash(token), "again").await.unwrap());
    let whole = world.db.sql("select t::text from one_time_tokens t").await;
    assert!(!whole[0].as_deref().unwrap().contains(token), "the token itself is stored");
}

#[tokio::test]
async fn nobody_and_one_who_has_left_get_no_link_for_another_password() {
    let world = World::with_ada_at_acme().await;
    world.reset(None, world.run()).await;
    world.db.sql("update users set deactivated_at = ledger_now()").await;
    world.reset(Some(world.ada), world.run()).await;
    assert_eq!((world.tokens().await, world.mail_box.mails().len()), (0, 0));
}

#[tokio::test]
async fn nobody_is_flooded_with_links_that_others_ask_for() {
    let world = World::with_ada_at_acme().await;
    for _ in 0..8 {
        world.reset(Some(world.ada), world.run()).await;
        world.verify(world.run()).await;
    }
    assert_eq!((world.tokens().await, world.mail_box.mails().len()), (10, 10), "five of each kind");
    world.db.advance(Duration::from_secs(3_600)).await;
    world.reset(Some(world.ada), world.run()).await;
    assert_eq!(world.mail_box.mails().len(), 11);
}

#[tokio::test]
async fn people_hear_what_happened_to_their_account() {
    for (notice, subject) in [
        (Notice::SessionEnded, "We ended one of your sessions"),
        (Notice::PasswordChanged, "Your password was changed"),
        (Notice::SecondFactorOn, "Your second factor is on"),
        (Notice::SecondFactorOff, "Your second factor is off"),
        (Notice::IdentityLinked, "There is another way to sign in to your account"),
        (Notice::IdentityUnlinked, "A way to sign in to your account is gone"),
    ] {
        let world = World::with_ada_at_acme().await;
        for _ in 0..2 {
            let job = SendNotice { user: world.ada, notice };
            let outcome = send_notice(job, world.run(), world.ctx.clone()).await.unwrap();
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        }
        let mail = world.mail_box.mails_to(ADA).remove(0);
        assert_eq!(mail.subject, subject);
        assert_eq!(mail.link("https://"), Some("https://millwork.example.com/m/forgot-password"));
        world.db.sql("update users set deactivated_at = ledger_now()").await;
        let before = world.mail_box.mails().len();
        send_notice(SendNotice { user: world.ada, notice }, world.run(), world.ctx.clone()).await.unwrap();
        assert_eq!(world.mail_box.mails().len(), before);
    }
}

#[tokio::test]
async fn what_has_expired_of_sessions_and_keys_is_swept_and_the_rest_is_not() {
    let world = World::with_ada_at_acme().await;
    world
        .db
        .sql(format!(
            "insert into sessions (id, tenant_id, user_id, expires_at, ended_at)
             select uuid_floor(to_timestamp(n)), '{}', '{}', now() + interval '30 days',
                    case when n > 1 then now() end
               from generate_series(1, 3) n;
             insert into refresh_tokens (id, session_id, tenant_id, user_id, token_hash, expires_at)
             select gen_random_uuid(), id, tenant_id, user_id, id::text::bytea, expires_at from sessions;
             insert into signing_keys (id, public_key, sealed_private, retired_at)
             values (gen_random_uuid(), '', '', now()), (gen_random_uuid(), '', '', null)",
            world.tenant, world.ada
        ))
        .await;
    let count = "select concat((select count(*) from sessions), (select count(*) from refresh_tokens),
                               (select count(*) from signing_keys))";
    let sweep = || async {
        delete_expired(DeleteExpired {}, world.run(), world.ctx.clone()).await.unwrap();
        world.db.sql(count).await.remove(0).unwrap()
    };
    assert_eq!(sweep().await, "332");
    world.db.advance(Duration::from_secs(24 * 3_600 + 1)).await;
    assert_eq!(sweep().await, "111");
    world.db.advance(Duration::from_secs(30 * 24 * 3_600)).await;
    assert_eq!(sweep().await, "001");
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
