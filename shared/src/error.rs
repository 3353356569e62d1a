//! The one domain error.

use std::fmt;

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

/// Where the cause of a failure lies: `error.category` in log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Whoever asked must change what they ask.
    Client,
    /// A fault of ours.
    Server,
    /// Something that we need does not do its part: a store, a mail server, a third party.
    Dependency,
}

impl Category {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Dependency => "dependency",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    pub const fn category(&self) -> Category {
        match self {
            Self::NotFound(_) | Self::Conflict { .. } | Self::Invalid { .. } => Category::Client,
            Self::Unavailable { .. } => Category::Dependency,
            Self::Internal(_) => Category::Server,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobError;

    #[test]
    fn a_failure_lies_with_who_asked_with_what_we_need_or_with_us() {
        for (error, category) in [
            (Error::NotFound("job"), "client"),
            (Error::conflict("x", "y"), "client"),
            (Error::invalid("x", "y"), "client"),
            (sqlx::Error::PoolTimedOut.into(), "dependency"),
            (sqlx::Error::RowNotFound.into(), "server"),
            (anyhow::anyhow!("x").into(), "server"),
        ] {
            assert_eq!(error.category().to_string(), category, "{error:?}");
        }
        for (codes, category) in [
            (&["internal", "panic", "kind_unknown", JobError::WORKER_LOST][..], Category::Server),
            (&["unavailable", "http_status", "timeout", "smtp_550", "mail_unreachable"], Category::Dependency),
            (&["payload_invalid", "refused_address", "mail_address", "webhook_deleted", "not_found"], Category::Client),
        ] {
            for code in codes {
                assert_eq!(JobError::new(code, "x").category(), category, "{code}");
            }
        }
    }
}
