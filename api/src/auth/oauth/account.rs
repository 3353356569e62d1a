//! Whose account a provider's word opens.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millwork_shared::auth::Client;
use millwork_shared::auth::jobs::{Notice, SendNotice, SendWelcome};
use millwork_shared::auth::queries::identities::{self as rows, Account, Code, Identity};
use millwork_shared::email::address::is_mail_address;
use millwork_shared::infra::crypto::{Secret, random_bytes, token_hash};
use millwork_shared::infra::db::IdentityTx;
use millwork_shared::infra::ids::{TenantId, UserId};
use millwork_shared::jobs::{Cause, NewJob, queries as jobs};
use millwork_shared::tenants::{Role, queries as tenants};
use poem::http::StatusCode;

use crate::App;
use crate::auth::types::Session;
use crate::auth::{enter, mails, mfa, passwords};
use crate::config::Registration;
use crate::http::{ApiError, Result};

/// How long a code stands for a person: long enough to find the device that shows the second factor.
const CODE_VALID_FOR: Duration = Duration::from_secs(300);
const LONGEST_ADDRESS: usize = 254;
const LONGEST_NAME: usize = 200;

/// A provider's word on who somebody is.
#[derive(Debug, Clone)]
pub struct Word {
    pub issuer: String,
    pub subject: String,
    pub provider: String,
    /// Proven to the provider.
    pub email: Option<String>,
    pub name: Option<String>,
}

/// A person with their identity, and where they wish to go.
#[derive(Debug, Clone)]
pub struct Person {
    pub user: UserId,
    pub identity: Identity,
    pub wished: Option<TenantId>,
}

/// The account that `word` speaks of: the one it is linked to, the one of the same proven address, or a new one.
///
/// # Errors
/// 403 `email_unverified`, `registration_closed` or `account_deactivated`; 409 `account_unverified` for an account of
/// which nobody knows whether it is the same person's: whoever made it may wait for this very sign-in.
pub async fn find(app: &App, word: Word, wished: Option<TenantId>, cause: &Cause) -> Result<Person> {
    let proven = word.email.filter(|email| email.len() <= LONGEST_ADDRESS && is_mail_address(email));
    let identity = |email: &str| Identity {
        issuer: word.issuer.clone(),
        subject: word.subject.clone(),
        provider: word.provider.clone(),
        email: email.to_owned(),
    };
    let mut tx = app.db.identity().await?;
    if let Some(account) = rows::find_linked(&mut tx, &word.issuer, &word.subject).await? {
        tx.commit().await?;
        return Ok(Person {
            user: active(account)?,
            identity: identity(proven.as_deref().unwrap_or_default()),
            wished,
        });
    }
    let Some(email) = proven else {
        let detail = "the provider does not say that your mail address is proven; prove it there, and come again";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "email_unverified", detail));
    };
    let identity = identity(&email);
    let user = match rows::find_by_email(&mut tx, &email).await? {
        Some(account) => {
            tx.commit().await?;
            let user = active(account)?;
            if !account.proven {
                let detail = "there is an account of this address, which was never proven: sign in to it by its \
                              password and prove the address, or choose another password by mail";
                return Err(ApiError::conflict("account_unverified", detail));
            }
            user
        }
        None => {
            tx.commit().await?;
            register(app, &identity, word.name.as_deref(), cause).await?
        }
    };
    Ok(Person { user, identity, wished })
}

fn active(account: Account) -> Result<UserId> {
    if account.active { Ok(account.user_id) } else { Err(deactivated()) }
}

fn deactivated() -> ApiError {
    let detail = "the account was deactivated, or is no longer the one that you began to sign in to";
    ApiError::new(StatusCode::FORBIDDEN, "account_deactivated", detail)
}

/// Makes a person with a tenant of theirs. They have no password until they choose one by mail.
async fn register(app: &App, identity: &Identity, name: Option<&str>, cause: &Cause) -> Result<UserId> {
    if app.settings.registration != Registration::Open {
        let detail = "there is no account of this address, and registration is closed here; ask for an invitation";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "registration_closed", detail));
    }
    let name = line(name).or_else(|| line(identity.email.split('@').next())).unwrap_or_else(|| identity.email.clone());
    let nobodys = Secret::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let password_hash = passwords::hash(nobodys).await?;
    let mut tx = app.db.identity().await?;
    let user = tenants::NewUser { email: &identity.email, name: &name, password_hash: &password_hash };
    let user = tenants::insert_user(&mut tx, &user).await?;
    rows::mark_proven(&mut tx, user).await?;
    let tenant = tenants::insert_tenant(&mut tx, &name).await?;
    tenants::insert_membership(&mut tx, tenant, user, Role::Owner).await?;
    rows::link(&mut tx, user, identity).await?;
    let mut tx = tx.into_tenant(tenant).await?;
    let mails = [NewJob::of(tenant, &SendWelcome { user })?.caused_by(cause)];
    jobs::enqueue(&mut tx, &mails).await?;
    tx.commit().await?;
    app.dispatcher.offer(&mails);
    Ok(user)
}

/// A name on one line, of bounded length.
fn line(text: Option<&str>) -> Option<String> {
    let plain: String = text?.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    let plain = plain.trim();
    (!plain.is_empty()).then(|| plain.to_owned())
}

/// A code that stands for `person`, once, for five minutes. Whoever presents it must show what `challenge` was made of.
pub async fn code_for(app: &App, person: &Person, challenge: Option<[u8; 32]>) -> Result<String> {
    let code = format!("mwo_{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
    let row = Code {
        user_id: person.user,
        wished_tenant: person.wished,
        challenge: challenge.map(|challenge| challenge.to_vec()),
        identity: person.identity.clone(),
    };
    let mut tx = app.db.identity().await?;
    rows::insert_code(&mut tx, token_hash(&code), &row, CODE_VALID_FOR).await?;
    tx.commit().await?;
    Ok(code)
}

/// Opens a session of `person`, after their second factor, and links the identity if it was not. `code` is used up with
/// it.
///
/// # Errors
/// 401 `otp_required` and the like, see [`mfa::second_step`]; then the code stays good.
pub async fn admit(
    app: &App,
    mut tx: IdentityTx,
    person: &Person,
    (otp, code): (Option<&str>, Option<[u8; 32]>),
    (client, cause): (&Client, &Cause),
) -> Result<Session> {
    if !rows::hold(&mut tx, person.user, &person.identity).await? {
        return Err(deactivated());
    }
    let mut tx = mfa::second_step(app, tx, person.user, otp).await?;
    if let Some(code) = code {
        rows::delete_code(&mut tx, code).await?;
    }
    if rows::link(&mut tx, person.user, &person.identity).await? {
        // The one who had the account before hears that there is another way in.
        let mail = SendNotice { user: person.user, notice: Notice::IdentityLinked };
        mails::commit_with(app, tx, &mail, cause).await?;
        tx = app.db.identity().await?;
        if !rows::hold(&mut tx, person.user, &person.identity).await? {
            return Err(deactivated());
        }
    }
    enter(app, tx, person.user, person.wished, client).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_bounded_length() {
        for (text, expected) in [
            (Some(" Ann\r\nArcher "), Some("AnnArcher")),
            (Some(" \t"), None),
            (Some(""), None),
            (None, None),
            (Some("Ä"), Some("Ä")),
        ] {
            assert_eq!(line(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(line(Some(&"é".repeat(300))).unwrap().chars().count(), 200);
    }
}
