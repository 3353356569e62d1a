//! Mails that ask people to join a tenant.

use std::sync::Arc;
use std::time::Duration;

use millwork_shared::infra::crypto;
use millwork_shared::infra::ids::{InvitationId, JobId, TenantId, UserId};
use millwork_shared::invitations::jobs::SendInvitation;
use millwork_shared::invitations::queries::{self, NewInvitation};
use millwork_shared::jobs::Outcome;
use millwork_shared::maintenance::DeleteExpired;
use millwork_shared::tenants::Role;
use millwork_shared::tenants::queries::{NewUser, insert_membership, insert_user};
use millwork_shared::testing::TestDb;
use millwork_shared::testing::mail::MailBox;
use millwork_worker::context::Context;
use millwork_worker::invitations::send::send;
use millwork_worker::maintenance::delete_expired;
use millwork_worker::runtime::Run;

use crate::support::{context, no_egress};

const BEN: &str = "ben@example.com";

/// Ada of Acme has invited Ben.
struct World {
    db: TestDb,
    tenant: TenantId,
    ada: UserId,
    invitation: InvitationId,
    mail_box: MailBox,
    ctx: Arc<Context>,
}

impl World {
    async fn create() -> Self {
        let db = TestDb::create().await;
        let tenant = db.tenant("Acme").await;
        let mut tx = db.db.identity().await.unwrap();
        let user = NewUser { email: "ada@example.com", name: "Ada", password_hash: "" };
        let ada = insert_user(&mut tx, &user).await.unwrap();
        insert_membership(&mut tx, tenant, ada, Role::Owner).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.db.tenant(tenant).await.unwrap();
        let new = NewInvitation { email: BEN, role: Some(Role::Viewer), own: &[], invited_by: ada };
        let invitation = queries::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        let mail_box = MailBox::fresh();
        let ctx = Arc::new(context(&db.db, no_egress(), &mail_box.url()));
        Self { db, tenant, ada, invitation, mail_box, ctx }
    }

    async fn send(&self) {
        let run = Arc::new(Run::for_test(self.tenant, JobId::generate()));
        let outcome = send(SendInvitation { invitation: self.invitation }, run, self.ctx.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    }

    async fn tokens(&self) -> usize {
        self.db.sql("select invitation_id::text from invitation_tokens").await.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.mail_box.path());
    }
}

#[tokio::test]
async fn the_mail_says_who_invites_to_what_and_its_token_is_stored_as_its_hash() {
    let world = World::create().await;
    for _ in 0..2 {
        world.send().await;
    }
    let mails = world.mail_box.mails_to(BEN);
    assert_eq!((mails.len(), world.tokens().await), (2, 2), "a second run makes another token");
    for mail in &mails {
        assert_eq!(mail.subject, "Ada invites you to Acme");
        let link = mail.link("https://").unwrap();
        let token = link.strip_prefix("https://millwork.example.com/m/accept-invitation?token=").unwrap();
        let mut tx = world.db.db.identity().await.unwrap();
        let found = queries::find(&mut tx, crypto::token_hash(token)).await.unwrap().unwrap();
        assert_eq!((found.id, found.good), (world.invitation, true), "both are good");
        let whole = world.db.sql("select string_agg(t::text, '') from invitation_tokens t").await;
        assert!(!whole[0].as_deref().unwrap().contains(token), "the token itself is stored");
    }
}

#[tokio::test]
async fn an_invitation_that_is_not_open_any_more_is_not_mailed() {
    for change in [
        "update invitations set revoked_at = ledger_now()",
        "update invitations set accepted_at = ledger_now()",
        "update invitations set expires_at = ledger_now()",
        "update memberships set deactivated_at = ledger_now()",
        "update users set deactivated_at = ledger_now()",
        "delete from memberships",
    ] {
        let world = World::create().await;
        world.db.sql(change).await;
        world.send().await;
        assert_eq!((world.tokens().await, world.mail_box.mails().len()), (0, 0), "{change}");
    }
}

#[tokio::test]
async fn an_invitation_leaves_a_day_after_it_has_expired_with_its_tokens() {
    let world = World::create().await;
    world.send().await;
    let sweep = async || {
        let run = Arc::new(Run::for_test(world.tenant, JobId::generate()));
        delete_expired(DeleteExpired {}, run, world.ctx.clone()).await.unwrap();
        let count = "select concat((select count(*) from invitations), (select count(*) from invitation_tokens))";
        world.db.sql(count).await.remove(0).unwrap()
    };
    world.db.advance(Duration::from_secs(8 * 24 * 3_600 - 1)).await;
    assert_eq!(sweep().await, "11");
    world.db.advance(Duration::from_secs(2)).await;
    assert_eq!(sweep().await, "00");
    assert_eq!(world.db.sql(format!("select id::text from users where id = '{}'", world.ada)).await.len(), 1);
}
