//! Bodies of `/invitations`.

use millwork_shared::invitations::queries as rows;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::Time;
use crate::http::types::{Line, MailAddress, Password};

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct NewInvitation {
    #[oai(validator(max_length = 254))]
    pub email: MailAddress,
    /// What they will be: names of roles
    #[oai(validator(min_items = 1, max_items = 20))]
    pub roles: Vec<String>,
}

impl Example for NewInvitation {
    fn example() -> Self {
        Self { email: MailAddress("ben@acme.example".into()), roles: vec!["developer".into()] }
    }
}

/// An invitation that was neither accepted nor taken back.
#[derive(Debug, Object, Serialize)]
pub struct Invitation {
    pub id: Uuid,
    pub email: String,
    /// What they will be: names of roles
    pub roles: Vec<String>,
    /// The member who asks
    pub invited_by: Uuid,
    pub created_at: Time,
    /// When its newest mail was asked for
    pub mailed_at: Time,
    /// Until when it can be accepted
    pub expires_at: Time,
}

impl From<rows::Invitation> for Invitation {
    fn from(row: rows::Invitation) -> Self {
        Self {
            id: row.id.0,
            roles: row.standing.names(),
            email: row.email,
            invited_by: row.invited_by.0,
            created_at: Time(row.created_at),
            mailed_at: Time(row.mailed_at),
            expires_at: Time(row.expires_at),
        }
    }
}

#[derive(Debug, Object, Deserialize)]
#[oai(example)]
pub struct Acceptance {
    /// From the mail
    #[oai(validator(max_length = 200))]
    pub token: String,
    /// What the person is called, if there is no account of the address yet
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Option<Line>,
    /// The account's, or the one that a new account is to have
    #[oai(validator(max_length = 128))]
    pub password: Password,
    /// For people with a second factor: a code of the authenticator app, or a recovery code
    #[oai(validator(max_length = 64))]
    pub otp: Option<String>,
}

impl Example for Acceptance {
    fn example() -> Self {
        Self {
            token: "ZFm0vYb6mV3mD0rJmYkq3v0y6l8F3o2wT1s9xQ4nR5c".into(),
            name: Some(Line("Ben Baker".into())),
            password: Password::example(),
            otp: None,
        }
    }
}
