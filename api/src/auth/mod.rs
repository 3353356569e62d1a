//! Who is calling, and how one becomes someone.

/// Recently checked tokens.
pub mod cache;
/// The form of an API key.
pub mod key_text;
/// Checks a bearer token of either form.
pub mod verify;

mod types;

use millwork_shared::tenants::queries as tenants;
use poem::web::Data;
use poem_openapi::OpenApi;

use crate::App;
use crate::http::{Answer, Caller, Result};
use crate::routes::Tag;
use types::Me;

pub struct AuthApi;

#[OpenApi(tag = "Tag::Identity")]
impl AuthApi {
    /// Who am I
    ///
    /// The person (for an API key: who made it), the tenant, and everything the token may do.
    #[oai(path = "/auth/me", method = "get", operation_id = "auth.me")]
    async fn me(&self, caller: Caller, app: Data<&App>) -> Result<Answer<Me>> {
        let mut tx = app.db.tenant(caller.tenant).await?;
        let tenant = tenants::get_tenant(&mut tx).await?;
        let user = tenants::get_user(&mut tx, caller.user).await?;
        tx.commit().await?;
        Answer::new(&Me::new(&caller, user, tenant))
    }
}
