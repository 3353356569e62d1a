//! Proving a mail address, and choosing another password.

use millwork_shared::auth::jobs::{Notice, SendNotice, SendPasswordReset, SendVerification};
use millwork_shared::auth::queries::verification::{Verification, verify_email};
use millwork_shared::auth::queries::{passwords as stored, sessions as rows};
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::queries as tenants;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;

use super::types::{ChangePassword, ForgotPassword, MailAsked, ResetPassword, VerifyEmail};
use super::{mails, password_rules, passwords, sessions};
use crate::App;
use crate::http::idempotency::no_body;
use crate::http::{Accepted, ApiError, Asker, Begun, Body, Caller, Idempotency, NoContent, RequestInfo, Result};
use crate::routes::Tag;

pub struct RecoveryApi;

#[OpenApi(tag = "Tag::Identity")]
impl RecoveryApi {
    /// Prove a mail address
    ///
    /// With the token from the mail. It is good once, for a while.
    #[oai(path = "/auth/verify-email", method = "post", operation_id = "auth.verify_email")]
    async fn verify_email(&self, app: Data<&App>, key: Idempotency, body: Body<VerifyEmail>) -> Result<NoContent> {
        let kept = key.of_asker(&app, Asker::Bearer(&body.token), body.hash());
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let answer = match verify_email(&mut tx, token_hash(&body.token)).await? {
            Verification::Done(_) => kept.store(&mut tx, NoContent::done()).await,
            Verification::Spent => Err(spent()),
            Verification::Unknown => Err(unknown()),
        };
        tx.commit().await?;
        answer
    }

    /// Send the link that proves my address again
    ///
    /// Earlier links stay good. At most five go out in an hour.
    #[oai(path = "/auth/verify-email/resend", method = "post", operation_id = "auth.resend_verification")]
    async fn resend(
        &self,
        caller: Caller,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
    ) -> Result<Accepted<MailAsked>> {
        sessions::of(&caller)?;
        let mut tx = match key.by(caller.user).begin(&app, &caller, no_body()).await? {
            Begun::Replay(answer) => return Ok(answer.into()),
            Begun::Work(tx) => tx,
        };
        if tenants::get_user(&mut tx, caller.user).await?.verified_at.is_some() {
            return Err(ApiError::conflict("already_verified", "the address is proven already"));
        }
        let mail = SendVerification { user: caller.user };
        let mail = [NewJob::of(caller.tenant, &mail)?.caused_by(&request.cause())];
        jobs::enqueue(&mut tx, &mail).await?;
        let answer = Accepted::new(&MailAsked { message: "a mail with a link is under way".to_owned() })?;
        let answer = tx.finish(answer).await?;
        app.dispatcher.offer(&mail);
        Ok(answer)
    }

    /// Ask for another password
    ///
    /// A link to choose one goes to the address, if there is an account of it; the answer is the same if there is none. At
    /// most five go out in an hour.
    #[oai(path = "/auth/forgot-password", method = "post", operation_id = "auth.forgot_password")]
    async fn forgot(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<ForgotPassword>,
    ) -> Result<Accepted<MailAsked>> {
        let kept = key.of_asker(&app, Asker::Bearer(&body.email.0), body.hash());
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let user = tenants::find_login(&mut tx, &body.email.0).await?.map(|login| login.id);
        // The same statements whether or not there is someone, so that the time does not tell.
        let message = "if there is an account of this address, a link is under way".to_owned();
        let answer = kept.store(&mut tx, Accepted::new(&MailAsked { message })?).await?;
        mails::commit_with(&app, tx, &SendPasswordReset { user }, &request.cause()).await?;
        Ok(answer)
    }

    /// Choose another password by a link
    ///
    /// With the token from the mail, which is good once, for an hour. Ends every session of the person, and proves the address.
    #[oai(path = "/auth/reset-password", method = "post", operation_id = "auth.reset_password")]
    async fn reset(
        &self,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<ResetPassword>,
    ) -> Result<NoContent> {
        let kept = key.of_asker(&app, Asker::Bearer(&body.token), body.hash());
        let body = body.into_inner();
        let token = token_hash(&body.token);
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let reset = stored::find_reset(&mut tx, token).await?.ok_or_else(unknown)?;
        tx.commit().await?; // no connection is held while a password is hashed
        if !reset.good {
            return Err(spent());
        }
        password_rules::check("/password", &body.password, &[&reset.email, &reset.name])?;
        let fresh = passwords::hash(body.password.0).await?;

        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        if !stored::reset(&mut tx, token, &fresh).await? {
            return Err(spent());
        }
        let ended = rows::end_all(&mut tx, reset.user_id, None).await?;
        let mail = SendNotice { user: reset.user_id, notice: Notice::PasswordChanged };
        let answer = kept.store(&mut tx, NoContent::done()).await?;
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        sessions::announce(&app, ended).await;
        Ok(answer)
    }

    /// Change my password
    ///
    /// Ends every other session of the person, in every tenant. API keys go on.
    #[oai(path = "/auth/change-password", method = "post", operation_id = "auth.change_password")]
    async fn change(
        &self,
        caller: Caller,
        app: Data<&App>,
        request: RequestInfo,
        key: Idempotency,
        body: Body<ChangePassword>,
    ) -> Result<NoContent> {
        let current = sessions::of(&caller)?;
        let kept = key.of_asker(&app, Asker::Person(caller.user), body.hash());
        let body = body.into_inner();
        let refused = || ApiError::new(StatusCode::FORBIDDEN, "password_wrong", "the current password is another one");
        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        let person = stored::find_person(&mut tx, caller.user).await?.ok_or_else(refused)?;
        tx.commit().await?;
        password_rules::check("/password", &body.password, &[&person.email, &person.name])?;
        if !passwords::verify(body.current_password.0, Some(person.password_hash.clone())).await?.is_right() {
            return Err(refused());
        }
        let fresh = passwords::hash(body.password.0).await?;

        let mut tx = app.db.identity().await?;
        if let Some(answer) = kept.claim(&mut tx).await? {
            return Ok(answer);
        }
        if !stored::replace(&mut tx, person.id, &person.password_hash, &fresh).await? {
            return Err(refused());
        }
        stored::spend_resets(&mut tx, person.id).await?;
        let ended = rows::end_all(&mut tx, person.id, Some(current)).await?;
        let mail = SendNotice { user: person.id, notice: Notice::PasswordChanged };
        let answer = kept.store(&mut tx, NoContent::done()).await?;
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        sessions::announce(&app, ended).await;
        Ok(answer)
    }
}

fn spent() -> ApiError {
    ApiError::new(StatusCode::GONE, "token_spent", "the link was used before or has expired; ask for another")
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "token not found")
}
