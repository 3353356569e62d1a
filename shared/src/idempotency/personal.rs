//! First answers to people and to staff. Their requests are no tenant's, and hold passwords and tokens (decision 43).

use std::fmt;
use std::ops::DerefMut;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::db::{IdentityTx, StaffTx};
use crate::infra::ids::{StaffId, UserId};

/// A transaction through a door that these answers are behind.
pub trait PersonalTx: DerefMut<Target = PgConnection> + Send {}
impl PersonalTx for IdentityTx {}
impl PersonalTx for StaffTx {}

/// Whose keys they are: nobody meets another's.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// Somebody who is signed in.
    Person(UserId),
    /// Whoever has this token from a mail or a console, or writes of this mail address.
    Bearer(&'a str),
    Staff(StaffId),
}

/// One asker's key for one route, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    pub fn of(asker: Asker<'_>, route: &str, key: &str) -> Self {
        let (kind, name) = match asker {
            Asker::Person(user) => ("person", user.to_string()),
            Asker::Bearer(what) => ("bearer", what.to_lowercase()),
            Asker::Staff(staff) => ("staff", staff.to_string()),
        };
        let mut digest = Sha256::new();
        for part in [&name, route, key] {
            digest.update((part.len() as u64).to_be_bytes()); // else two askers could share a scope
            digest.update(part);
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{kind}/{digest}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer that a key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalAnswer {
    /// SHA-256 of the request's body.
    pub body_hash: [u8; 32],
    pub status: u16,
    pub location: Option<String>,
    pub body: String,
}

impl PersonalAnswer {
    pub(super) fn seal(&self, keys: &KeyRing, scope: &Scope) -> Result<Vec<u8>> {
        keys.seal(&context(scope.as_str()), &serde_json::to_vec(self).map_err(anyhow::Error::from)?)
    }

    pub(super) fn open(keys: &KeyRing, scope: &Scope, sealed: &[u8]) -> Result<Self> {
        let plain = keys.open(&context(scope.as_str()), sealed)?;
        Ok(serde_json::from_slice(&plain).map_err(anyhow::Error::from)?)
    }
}

pub(crate) fn context(scope: &str) -> String {
    format!("personal_answers/{scope}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_of_one_asker_one_route_and_one_key() {
        let scopes = [
            Scope::of(Asker::Bearer("a@x.example"), "POST /a", "k"),
            Scope::of(Asker::Bearer("b@x.example"), "POST /a", "k"),
            Scope::of(Asker::Bearer("a@x.example"), "POST /b", "k"),
            Scope::of(Asker::Bearer("a@x.example"), "POST /a", "l"),
            Scope::of(Asker::Bearer("a@x.exampleP"), "OST /a", "k"),
            Scope::of(Asker::Bearer("a@x.example"), "POST /ak", ""),
        ];
        for (n, scope) in scopes.iter().enumerate() {
            assert!(!scopes[..n].contains(scope), "{n}");
        }
        assert_eq!(
            Scope::of(Asker::Bearer("A@x.example"), "POST /a", "k"),
            scopes[0],
            "addresses in any case of letters"
        );
        assert!(scopes[0].as_str().starts_with("bearer/") && scopes[0].as_str().len() == 71);
    }
}
