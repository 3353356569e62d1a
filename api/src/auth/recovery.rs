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
use crate::http::{Accepted, ApiError, Body, Caller, NoContent, RequestInfo, Result};
use crate::routes::Tag;

pub struct RecoveryApi;

#[OpenApi(tag = "Tag::Identity")]
impl RecoveryApi {
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
            Verification::Spent => Err(spent()),
            Verification::Unknown => Err(unknown()),
        }
    }

    /// Send the link that proves my address again
    ///
    /// Earlier links stay good. At most five go out in an hour.
    #[oai(path = "/auth/verify-email/resend", method = "post", operation_id = "auth.resend_verification")]
    async fn resend(&self, caller: Caller, app: Data<&App>, request: RequestInfo) -> Result<Accepted<MailAsked>> {
        sessions::of(&caller)?;
        let mut tx = app.db.tenant(caller.tenant).await?;
        if tenants::get_user(&mut tx, caller.user).await?.verified_at.is_some() {
            return Err(ApiError::conflict("already_verified", "the address is proven already"));
        }
        let mail = SendVerification { user: caller.user };
        let mail = [NewJob::of(caller.tenant, &mail)?.caused_by(&request.cause())];
        jobs::enqueue(&mut tx, &mail).await?;
        tx.commit().await?;
        app.dispatcher.offer(&mail);
        Accepted::new(&MailAsked { message: "a mail with a link is under way".to_owned() })
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
        body: Body<ForgotPassword>,
    ) -> Result<Accepted<MailAsked>> {
        let mut tx = app.db.identity().await?;
        let user = tenants::find_login(&mut tx, &body.email.0).await?.map(|login| login.id);
        // The same statements whether or not there is someone, so that the time does not tell.
        mails::commit_with(&app, tx, &SendPasswordReset { user }, &request.cause()).await?;
        Accepted::new(&MailAsked { message: "if there is an account of this address, a link is under way".to_owned() })
    }

    /// Choose another password by a link
    ///
    /// With the token from the mail, which is good once, for an hour. Ends every session of the person, and proves the address.
    #[oai(path = "/auth/reset-password", method = "post", operation_id = "auth.reset_password")]
    async fn reset(&self, app: Data<&App>, request: RequestInfo, body: Body<ResetPassword>) -> Result<NoContent> {
        let body = body.into_inner();
        let token = token_hash(&body.token);
        let mut tx = app.db.identity().await?;
        let reset = stored::find_reset(&mut tx, token).await?.ok_or_else(unknown)?;
        tx.commit().await?; // no connection is held while a password is hashed
        if !reset.good {
            return Err(spent());
        }
        password_rules::check("/password", &body.password, &[&reset.email, &reset.name])?;
        let fresh = passwords::hash(body.password.0).await?;

        let mut tx = app.db.identity().await?;
        if !stored::reset(&mut tx, token, &fresh).await? {
            return Err(spent());
        }
        let ended = rows::end_all(&mut tx, reset.user_id, None).await?;
        let mail = SendNotice { user: reset.user_id, notice: Notice::PasswordChanged };
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        sessions::announce(&app, ended).await;
        Ok(NoContent::done())
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
        body: Body<ChangePassword>,
    ) -> Result<NoContent> {
        let current = sessions::of(&caller)?;
        let body = body.into_inner();
        let refused = || ApiError::new(StatusCode::FORBIDDEN, "password_wrong", "the current password is another one");
        let mut tx = app.db.identity().await?;
        let person = stored::find_person(&mut tx, caller.user).await?.ok_or_else(refused)?;
        tx.commit().await?;
        password_rules::check("/password", &body.password, &[&person.email, &person.name])?;
        if !passwords::verify(body.current_password.0, Some(person.password_hash.clone())).await?.is_right() {
            return Err(refused());
        }
        let fresh = passwords::hash(body.password.0).await?;

        let mut tx = app.db.identity().await?;
        if !stored::replace(&mut tx, person.id, &person.password_hash, &fresh).await? {
            return Err(refused());
        }
        stored::spend_resets(&mut tx, person.id).await?;
        let ended = rows::end_all(&mut tx, person.id, Some(current)).await?;
        let mail = SendNotice { user: person.id, notice: Notice::PasswordChanged };
        mails::commit_with(&app, tx, &mail, &request.cause()).await?;
        sessions::announce(&app, ended).await;
        Ok(NoContent::done())
    }
}

fn spent() -> ApiError {
    ApiError::new(StatusCode::GONE, "token_spent", "the link was used before or has expired; ask for another")
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "token not found")
}
