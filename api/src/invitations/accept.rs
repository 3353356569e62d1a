//! Accepting an invitation, with an account or without one yet.

use millwork_shared::audit::{self, Actor};
use millwork_shared::auth::Client;
use millwork_shared::auth::jobs::SendWelcome;
use millwork_shared::auth::queries::passwords as stored;
use millwork_shared::auth::queries::verification::prove_email;
use millwork_shared::infra::crypto::token_hash;
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::UserId;
use millwork_shared::invitations::queries::{self as rows, Presented};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::queries::{self as tenants, Login, NewUser, members};
use poem::http::StatusCode;

use super::types::Acceptance;
use crate::App;
use crate::auth::passwords::Check;
use crate::auth::signing::{self, Signer};
use crate::auth::types::Session;
use crate::auth::{mfa, password_rules, passwords, sessions};
use crate::config::Registration;
use crate::http::{ApiError, Created, Fault, RequestInfo, Result};
use crate::limits::Guess;
use crate::quotas;

/// Of a new account, as at registration. An account that exists may have an older, shorter one.
const SHORTEST_PASSWORD: usize = 12;

/// What was asked of us, and by whom.
struct Asked<'a> {
    app: &'a App,
    signer: Signer,
    quota: i64,
    token: [u8; 32],
    client: &'a Client,
    request: &'a RequestInfo,
}

pub async fn accept(app: &App, body: Acceptance, request: &RequestInfo, client: &Client) -> Result<Created<Session>> {
    let token = token_hash(&body.token);
    let mut tx = app.db.identity().await?;
    let invitation = rows::find(&mut tx, token).await?.ok_or_else(unknown)?;
    let known = tenants::find_login(&mut tx, &invitation.email).await?;
    tx.commit().await?; // no connection is held while a password is hashed
    if !invitation.good {
        return Err(spent());
    }
    let signer = signing::signer(app).await?;
    let quota = quotas::members(app, invitation.tenant_id).await;
    let asked = Asked { app, signer, quota, token, client, request };
    match known {
        Some(login) => {
            let guess = Guess::begin(app, &invitation.email, request).await?;
            guess.end(app, asked.with_account(body, login).await).await
        }
        None => asked.without_account(body, &invitation).await,
    }
}

impl Asked<'_> {
    async fn with_account(&self, body: Acceptance, login: Login) -> Result<Created<Session>> {
        let refused = || {
            let detail = "there is an account of this address, and its password is another one";
            ApiError::unauthenticated("login_refused", detail)
        };
        let check = passwords::verify(body.password.0, Some(login.password_hash.clone())).await?;
        if !check.is_right() {
            return Err(refused());
        }
        audit::act_as(Actor::User(login.id));
        let mut tx = self.app.db.identity().await?;
        let still = match &check {
            Check::Rehashed(fresh) => stored::replace(&mut tx, login.id, &login.password_hash, fresh).await?,
            _ => stored::hold(&mut tx, login.id, &login.password_hash).await?,
        };
        if !still {
            return Err(refused());
        }
        // Before anything else is changed: a wrong code is counted and committed.
        let mut tx = mfa::second_step(self.app, tx, login.id, body.otp.as_deref()).await?;
        let invitation = self.spend(&mut tx).await?;
        self.join(tx, &invitation, login.id, None).await
    }

    async fn without_account(&self, body: Acceptance, invitation: &Presented) -> Result<Created<Session>> {
        if self.app.settings.registration == Registration::Closed {
            let detail = "no new accounts are made here; only who has one can accept";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "registration_closed", detail));
        }
        let Some(name) = body.name else {
            let detail = "is required: there is no account of this address yet";
            return Err(ApiError::invalid(vec![Fault::new("/name", "required", detail)]));
        };
        if body.password.0.expose().chars().count() < SHORTEST_PASSWORD {
            let detail = format!("must have at least {SHORTEST_PASSWORD} characters");
            return Err(ApiError::invalid(vec![Fault::new("/password", "too_short", detail)]));
        }
        password_rules::check("/password", &body.password, &[&invitation.email, &name.0])?;
        let password_hash = passwords::hash(body.password.0).await?;

        let mut tx = self.app.db.identity().await?;
        let invitation = self.spend(&mut tx).await?;
        let user = NewUser { email: &invitation.email, name: &name.0, password_hash: &password_hash };
        let user = tenants::insert_user(&mut tx, &user).await?;
        let welcome = NewJob::of(invitation.tenant_id, &SendWelcome { user })?.caused_by(&self.request.cause());
        self.join(tx, &invitation, user, Some(welcome)).await
    }

    /// Spends the invitation and takes a place for it, if who sent it still holds what it promises.
    async fn spend(&self, tx: &mut IdentityTx) -> Result<Presented> {
        let tenant = rows::find(tx, self.token).await?.ok_or_else(unknown)?.tenant_id;
        members::claim_place(tx, tenant, self.quota).await?;
        // Read once more: from here on no role and no member changes.
        let invitation = rows::find(tx, self.token).await?.ok_or_else(unknown)?;
        let inviter = tenants::find_standing(tx, tenant, invitation.invited_by).await?.unwrap_or_default();
        if inviter.permissions().lacks(invitation.standing.permissions()).is_some() {
            let detail = "who sent the invitation may not grant any more what it promises; ask for another";
            return Err(ApiError::new(StatusCode::GONE, "invitation_void", detail));
        }
        if rows::spend(tx, invitation.id).await? { Ok(invitation) } else { Err(spent()) }
    }

    async fn join(
        &self,
        mut tx: IdentityTx,
        invitation: &Presented,
        user: UserId,
        mail: Option<NewJob>,
    ) -> Result<Created<Session>> {
        let tenant = invitation.tenant_id;
        rows::join(&mut tx, tenant, invitation.id, user).await?;
        prove_email(&mut tx, user).await?;
        let by = (&self.signer, self.app.clock.now());
        let member = (tenant, user, invitation.standing.first());
        let tokens = sessions::open(by, &mut tx, member, self.client).await?;
        let mut tx = tx.into_tenant(tenant).await?;
        let mails: Vec<NewJob> = mail.into_iter().collect();
        jobs::enqueue(&mut tx, &mails).await?;
        let session =
            Session::new(tenants::get_user(&mut tx, user).await?, tenants::get_tenant(&mut tx).await?, tokens);
        tx.commit().await?;
        self.app.dispatcher.offer(&mails);
        Created::new(&session)
    }
}

fn spent() -> ApiError {
    let detail = "the invitation was accepted or taken back, or has expired; ask for another";
    ApiError::new(StatusCode::GONE, "invitation_spent", detail)
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "token not found")
}
