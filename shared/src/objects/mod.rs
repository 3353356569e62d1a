//! Everything in storage, of whichever feature: a row an object.
//!
//! The row comes first and goes last, so that no crash leaves an object that nobody knows of, or a row that promises one
//! that is not there:
//!
//! 1. [`begin`](crate::objects::queries::begin) makes the row, `pending`, and takes what it reserves of the tenant's quota: committed.
//! 2. The object is written under [`Key`](crate::infra::storage::Key); whoever writes it renews the row by
//!    [`touch`](crate::objects::queries::touch) every [`TOUCH`](crate::objects::TOUCH).
//! 3. [`store`](crate::objects::queries::store) makes the row `stored`, in the transaction of the row that refers to it.
//! 4. [`delete`](crate::objects::queries::delete) makes it `deleted`; after a grace period the sweep deletes the object, then the row.
//!
//! What stopped between the first step and the third is found by the sweep, for nobody renews it.

use std::time::Duration;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Links for who has no token.
pub mod link;
/// Every statement on `objects`.
pub mod queries;
/// What a sweep asks and writes.
pub mod sweep;

/// How often the writer of an object says that it is still at it.
pub const TOUCH: Duration = Duration::from_secs(60);

/// How long nobody may say of an object that they are at it, before the sweep gives it up.
pub const GRACE: Duration = Duration::from_secs(3_600);

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// A version of a file: counts against the tenant's quota.
    File,
    /// What an export wrote.
    Export,
    /// What was wrong with the rows of an import.
    Report,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Export => "export",
            Self::Report => "report",
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
