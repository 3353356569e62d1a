//! The second factor: codes by time, and recovery codes for whoever lost the device.

use std::time::Duration;

use millwork_shared::auth::jobs::{Notice, SendNotice};
use millwork_shared::auth::queries::{passwords as stored, totp as rows};
use millwork_shared::infra::crypto::{random_bytes, token_hash};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::UserId;
use poem::http::{HeaderValue, StatusCode, header};
use poem::web::Data;
use poem_openapi::OpenApi;

use super::types::{Factor, Otp, PasswordAgain, PasswordAndOtp, RecoveryCodes, TotpSecret};
use super::{mails, passwords, sessions, totp};
use crate::App;
use crate::http::{Answer, ApiError, Asker, Body, Caller, Idempotency, NoContent, RequestInfo, Result};
use crate::routes::Tag;

const RECOVERY_CODES: usize = 10;
/// Wrong codes in a row before there is a wait, which then doubles: a million codes are quickly tried.
const FREE_FAILURES: i32 = 4;
const FIRST_LOCK_S: u64 = 60;
const LONGEST_LOCK_S: u64 = 3_600;

pub struct MfaApi;

#[OpenApi(tag = "Tag::Identity")]
impl MfaApi {
    /// Show my second factor
    ///
    /// Whether sign-in asks for a code, and how many recovery codes are left.
    #[oai(path = "/auth/mfa/totp", method = "get", operation_id = "auth.totp")]
    async fn get(&self, caller: Caller, app: Data<&App>) -> Result<Answer<Factor>> {
        sessions::of(&caller)?;
        let mut tx = app.db.identity().await?;
        let enabled = rows::find(&mut tx, caller.user).await?.is_some_and(|factor| factor.confirmed);
        let recovery_codes_left = rows::count_recovery_codes(&mut tx, caller.user).await?;
        tx.commit().await?;
        Answer::new(&Factor { enabled, recovery_codes_left })
    }

    /// Enrol a second factor
    ///
    /// Answers the secret for an authenticator app, this once. Sign-in asks for codes after it was confirmed.
    #[oai(path = "/auth/mfa/totp/enrol", method = "post", operation_id = "auth.enrol_totp")]
    async fn enrol(
        &self,
        caller: Caller,
        app: Data<&App>,
        key: Idempotency,
        body: Body<PasswordAgain>,
    ) -> Result<Answer<TotpSecret>> {
        sessions::of(&caller)?;
        let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
        let email = password_again(&app, &caller, body.into_inner().current_password).await?;
        let secret = random_bytes::<{ totp::SECRET_BYTES }>();
        let sealed = app.keys.seal(&rows::context(caller.user), &secret)?;
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        if !rows::enrol(&mut tx, caller.user, &sealed).await? {
            return Err(ApiError::conflict(
                "totp_enabled",
                "there is a second factor; disable it before enrolling another",
            ));
        }
        let answer = Answer::new(&TotpSecret::new(&email, totp::base32(&secret)))?;
        let answer = kept.store(&mut tx, answer).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Confirm a second factor
    ///
    /// With a code of the authenticator app. From now on sign-in asks for one (`otp`). Answers ten recovery codes, this
    /// once; each stands in for a code, once.
    #[oai(path = "/auth/mfa/totp/confirm", method = "post", operation_id = "auth.confirm_totp")]
    async fn confirm(
        &self,
        caller: Caller,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<Otp>,
    ) -> Result<Answer<RecoveryCodes>> {
        sessions::of(&caller)?;
        let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        match rows::find(&mut tx, caller.user).await? {
            None => return Err(ApiError::conflict("totp_not_enrolled", "enrol a second factor first")),
            Some(factor) if factor.confirmed => {
                return Err(ApiError::conflict("totp_enabled", "the second factor is confirmed already"));
            }
            Some(_) => {}
        }
        let mut tx = check(&app, tx, caller.user, &body.otp).await?;
        rows::confirm(&mut tx, caller.user).await?;
        let codes = fresh_codes(&mut tx, caller.user).await?;
        let mail = SendNotice { user: caller.user, notice: Notice::SecondFactorOn };
        let answer = kept.store(&mut tx, Answer::new(&codes)?).await?;
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        Ok(answer)
    }

    /// Replace my recovery codes
    ///
    /// With a code of the authenticator app or a recovery code. The earlier ones are void.
    #[oai(path = "/auth/mfa/totp/recovery-codes", method = "post", operation_id = "auth.replace_recovery_codes")]
    async fn replace(
        &self,
        caller: Caller,
        app: Data<&App>,
        key: Idempotency,
        body: Body<PasswordAndOtp>,
    ) -> Result<Answer<RecoveryCodes>> {
        sessions::of(&caller)?;
        let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
        let body = body.into_inner();
        password_again(&app, &caller, body.current_password).await?;
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let mut tx = enabled(&app, tx, &caller, &body.otp).await?;
        let codes = fresh_codes(&mut tx, caller.user).await?;
        let answer = kept.store(&mut tx, Answer::new(&codes)?).await?;
        tx.commit().await?;
        Ok(answer)
    }

    /// Disable my second factor
    ///
    /// With the password and a code of the authenticator app or a recovery code.
    #[oai(path = "/auth/mfa/totp/disable", method = "post", operation_id = "auth.disable_totp")]
    async fn disable(
        &self,
        caller: Caller,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<PasswordAndOtp>,
    ) -> Result<NoContent> {
        sessions::of(&caller)?;
        let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
        let body = body.into_inner();
        password_again(&app, &caller, body.current_password).await?;
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let mut tx = enabled(&app, tx, &caller, &body.otp).await?;
        rows::remove(&mut tx, caller.user).await?;
        let answer = kept.store(&mut tx, NoContent::done()).await?;
        let mail = SendNotice { user: caller.user, notice: Notice::SecondFactorOff };
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        Ok(answer)
    }
}

/// What sign-in asks of a person beyond the password: nothing, or a code if they have a second factor.
///
/// # Errors
/// 401 `otp_required` without one, 401 `otp_wrong`, 429 `otp_locked` after several wrong ones.
pub async fn second_step(app: &App, mut tx: IdentityTx, user: UserId, otp: Option<&str>) -> Result<IdentityTx> {
    match (rows::find(&mut tx, user).await?, otp) {
        (Some(factor), None) if factor.confirmed => Err(ApiError::unauthenticated(
            "otp_required",
            "send `otp` too: a code of the authenticator app, or a recovery code",
        )),
        (Some(factor), Some(otp)) if factor.confirmed => check(app, tx, user, otp).await,
        _ => Ok(tx),
    }
}

/// The transaction, in which a confirmed factor was used.
async fn enabled(app: &App, mut tx: IdentityTx, caller: &Caller, otp: &str) -> Result<IdentityTx> {
    if !rows::find(&mut tx, caller.user).await?.is_some_and(|factor| factor.confirmed) {
        return Err(ApiError::conflict("totp_not_enabled", "there is no second factor"));
    }
    check(app, tx, caller.user, otp).await
}

/// Uses up a code. A wrong one is counted, whatever becomes of the request.
async fn check(app: &App, mut tx: IdentityTx, user: UserId, otp: &str) -> Result<IdentityTx> {
    let wrong = || ApiError::unauthenticated("otp_wrong", "the code is not the one of this moment, or was used before");
    let factor = rows::find(&mut tx, user).await?.ok_or_else(wrong)?;
    if let Some(seconds) = factor.locked_for_s.filter(|seconds| *seconds > 0) {
        let detail = "too many wrong codes; wait before the next try";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "otp_locked", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    let secret = app.keys.open(&rows::context(user), &factor.sealed_secret)?;
    let now = app.clock.now().timestamp();
    if let Some(step) = totp::find_step(&secret, otp.trim(), now, factor.last_step) {
        rows::used(&mut tx, user, step).await?;
        return Ok(tx);
    }
    if factor.confirmed && rows::use_recovery_code(&mut tx, user, token_hash(&plain(otp))).await? {
        return Ok(tx);
    }
    rows::failed(&mut tx, user, lock(factor.failures)).await?;
    tx.commit().await?;
    Err(wrong())
}

/// How long no code is looked at, after one more than `failures` wrong ones.
pub fn lock(failures: i32) -> Option<Duration> {
    let beyond = u32::try_from(failures - FREE_FAILURES).ok()?;
    let seconds = FIRST_LOCK_S.saturating_mul(1 << beyond.min(16));
    Some(Duration::from_secs(seconds.min(LONGEST_LOCK_S)))
}

/// Ten codes of 120 bits, stored by their hashes in place of the earlier ones.
async fn fresh_codes(tx: &mut IdentityTx, user: UserId) -> Result<RecoveryCodes> {
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| totp::base32(&random_bytes::<15>())).collect();
    let hashes: Vec<_> = codes.iter().map(|code| token_hash(code)).collect();
    rows::replace_recovery_codes(tx, user, &hashes).await?;
    let grouped = |code: &String| {
        let groups: Vec<&str> =
            [0..4, 4..8, 8..12, 12..16, 16..20, 20..24].into_iter().filter_map(|part| code.get(part)).collect();
        groups.join("-")
    };
    Ok(RecoveryCodes { recovery_codes: codes.iter().map(grouped).collect() })
}

/// A recovery code as it was made, however it was typed.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

/// Makes sure that the password is known too, not the session alone. Answers the address.
async fn password_again(app: &App, caller: &Caller, password: crate::http::types::Password) -> Result<String> {
    let wrong = || ApiError::new(StatusCode::FORBIDDEN, "password_wrong", "the current password is another one");
    let mut tx = app.db.identity().await?;
    let person = stored::find_person(&mut tx, caller.user).await?.ok_or_else(wrong)?;
    tx.commit().await?;
    let check = passwords::verify(password.0, Some(person.password_hash)).await?;
    if check.is_right() { Ok(person.email) } else { Err(wrong()) }
}
