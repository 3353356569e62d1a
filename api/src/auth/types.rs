//! Bodies of the identity routes.

use millwork_shared::auth::queries::identities::LinkedIdentity as LinkedIdentityRow;
use millwork_shared::auth::queries::sessions::OpenSession as OpenSessionRow;
use millwork_shared::infra::ids::{SessionId, TenantId};
use millwork_shared::tenants::queries as rows;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::types::{Line, MailAddress, Password};
use crate::http::{Caller, Credential, Time};
use crate::tenants::types::Tenant;

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Register {
    /// What the tenant is called
    #[oai(validator(min_length = 1, max_length = 200))]
    pub tenant_name: Line,
    /// What the person is called
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Line,
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    #[oai(validator(min_length = 12, max_length = 128))]
    pub password: Password,
}

impl Example for Register {
    fn example() -> Self {
        Self {
            tenant_name: Line("Acme Ltd".into()),
            name: Line("Ann Archer".into()),
            email: MailAddress("ann@acme.example".into()),
            password: Password::example(),
        }
    }
}

impl Register {
    pub fn user<'a>(&'a self, password_hash: &'a str) -> rows::NewUser<'a> {
        rows::NewUser { email: &self.email.0, name: &self.name.0, password_hash }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Login {
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    #[oai(validator(max_length = 128))]
    pub password: Password,
    /// For people who belong to several tenants
    pub tenant_id: Option<Uuid>,
    /// For people with a second factor: a code of the authenticator app, or a recovery code
    #[oai(validator(max_length = 64))]
    pub otp: Option<String>,
}

impl Example for Login {
    fn example() -> Self {
        Self {
            email: MailAddress("ann@acme.example".into()),
            password: Password::example(),
            tenant_id: None,
            otp: None,
        }
    }
}

#[derive(Debug, Object, Deserialize)]
pub struct RefreshRequest {
    #[oai(validator(max_length = 200))]
    pub refresh_token: String,
}

#[derive(Debug, Object, Deserialize)]
pub struct Switch {
    pub tenant_id: Uuid,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct ForgotPassword {
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
}

impl Example for ForgotPassword {
    fn example() -> Self {
        Self { email: MailAddress("ann@acme.example".into()) }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct ResetPassword {
    /// From the mail
    #[oai(validator(max_length = 200))]
    pub token: String,
    /// The new one
    #[oai(validator(min_length = 12, max_length = 128))]
    pub password: Password,
}

impl Example for ResetPassword {
    fn example() -> Self {
        Self { token: "ZFm0vYb6mV3mD0rJmYkq3v0y6l8F3o2wT1s9xQ4nR5c".into(), password: Password::example() }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct ChangePassword {
    #[oai(validator(max_length = 128))]
    pub current_password: Password,
    /// The new one
    #[oai(validator(min_length = 12, max_length = 128))]
    pub password: Password,
}

impl Example for ChangePassword {
    fn example() -> Self {
        Self { current_password: Password::example(), password: Password::example() }
    }
}

/// A mail is under way, if there is someone to send it to.
#[derive(Debug, Object, Serialize)]
pub struct MailAsked {
    /// For people
    pub message: String,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct PasswordAgain {
    #[oai(validator(max_length = 128))]
    pub current_password: Password,
}

impl Example for PasswordAgain {
    fn example() -> Self {
        Self { current_password: Password::example() }
    }
}

#[derive(Debug, Object, Deserialize)]
pub struct Otp {
    /// A code of the authenticator app
    #[oai(validator(max_length = 64))]
    pub otp: String,
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct PasswordAndOtp {
    #[oai(validator(max_length = 128))]
    pub current_password: Password,
    /// A code of the authenticator app, or a recovery code
    #[oai(validator(max_length = 64))]
    pub otp: String,
}

impl Example for PasswordAndOtp {
    fn example() -> Self {
        Self { current_password: Password::example(), otp: "123456".into() }
    }
}

/// A second factor.
#[derive(Debug, Object, Serialize)]
pub struct Factor {
    /// Whether sign-in asks for a code
    pub enabled: bool,
    pub recovery_codes_left: i64,
}

/// The secret of an authenticator app, shown this once.
#[derive(Debug, Object, Serialize)]
pub struct TotpSecret {
    /// Base32
    pub secret: String,
    /// For a QR code
    pub uri: String,
}

impl TotpSecret {
    pub fn new(email: &str, secret: String) -> Self {
        let account: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
        Self { uri: format!("otpauth://totp/Millwork:{account}?secret={secret}&issuer=Millwork"), secret }
    }
}

/// Shown this once.
#[derive(Debug, Object, Serialize)]
pub struct RecoveryCodes {
    pub recovery_codes: Vec<String>,
}

/// A session that goes on.
#[derive(Debug, Object, Serialize)]
pub struct OpenSession {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub tenant_name: String,
    /// Whether it is the one that asks
    pub current: bool,
    /// From where it was last refreshed
    pub address: Option<String>,
    /// By what it was last refreshed
    pub user_agent: Option<String>,
    pub created_at: Time,
    pub refreshed_at: Time,
    /// When it ends if it is not refreshed
    pub expires_at: Time,
}

impl OpenSession {
    pub fn new(row: OpenSessionRow, current: SessionId) -> Self {
        Self {
            id: row.id.0,
            tenant_id: row.tenant_id.0,
            tenant_name: row.tenant_name,
            current: row.id == current,
            address: row.address,
            user_agent: row.user_agent,
            created_at: Time(row.created_at),
            refreshed_at: Time(row.refreshed_at),
            expires_at: Time(row.expires_at),
        }
    }
}

/// Another provider by which the person signs in.
#[derive(Debug, Object, Serialize)]
pub struct LinkedIdentity {
    pub id: Uuid,
    /// The name of `GET /auth/oauth/{provider}`, when it was linked
    pub provider: String,
    /// The provider's own name
    pub issuer: String,
    /// The person's address there, when it was linked
    pub email: String,
    pub created_at: Time,
}

impl From<LinkedIdentityRow> for LinkedIdentity {
    fn from(row: LinkedIdentityRow) -> Self {
        let LinkedIdentityRow { id, provider, issuer, email, created_at } = row;
        Self { id: id.0, provider, issuer, email, created_at: Time(created_at) }
    }
}

/// A tenant that the person belongs to.
#[derive(Debug, Object, Serialize)]
pub struct Membership {
    pub tenant: TenantName,
    pub roles: Vec<String>,
    /// Whether the token is for this one
    pub current: bool,
    pub joined_at: Time,
}

#[derive(Debug, Object, Serialize)]
pub struct TenantName {
    pub id: Uuid,
    pub name: String,
}

impl Membership {
    pub fn new(row: rows::MembershipOf, current: TenantId) -> Self {
        Self {
            current: row.tenant_id == current,
            tenant: TenantName { id: row.tenant_id.0, name: row.tenant_name },
            roles: row.standing.names(),
            joined_at: Time(row.joined_at),
        }
    }
}

#[derive(Debug, Object, Deserialize)]
pub struct VerifyEmail {
    /// From the mail
    #[oai(validator(max_length = 200))]
    pub token: String,
}

/// A fresh pair of tokens.
#[derive(Debug, Object, Serialize)]
pub struct Tokens {
    /// Send it as `Authorization: Bearer …`
    pub access_token: String,
    /// Good once, for `/auth/refresh`
    pub refresh_token: String,
    /// `Bearer`
    pub token_type: String,
    /// Seconds until the access token expires
    pub expires_in: u32,
}

/// A session that was just opened.
#[derive(Debug, Object, Serialize)]
pub struct Session {
    pub user: User,
    pub tenant: Tenant,
    /// Send it as `Authorization: Bearer …`
    pub access_token: String,
    /// Good once, for `/auth/refresh`
    pub refresh_token: String,
    /// `Bearer`
    pub token_type: String,
    /// Seconds until the access token expires
    pub expires_in: u32,
}

impl Session {
    pub fn new(user: rows::User, tenant: rows::Tenant, tokens: Tokens) -> Self {
        let Tokens { access_token, refresh_token, token_type, expires_in } = tokens;
        Self { user: user.into(), tenant: tenant.into(), access_token, refresh_token, token_type, expires_in }
    }
}

/// A person.
#[derive(Debug, Object, Serialize)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub name: String,
    /// When the address was proven
    pub email_verified_at: Option<Time>,
    pub created_at: Time,
}

impl From<rows::User> for User {
    fn from(row: rows::User) -> Self {
        Self {
            id: row.id.0,
            email: row.email,
            name: row.name,
            email_verified_at: row.verified_at.map(Time),
            created_at: Time(row.created_at),
        }
    }
}

/// Who a token speaks for, and what it may do.
#[derive(Debug, Object, Serialize)]
pub struct Me {
    pub user: User,
    pub tenant: Tenant,
    /// Roles in this tenant; empty for an API key, which has permissions of its own
    pub roles: Vec<String>,
    /// Everything this token may do, as `resource:action`
    pub permissions: Vec<String>,
    /// When the token is an API key: which one
    pub api_key_id: Option<Uuid>,
    /// When it is not: the session
    pub session_id: Option<Uuid>,
}

impl Me {
    pub fn new(caller: &Caller, user: rows::User, tenant: rows::Tenant) -> Self {
        Self {
            user: user.into(),
            tenant: tenant.into(),
            roles: caller.roles.clone(),
            permissions: caller.permissions.iter().map(|p| p.as_str().to_owned()).collect(),
            api_key_id: match caller.credential {
                Credential::ApiKey(id) => Some(id.0),
                Credential::Session(_) => None,
            },
            session_id: match caller.credential {
                Credential::ApiKey(_) => None,
                Credential::Session(id) => Some(id.0),
            },
        }
    }
}
