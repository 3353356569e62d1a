//! Asking people to join the tenant.

mod accept;
mod types;

use millwork_shared::infra::ids::InvitationId;
use millwork_shared::invitations::jobs::SendInvitation;
use millwork_shared::invitations::queries as rows;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::queries::members;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use self::types::{Acceptance, Invitation, NewInvitation};
use crate::App;
use crate::auth::client::From as Client;
use crate::auth::types::Session;
use crate::http::idempotency::no_body;
use crate::http::{
    Accepted, Answer, Begun, Body, Created, Idempotency, List, NoContent, NotKept, Page, Permitted, RequestInfo,
    Result, to,
};
use crate::roles::{grant, named};
use crate::routes::Tag;

pub struct InvitationsApi;

#[OpenApi(tag = "Tag::Identity")]
impl InvitationsApi {
    /// List open invitations
    ///
    /// Those that were neither accepted nor taken back, newest first. They leave a day after they have expired.
    #[oai(path = "/invitations", method = "get", operation_id = "invitations.list")]
    async fn list(
        &self,
        caller: Permitted<to::InvitationsRead>,
        app: Data<&App>,
        page: Page,
    ) -> Result<List<Invitation>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let open = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, open.into_iter().map(Invitation::from).collect(), |invitation| invitation.id)
    }

    /// Invite somebody
    ///
    /// By a mail with a link, which is good once, for a week. No one may grant what they do not hold, and the
    /// invitation is good only while who sent it still holds it. A tenant has at most a hundred open invitations.
    #[oai(path = "/invitations", method = "post", operation_id = "invitations.create")]
    async fn create(
        &self,
        caller: Permitted<to::InvitationsWrite>,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<NewInvitation>,
    ) -> Result<Created<Invitation>> {
        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        members::lock(&mut tx, caller.tenant).await?;
        let promised = named::find(&mut tx, &body.roles).await?;
        grant::holds_all(&caller, promised.permissions)?;
        let new = rows::NewInvitation {
            email: &body.email.0,
            role: promised.built_in,
            own: &promised.own,
            invited_by: caller.user,
        };
        let id = rows::insert(&mut tx, &new).await?;
        let mail = [NewJob::of(caller.tenant, &SendInvitation { invitation: id })?.caused_by(&request.cause())];
        jobs::enqueue(&mut tx, &mail).await?;
        let invitation = Invitation::from(rows::get(&mut tx, id).await?);
        let location = app.url(&format!("/api/v1/invitations/{id}"));
        let answer = tx.finish(Created::at(&invitation, location)?).await?;
        app.dispatcher.offer(&mail);
        Ok(answer)
    }

    /// Show an open invitation
    #[oai(path = "/invitations/:id", method = "get", operation_id = "invitations.get")]
    async fn get(
        &self,
        caller: Permitted<to::InvitationsRead>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<Answer<Invitation>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let invitation = rows::get(&mut tx, InvitationId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&invitation.into())
    }

    /// Take an invitation back
    ///
    /// Its links stop at once.
    #[oai(path = "/invitations/:id", method = "delete", operation_id = "invitations.revoke")]
    async fn revoke(
        &self,
        caller: Permitted<to::InvitationsWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
    ) -> Result<NoContent> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let invitation = rows::get(&mut tx, InvitationId(id.0)).await?;
        grant::holds_all(&caller, invitation.standing.permissions())?;
        rows::revoke(&mut tx, invitation.id).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }

    /// Mail an invitation again
    ///
    /// It is good for a week from then on; links of earlier mails are good too. At most five mails, and not twice
    /// within ten minutes.
    #[oai(path = "/invitations/:id/resend", method = "post", operation_id = "invitations.resend")]
    async fn resend(
        &self,
        caller: Permitted<to::InvitationsWrite>,
        app: Data<&App>,
        request: RequestInfo,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Accepted<Invitation>> {
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let id = InvitationId(id.0);
        grant::holds_all(&caller, rows::get(&mut tx, id).await?.standing.permissions())?;
        rows::mail_again(&mut tx, id).await?;
        let mail = [NewJob::of(caller.tenant, &SendInvitation { invitation: id })?.caused_by(&request.cause())];
        jobs::enqueue(&mut tx, &mail).await?;
        let invitation = Invitation::from(rows::get(&mut tx, id).await?);
        let location = app.url(&format!("/api/v1/invitations/{id}"));
        let answer = tx.finish(Accepted::at(&invitation, location)?).await?;
        app.dispatcher.offer(&mail);
        Ok(answer)
    }

    /// Accept an invitation
    ///
    /// With the token from the mail, and the password of the account of that address; if there is none yet, one is
    /// made, with this password and `name`. Opens a session in the tenant, and proves the address. The token is good once:
    /// whose answer was lost signs in.
    #[oai(path = "/invitations/accept", method = "post", operation_id = "invitations.accept")]
    async fn accept(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: Client,
        _key: NotKept,
        body: Body<Acceptance>,
    ) -> Result<Created<Session>> {
        accept::accept(&app, body.into_inner(), &request, &from.0).await
    }
}
