//! Who is calling, and how one becomes someone.

/// Recently checked tokens.
pub mod cache;
/// Where a request comes from.
pub mod client;
/// For answers that go on after their caller was checked.
pub mod held;
/// The form of an API key.
pub mod key_text;
mod mails;
/// The second factor.
pub mod mfa;
/// Signing in by another provider.
pub mod oauth;
/// What people do about their own sessions and tenants.
pub mod own;
/// Which passwords are refused.
pub mod password_rules;
/// Hashes of passwords.
pub mod passwords;
/// Proving an address, and choosing another password.
pub mod recovery;
/// Tokens that stop at once.
pub mod revocation;
/// Opening, refreshing and closing sessions.
pub mod sessions;
/// Access tokens.
pub mod signing;
/// Codes by time.
pub mod totp;
/// Bodies.
pub mod types;
/// Checks a bearer token of either form.
pub mod verify;

use millwork_shared::auth::jobs::{SendVerification, SendWelcome};
use millwork_shared::auth::queries::passwords as stored;
use millwork_shared::auth::{Client, queries::sessions::hold};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::{TenantId, UserId};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::{Role, queries as tenants};
use poem::endpoint::make;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Endpoint, Response};
use poem_openapi::OpenApi;

use crate::App;
use crate::config::Registration;
use crate::http::{Answer, ApiError, Body, Caller, Created, NoContent, NotKept, RequestInfo, Result};
use crate::limits::Guess;
use crate::routes::Tag;
use client::From;
use passwords::Check;
use types::{Login, Me, RefreshRequest, Register, Session, Switch, Tokens};

pub struct AuthApi;

#[OpenApi(tag = "Tag::Identity")]
impl AuthApi {
    /// Register
    ///
    /// Makes a person, a tenant of theirs, and a session. A welcome and a link to prove the address go out by mail. Of two
    /// requests the second gets 409, for the address is taken: sign in then.
    #[oai(path = "/auth/register", method = "post", operation_id = "auth.register")]
    async fn register(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        _key: NotKept,
        body: Body<Register>,
    ) -> Result<Created<Session>> {
        if app.settings.registration != Registration::Open {
            let detail = "registration is closed here; ask for an invitation";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "registration_closed", detail));
        }
        let body = body.into_inner();
        password_rules::check("/password", &body.password, &[&body.email.0, &body.name.0, &body.tenant_name.0])?;
        let password_hash = passwords::hash(body.password.0.clone()).await?;
        let signer = signing::signer(&app).await?;

        let mut tx = app.db.identity().await?;
        let user = tenants::insert_user(&mut tx, &body.user(&password_hash)).await?;
        let tenant = tenants::insert_tenant(&mut tx, &body.tenant_name.0).await?;
        tenants::insert_membership(&mut tx, tenant, user, Role::Owner).await?;
        let member = (tenant, user, Role::Owner.as_str());
        let tokens = sessions::open((&signer, app.clock.now()), &mut tx, member, &from.0).await?;
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
    /// Without `tenant_id`, into the tenant that the person has belonged to for longest. A person has at most a hundred
    /// sessions; one more ends the oldest. Who has a second factor also sends `otp`, and is asked for it by the code
    /// `otp_required`.
    #[oai(path = "/auth/login", method = "post", operation_id = "auth.login")]
    async fn login(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        _key: NotKept,
        body: Body<Login>,
    ) -> Result<Answer<Session>> {
        let body = body.into_inner();
        let guess = Guess::begin(&app, &body.email.0, &request).await?;
        guess.end(&app, sign_in(&app, body, &from.0).await).await
    }

    /// Switch to another tenant
    ///
    /// Opens a session in another tenant that the person belongs to, see `GET /tenants`. The present session goes on.
    #[oai(path = "/auth/switch", method = "post", operation_id = "auth.switch")]
    async fn switch(
        &self,
        caller: Caller,
        app: Data<&App>,
        from: From,
        _key: NotKept,
        body: Body<Switch>,
    ) -> Result<Answer<Session>> {
        let session = sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        if !hold(&mut tx, session).await? {
            return Err(ApiError::unauthenticated("token_invalid", "sign in again: the session has ended"));
        }
        Answer::new(&enter(&app, tx, caller.user, Some(TenantId(body.tenant_id)), &from.0).await?)
    }

    /// Refresh a session
    ///
    /// Each refresh token is good once, and a session rests for 30 days and goes on for 90 at most. A token that comes
    /// again ends the session, for someone has a copy, and its owner hears of it by mail. The client whose answer was lost
    /// may ask again within ten seconds and gets the same next refresh token.
    #[oai(path = "/auth/refresh", method = "post", operation_id = "auth.refresh")]
    async fn refresh(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        _key: NotKept,
        body: Body<RefreshRequest>,
    ) -> Result<Answer<Tokens>> {
        Answer::new(&sessions::refresh(&app, &body.refresh_token, &from.0, &request.cause()).await?)
    }

    /// Sign out
    ///
    /// Ends this session: its refresh token, and at once its access tokens, so that a repeat gets 401.
    #[oai(path = "/auth/logout", method = "post", operation_id = "auth.logout")]
    async fn logout(&self, caller: Caller, app: Data<&App>, _key: NotKept) -> Result<NoContent> {
        sessions::close(&app, &caller, sessions::of(&caller)?).await?;
        Ok(NoContent::done())
    }

    /// Sign out everywhere
    ///
    /// Ends every session of the person in every tenant, this one included, so that a repeat gets 401. API keys go on.
    #[oai(path = "/auth/logout-all", method = "post", operation_id = "auth.logout_all")]
    async fn logout_all(&self, caller: Caller, app: Data<&App>, _key: NotKept) -> Result<NoContent> {
        sessions::of(&caller)?;
        sessions::close_all(&app, &caller, None).await?;
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
}

/// Opens a session of a person who has proven to be `user`, in the tenant they wish, and commits.
async fn enter(
    app: &App,
    mut tx: IdentityTx,
    user: UserId,
    wished: Option<TenantId>,
    client: &Client,
) -> Result<Session> {
    let Some((tenant, standing)) = tenants::find_membership(&mut tx, user, wished).await? else {
        if tenants::has_suspended(&mut tx, user, wished).await? {
            return Err(verify::suspended());
        }
        let detail = "the account does not belong to this tenant, or to none any more";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_a_member", detail));
    };
    let signer = signing::signer(app).await?;
    let tokens = sessions::open((&signer, app.clock.now()), &mut tx, (tenant, user, standing.first()), client).await?;
    let mut tx = tx.into_tenant(tenant).await?;
    let session = Session::new(tenants::get_user(&mut tx, user).await?, tenants::get_tenant(&mut tx).await?, tokens);
    tx.commit().await?;
    Ok(session)
}

async fn sign_in(app: &App, body: Login, client: &Client) -> Result<Answer<Session>> {
    let refused = || ApiError::unauthenticated("login_refused", "no account has this address and this password");
    let mut tx = app.db.identity().await?;
    let known = tenants::find_login(&mut tx, &body.email.0).await?;
    tx.commit().await?; // no connection is held while a password is hashed
    let check = passwords::verify(body.password.0, known.as_ref().map(|login| login.password_hash.clone())).await?;
    let login = known.filter(|_| check.is_right()).ok_or_else(refused)?;

    let mut tx = app.db.identity().await?;
    let still = match &check {
        Check::Rehashed(fresh) => stored::replace(&mut tx, login.id, &login.password_hash, fresh).await?,
        _ => stored::hold(&mut tx, login.id, &login.password_hash).await?,
    };
    if !still {
        return Err(refused());
    }
    let tx = mfa::second_step(app, tx, login.id, body.otp.as_deref()).await?;
    Answer::new(&enter(app, tx, login.id, body.tenant_id.map(TenantId), client).await?)
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
