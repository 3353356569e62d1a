//! What people do about their own sessions, ways to sign in, and tenants. An API key is of one tenant and has no session: it may do none of it.

use millwork_shared::auth::jobs::{Notice, SendNotice};
use millwork_shared::auth::queries::{identities, sessions as rows};
use millwork_shared::infra::ids::{IdentityId, SessionId};
use millwork_shared::tenants::queries as tenants;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use super::types::{LinkedIdentity, Membership, OpenSession};
use super::{mails, sessions};
use crate::App;
use crate::http::{Answer, Caller, List, NoContent, Page, RequestInfo, Result};
use crate::routes::Tag;

pub struct OwnApi;

#[OpenApi(tag = "Tag::Identity")]
impl OwnApi {
    /// List my sessions
    ///
    /// Those that go on, in every tenant, newest first.
    #[oai(path = "/auth/sessions", method = "get", operation_id = "auth.sessions")]
    async fn list(&self, caller: Caller, app: Data<&App>, page: Page) -> Result<List<OpenSession>> {
        let current = sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        let open = rows::list(&mut tx, caller.user, page.before(), page.fetch()).await?;
        tx.commit().await?;
        let open = open.into_iter().map(|row| OpenSession::new(row, current)).collect();
        List::new(&page, open, |session| session.id)
    }

    /// Show one of my sessions
    #[oai(path = "/auth/sessions/:id", method = "get", operation_id = "auth.session")]
    async fn get(&self, caller: Caller, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<OpenSession>> {
        let current = sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        let session = rows::get(&mut tx, caller.user, SessionId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&OpenSession::new(session, current))
    }

    /// End one of my sessions
    ///
    /// At once, its access tokens included.
    #[oai(path = "/auth/sessions/:id", method = "delete", operation_id = "auth.end_session")]
    async fn end(&self, caller: Caller, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        sessions::of(&caller)?;
        sessions::close(&app, &caller, SessionId(id.0)).await?;
        Ok(NoContent::done())
    }

    /// End my other sessions
    ///
    /// All but the one that asks, in every tenant, at once.
    #[oai(path = "/auth/sessions", method = "delete", operation_id = "auth.end_sessions")]
    async fn end_others(&self, caller: Caller, app: Data<&App>) -> Result<NoContent> {
        let current = sessions::of(&caller)?;
        sessions::close_all(&app, &caller, Some(current)).await?;
        Ok(NoContent::done())
    }

    /// List my identities
    ///
    /// The other providers by which the person signs in, the one that was linked last first.
    #[oai(path = "/auth/identities", method = "get", operation_id = "auth.identities")]
    async fn identities(&self, caller: Caller, app: Data<&App>, page: Page) -> Result<List<LinkedIdentity>> {
        sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        let linked = identities::list(&mut tx, caller.user, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, linked.into_iter().map(LinkedIdentity::from).collect(), |identity| identity.id)
    }

    /// Unlink one of my identities
    ///
    /// Whom that provider knows no longer gets in by it, and the person is told by mail. Sessions go on. Without a password one is
    /// chosen by `POST /auth/forgot-password`. A provider that has proven the account's own mail address is linked again when
    /// the person signs in by it.
    #[oai(path = "/auth/identities/:id", method = "delete", operation_id = "auth.unlink_identity")]
    async fn unlink(&self, caller: Caller, app: Data<&App>, request: RequestInfo, id: Path<Uuid>) -> Result<NoContent> {
        sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        identities::unlink(&mut tx, caller.user, IdentityId(id.0)).await?;
        let mail = SendNotice { user: caller.user, notice: Notice::IdentityUnlinked };
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        Ok(NoContent::done())
    }

    /// List my tenants
    ///
    /// Every tenant that the person belongs to, the one that was made last first; `POST /auth/switch` goes there.
    #[oai(path = "/tenants", method = "get", operation_id = "auth.tenants")]
    async fn tenants(&self, caller: Caller, app: Data<&App>, page: Page) -> Result<List<Membership>> {
        sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        let memberships = tenants::list_memberships(&mut tx, caller.user, page.before(), page.fetch()).await?;
        tx.commit().await?;
        let memberships = memberships.into_iter().map(|row| Membership::new(row, caller.tenant)).collect();
        List::new(&page, memberships, |membership: &Membership| membership.tenant.id)
    }
}
