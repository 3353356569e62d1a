//! The one domain error.

use crate::infra::db;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong below the surface of a process.
///
/// `api` maps it to a status and a problem document, `worker` to a retry decision, both exhaustively.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Absent, or another tenant's: the two are never told apart.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The state of `what` forbids the request. `code` is stable and for programs.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// A dependency does not answer; the same request may succeed in a moment.
    #[error("{dependency} is unavailable: {cause}")]
    Unavailable { dependency: &'static str, cause: String },
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

impl Error {
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into() }
    }

    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if db::is_unavailable(&error) {
            Self::Unavailable { dependency: "database", cause: error.to_string() }
        } else {
            Self::Internal(error.into())
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(error.into())
    }
}

/// Turns the violation of a *named* database constraint into a domain error.
pub trait OnConstraint<T> {
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint(self, name: &str, error: impl FnOnce() -> Error) -> Result<T> {
        self.map_err(|e| match &e {
            sqlx::Error::Database(db) if db.constraint() == Some(name) => error(),
            _ => e.into(),
        })
    }
}
