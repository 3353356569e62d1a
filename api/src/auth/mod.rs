//! Who is calling, and how one becomes someone.

/// Recently checked tokens.
pub mod cache;
/// The form of an API key.
pub mod key_text;
/// Hashes of passwords.
pub mod passwords;
/// Opening, refreshing and closing sessions.
pub mod sessions;
/// Access tokens.
pub mod signing;
mod types;
/// Checks a bearer token of either form.
pub mod verify;

use millwork_shared::auth::jobs::{SendVerification, SendWelcome};
use millwork_shared::auth::queries::verification::{Verification, verify_email};
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::infra::ids::TenantId;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::{Role, queries as tenants};
use poem::endpoint::make;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Endpoint, Response};
use poem_openapi::OpenApi;

use crate::App;
use crate::config::Registration;
use crate::http::{Answer, ApiError, Body, Caller, Created, NoContent, RequestInfo, Result};
use crate::limits::Guess;
use crate::routes::Tag;
use types::{Login, Me, RefreshRequest, Register, Session, Tokens, VerifyEmail};

pub struct AuthApi;

#[OpenApi(tag = "Tag::Identity")]
impl AuthApi {
    /// Register
    ///
    /// Makes a person, a tenant of theirs, and a session. A welcome and a link to prove the address go out by mail.
    #[oai(path = "/auth/register", method = "post", operation_id = "auth.register")]
    async fn register(&self, app: Data<&App>, request: RequestInfo, body: Body<Register>) -> Result<Created<Session>> {
        if app.settings.registration != Registration::Open {
            let detail = "registration is closed here; ask for an invitation";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "registration_closed", detail));
        }
        let body = body.into_inner();
        let password_hash = passwords::hash(body.password.0.clone()).await?;
        let signer = signing::signer(&app).await?;

        let mut tx = app.db.identity().await?;
        let user = tenants::insert_user(&mut tx, &body.user(&password_hash)).await?;
        let tenant = tenants::insert_tenant(&mut tx, &body.tenant_name.0).await?;
        tenants::insert_membership(&mut tx, tenant, user, Role::Owner).await?;
        let tokens = sessions::open((&signer, app.clock.now()), &mut tx, (tenant, user, Role::Owner)).await?;
        let mut tx = tx.into_tenant(tenant).await?;
        let cause = request.cause();
        let mails = [
            NewJob::of(tenant, &SendWelcome { user })?.caused_by(&cause),
            NewJob::of(tenant, &SendVerification { user })?.caused_by(&cause),
        ];
        jobs::enqueue(&mut tx, &mails).await?;
        let session =
            Session::new(tenants::get_user(&mut tx, user).await?, tenants::get_tenant(&mut tx).await?, tokens);
        tx.commit().await?;
        app.dispatcher.offer(&mails);
        Created::new(&session)
    }

    /// Sign in
    ///
    /// Without `tenant_id`, into the tenant that the person has belonged to for longest.
    #[oai(path = "/auth/login", method = "post", operation_id = "auth.login")]
    async fn login(&self, app: Data<&App>, request: RequestInfo, body: Body<Login>) -> Result<Answer<Session>> {
        let body = body.into_inner();
        let guess = Guess::begin(&app, &body.email.0, &request).await?;
        guess.end(&app, sign_in(&app, body).await).await
    }

    /// Refresh a session
    ///
    /// Each refresh token is good once. One that comes again ends the session, for someone has a copy.
    #[oai(path = "/auth/refresh", method = "post", operation_id = "auth.refresh")]
    async fn refresh(&self, app: Data<&App>, body: Body<RefreshRequest>) -> Result<Answer<Tokens>> {
        Answer::new(&sessions::refresh(&app, &body.refresh_token).await?)
    }

    /// Sign out
    ///
    /// Ends this session: its refresh token, and its access tokens within seconds everywhere.
    #[oai(path = "/auth/logout", method = "post", operation_id = "auth.logout")]
    async fn logout(&self, caller: Caller, app: Data<&App>) -> Result<NoContent> {
        sessions::close(&app, &caller).await?;
        Ok(NoContent::done())
    }

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

    /// Prove a mail address
    ///
    /// With the token from the mail. It is good once, for a while.
    #[oai(path = "/auth/verify-email", method = "post", operation_id = "auth.verify_email")]
    async fn verify_email(&self, app: Data<&App>, body: Body<VerifyEmail>) -> Result<NoContent> {
        let mut tx = app.db.identity().await?;
        let verification = verify_email(&mut tx, token_hash(&body.token)).await?;
        tx.commit().await?;
        match verification {
            Verification::Done(_) => Ok(NoContent::done()),
            Verification::Spent => {
                let detail = "the link was used before or has expired; ask for another";
                Err(ApiError::new(StatusCode::GONE, "token_spent", detail))
            }
            Verification::Unknown => Err(ApiError::new(StatusCode::NOT_FOUND, "not_found", "token not found")),
        }
    }
}

async fn sign_in(app: &App, body: Login) -> Result<Answer<Session>> {
    let refused = || ApiError::unauthenticated("login_refused", "no account has this address and this password");
    let mut tx = app.db.identity().await?;
    let known = tenants::find_login(&mut tx, &body.email.0).await?;
    tx.commit().await?; // no connection is held while a password is hashed
    let (user, stored) = known.map(|login| (login.id, login.password_hash)).unzip();
    if !passwords::verify(body.password.0, stored).await? {
        return Err(refused());
    }
    let user = user.ok_or_else(refused)?;
    let signer = signing::signer(app).await?;

    let mut tx = app.db.identity().await?;
    let wished = body.tenant_id.map(TenantId);
    let (tenant, role) = tenants::find_membership(&mut tx, user, wished).await?.ok_or_else(|| {
        let detail = "the account does not belong to this tenant, or to none any more";
        ApiError::new(StatusCode::FORBIDDEN, "not_a_member", detail)
    })?;
    let role: Role = role.parse().map_err(|e: String| ApiError::internal(anyhow::anyhow!(e)))?;
    let tokens = sessions::open((&signer, app.clock.now()), &mut tx, (tenant, user, role)).await?;
    let mut tx = tx.into_tenant(tenant).await?;
    let session = Session::new(tenants::get_user(&mut tx, user).await?, tenants::get_tenant(&mut tx).await?, tokens);
    tx.commit().await?;
    Answer::new(&session)
}

/// `/.well-known/jwks.json`: the public keys of the access tokens.
pub fn jwks() -> impl Endpoint<Output = Response> {
    make(|request| async move {
        let app = App::of(&request)?;
        let keys = signing::jwks(app).await?;
        let answer =
            Response::builder().content_type("application/json").header("cache-control", "public, max-age=300");
        Ok::<_, poem::Error>(answer.body(keys.to_string()))
    })
}
