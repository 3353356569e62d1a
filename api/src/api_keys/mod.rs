//! Keys of programs.

mod types;

use millwork_shared::auth::queries::api_keys as rows;
use millwork_shared::auth::revocation::Revoked;
use millwork_shared::infra::ids::ApiKeyId;
use millwork_shared::tenants::{Permission, Permissions};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use uuid::Uuid;

use crate::App;
use crate::auth::{key_text, revocation};
use crate::http::idempotency::no_body;
use crate::http::{Answer, Begun, Body, Created, Idempotency, List, NoContent, Page, Permitted, Result, to};
use crate::roles::grant;
use crate::routes::Tag;
use types::{ApiKey, ApiKeyWithSecret, NewApiKey};

pub struct ApiKeysApi;

#[OpenApi(tag = "Tag::Identity")]
impl ApiKeysApi {
    /// List API keys
    ///
    /// Those that were not revoked, newest first.
    #[oai(path = "/api-keys", method = "get", operation_id = "api_keys.list")]
    async fn list(&self, caller: Permitted<to::ApiKeysRead>, app: Data<&App>, page: Page) -> Result<List<ApiKey>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let keys = rows::list(&mut tx, page.before(), page.fetch()).await?;
        tx.commit().await?;
        List::new(&page, keys.into_iter().map(ApiKey::from).collect(), |key| key.id)
    }

    /// Create an API key
    ///
    /// The answer shows the key itself, this once. No one may grant what they do not hold; and a key may do no more
    /// than who made it may at the time, and rests while they are shut out.
    #[oai(path = "/api-keys", method = "post", operation_id = "api_keys.create")]
    async fn create(
        &self,
        caller: Permitted<to::ApiKeysWrite>,
        app: Data<&App>,
        key: Idempotency,
        body: Body<NewApiKey>,
    ) -> Result<Created<ApiKeyWithSecret>> {
        let permissions = grant::parse(&body.permissions)?;
        grant::holds_all(&caller, permissions)?;

        let mut tx = match key.begin(&app, &caller, body.hash()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let fresh = key_text::generate(app.settings.key_environment());
        let row = rows::NewApiKey {
            name: &body.name.0,
            prefix: &fresh.prefix,
            secret_hash: fresh.hash,
            permissions: permissions.iter().map(Permission::as_str).collect(),
            created_by: caller.user,
            expires_at: body.expires_at.map(|at| at.0),
        };
        let row = rows::insert(&mut tx, &row).await?;
        let location = app.url(&format!("/api/v1/api-keys/{}", row.id));
        tx.finish(Created::at(&ApiKeyWithSecret::new(row, &fresh), location)?).await
    }

    /// Show an API key
    ///
    /// Without its secret, which nobody can show again.
    #[oai(path = "/api-keys/:id", method = "get", operation_id = "api_keys.get")]
    async fn get(&self, caller: Permitted<to::ApiKeysRead>, app: Data<&App>, id: Path<Uuid>) -> Result<Answer<ApiKey>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let key = rows::get(&mut tx, ApiKeyId(id.0)).await?;
        tx.commit().await?;
        Answer::new(&key.into())
    }

    /// Revoke an API key
    ///
    /// It stops at once.
    #[oai(path = "/api-keys/:id", method = "delete", operation_id = "api_keys.revoke")]
    async fn revoke(&self, caller: Permitted<to::ApiKeysWrite>, app: Data<&App>, id: Path<Uuid>) -> Result<NoContent> {
        let id = ApiKeyId(id.0);
        let mut tx = app.db.tenant(caller.tenant).await?;
        rows::revoke(&mut tx, id).await?;
        tx.commit().await?;
        forget(&app, id).await;
        Ok(NoContent::done())
    }

    /// Rotate an API key
    ///
    /// Gives it a new secret, shown this once; the old one stops. Whoever rotates must hold all that the key may do.
    #[oai(path = "/api-keys/:id/rotate", method = "post", operation_id = "api_keys.rotate")]
    async fn rotate(
        &self,
        caller: Permitted<to::ApiKeysWrite>,
        app: Data<&App>,
        id: Path<Uuid>,
        key: Idempotency,
    ) -> Result<Answer<ApiKeyWithSecret>> {
        let id = ApiKeyId(id.0);
        let mut tx = match key.begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        let known = rows::get(&mut tx, id).await?;
        grant::holds_all(&caller, Permissions::stored(&known.permissions))?;
        let fresh = key_text::generate(app.settings.key_environment());
        let row = rows::replace_secret(&mut tx, id, &fresh.prefix, fresh.hash).await?;
        let answer = tx.finish(Answer::new(&ApiKeyWithSecret::new(row, &fresh))?).await?;
        forget(&app, id).await;
        Ok(answer)
    }
}

async fn forget(app: &App, id: ApiKeyId) {
    revocation::announce(app, &[Revoked::ApiKey(id)]).await;
}
