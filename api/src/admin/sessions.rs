//! How staff sign in and out, and begin.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::audit::{self, Actor};
use millwork_shared::auth::Client;
use millwork_shared::infra::crypto::{random_bytes, token_hash};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::maintenance::PLATFORM;
use millwork_shared::staff::queries::{self as rows, Member};
use poem::http::{HeaderValue, StatusCode, header};
use poem::web::Data;
use poem_openapi::OpenApi;
use serde_json::json;

use super::StaffCaller;
use super::caller::TOKEN_PREFIX;
use super::types::{StaffActivate, StaffEnrol, StaffMember, StaffSecret, StaffSession, StaffSignIn};
use crate::App;
use crate::auth::client::From;
use crate::auth::{mfa, password_rules, passwords, totp};
use crate::http::{Answer, ApiError, Asker, Body, Idempotency, NoContent, NotKept, RequestInfo, Result};
use crate::limits::attempts::Subject;
use crate::limits::too_many;
use crate::routes::Tag;

pub struct StaffAuthApi;

#[OpenApi(tag = "Tag::Admin")]
impl StaffAuthApi {
    /// Begin as staff: a second factor
    ///
    /// With the token that `millwork-api admin create-staff` has shown. Answers the secret for an authenticator app;
    /// may be repeated until the token is used up.
    #[oai(path = "/admin/auth/enrol", method = "post", operation_id = "admin.enrol")]
    async fn enrol(&self, app: Data<&App>, key: Idempotency, body: Body<StaffEnrol>) -> Result<Answer<StaffSecret>> {
        let member = invited(&app, token_hash(&body.token)).await?;
        let kept = key.of_asker(&app, Asker::Bearer(&body.token), body.hash());
        let secret = random_bytes::<{ totp::SECRET_BYTES }>();
        let sealed = app.keys.seal(&rows::context(member.id), &secret)?;
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        rows::enrol(&mut tx, member.id, &sealed).await?;
        let answer = Answer::new(&StaffSecret::new(&member.email, totp::base32(&secret)))?;
        let answer = kept.store(&mut tx, answer).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Begin as staff: a password
    ///
    /// Uses up the token, and opens a session. `otp` is a code of the authenticator app.
    #[oai(path = "/admin/auth/activate", method = "post", operation_id = "admin.activate")]
    async fn activate(
        &self,
        app: Data<&App>,
        from: From,
        _key: NotKept,
        body: Body<StaffActivate>,
    ) -> Result<Answer<StaffSession>> {
        let body = body.into_inner();
        let token = token_hash(&body.token);
        let member = invited(&app, token).await?;
        password_rules::check("/password", &body.password, &[&member.email, &member.name])?;
        let hash = passwords::hash(body.password.0).await?;
        let mut tx = app.db.identity().await?;
        let member = rows::find_invited(&mut tx, token).await?.ok_or_else(uninvited)?;
        let mut tx = check(&app, tx, &member, &body.otp).await?;
        rows::activate(&mut tx, member.id, &hash).await?;
        Answer::new(&open(tx, member, &from.0).await?)
    }

    /// Sign in as staff
    ///
    /// With password and second factor. A session rests for an hour and goes on for twelve at most. Its token opens
    /// `/admin` and nothing else.
    #[oai(path = "/admin/auth/login", method = "post", operation_id = "admin.login")]
    async fn login(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        from: From,
        _key: NotKept,
        body: Body<StaffSignIn>,
    ) -> Result<Answer<StaffSession>> {
        let body = body.into_inner();
        let subject = Subject::account(&format!("staff/{}", body.email.0));
        let wait = app.limits.wait_for_attempt(&subject).await;
        if !wait.is_zero() {
            return Err(too_many("too many failed attempts to sign in to this account", wait));
        }
        let result = sign_in(&app, body, &from.0).await;
        match &result {
            Ok(_) => app.limits.attempt_succeeded(&subject).await,
            Err(error) if error.status() == StatusCode::UNAUTHORIZED => {
                let failures = app.limits.attempt_failed(&subject).await;
                if let Some(address) = request.address() {
                    app.limits.address_failed(address).await;
                }
                note_refusal(&app, error.code(), failures).await;
            }
            Err(_) => {}
        }
        Answer::new(&result?)
    }

    /// Sign out
    #[oai(path = "/admin/auth/logout", method = "post", operation_id = "admin.logout")]
    async fn logout(&self, staff: StaffCaller, app: Data<&App>, _key: NotKept) -> Result<NoContent> {
        let mut tx = app.db.identity().await?;
        rows::end(&mut tx, staff.session()).await?;
        tx.commit().await?;
        Ok(NoContent::done())
    }

    /// Who am I, of the staff
    #[oai(path = "/admin/me", method = "get", operation_id = "admin.me")]
    async fn me(&self, staff: StaffCaller) -> Result<Answer<StaffMember>> {
        Answer::new(&StaffMember::from(&*staff))
    }
}

async fn sign_in(app: &App, body: StaffSignIn, client: &Client) -> Result<StaffSession> {
    let refused =
        || ApiError::unauthenticated("login_refused", "no member of the staff has this address and this password");
    let mut tx = app.db.identity().await?;
    let known = rows::find_by_email(&mut tx, &body.email.0).await?;
    tx.commit().await?; // no connection is held while a password is hashed
    let hash = known.as_ref().and_then(|member| member.password_hash.clone());
    let right = passwords::verify(body.password.0, hash.clone()).await?.is_right();
    let known = known.filter(|_| right).ok_or_else(refused)?;
    audit::act_as(Actor::Staff(known.id)); // before the transaction begins, which takes the actor along
    let mut tx = app.db.identity().await?;
    let member = rows::find_by_email(&mut tx, &body.email.0).await?;
    let member = member.filter(|member| member.password_hash == hash).ok_or_else(refused)?;
    let tx = check(app, tx, &member, &body.otp).await?;
    open(tx, member, client).await
}

/// Uses up a code of the second factor. A wrong one is counted, whatever becomes of the request.
async fn check(app: &App, mut tx: IdentityTx, member: &Member, otp: &str) -> Result<IdentityTx> {
    if let Some(seconds) = member.locked_for_s.filter(|seconds| *seconds > 0) {
        let detail = "too many wrong codes; wait before the next try";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "otp_locked", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    let Some(sealed) = &member.sealed_secret else {
        let detail = "there is no second factor yet; begin with POST /admin/auth/enrol";
        return Err(ApiError::conflict("totp_not_enrolled", detail));
    };
    let secret = app.keys.open(&rows::context(member.id), sealed)?;
    let now = app.clock.now().timestamp();
    if let Some(step) = totp::find_step(&secret, otp.trim(), now, member.last_step) {
        rows::used_code(&mut tx, member.id, step).await?;
        return Ok(tx);
    }
    rows::failed_code(&mut tx, member.id, mfa::lock(member.failures)).await?;
    tx.commit().await?;
    Err(ApiError::unauthenticated("otp_wrong", "the code is not the one of this moment, or was used before"))
}

async fn open(mut tx: IdentityTx, member: Member, client: &Client) -> Result<StaffSession> {
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    rows::open(&mut tx, member.id, token_hash(&token), client).await?;
    tx.commit().await?;
    Ok(StaffSession {
        staff: StaffMember { id: member.id.0, email: member.email, name: member.name },
        token,
        expires_in: rows::LONGEST_LIFE.as_secs() as u32,
    })
}

/// Whose token it is; what they do from here on is theirs.
async fn invited(app: &App, token: [u8; 32]) -> Result<Member> {
    let mut tx = app.db.identity().await?;
    let member = rows::find_invited(&mut tx, token).await?;
    tx.commit().await?; // no connection is held while a password is hashed
    let member = member.ok_or_else(uninvited)?;
    audit::act_as(Actor::Staff(member.id));
    Ok(member)
}

fn uninvited() -> ApiError {
    let detail = "the token was used before, has expired or never was; have another one made by `millwork-api admin \
                  reset-staff`";
    ApiError::unauthenticated("token_invalid", detail)
}

/// Writes a refused sign-in down with the platform.
async fn note_refusal(app: &App, code: &str, failures: u32) {
    let write = async {
        let mut tx = app.db.tenant(PLATFORM).await?;
        let after = json!({ "code": code, "failures": failures });
        audit::queries::record(&mut tx, "staff_session.refused", ("staff", ""), Some(&after)).await?;
        tx.commit().await
    };
    if let Err(error) = write.await {
        tracing::warn!(%error, "a refused sign-in was not written down");
    }
}
