//! What tenants bring in: rows of a file.

use std::time::Duration;

use crate::named;
use crate::tenants::Permission;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Every statement on `imports` and `import_errors`.
pub mod queries;

/// How long a report can be downloaded.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Imports of a tenant that wait or run at a time.
pub const MOST_LIVE: i64 = 10;
/// Rows of a file.
pub const MOST_ROWS: i64 = 1_000_000;
/// Faults that a report shows.
pub const MOST_FAULTS: i64 = 10_000;
/// What its webhooks are told when an import has come to its end.
pub const FINISHED_EVENT: &str = "import.finished";

named! {
    /// What can be imported.
    Resource: "imported" {
        /// They are invited.
        Users = "users",
        Webhooks = "webhooks",
        EventTypes = "event_types",
    }
}

named! {
    Format: "a format" {
        /// RFC 4180, with a line of names.
        Csv = "csv",
        /// An object a line.
        Ndjson = "ndjson",
    }
}

named! {
    Mode: "a mode" {
        /// Nothing is left but the report.
        DryRun = "dry_run",
        Commit = "commit",
    }
}

impl Resource {
    /// What somebody must hold to make such things.
    pub const fn permission(self) -> Permission {
        match self {
            Self::Users => Permission::InvitationsWrite,
            Self::Webhooks => Permission::WebhooksWrite,
            Self::EventTypes => Permission::EventTypesWrite,
        }
    }
}

impl Format {
    /// By what a file is, and what it is called.
    pub fn of(media_type: &str, name: &str) -> Option<Self> {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
        match (media_type, ending.as_str()) {
            ("application/x-ndjson", _) | (_, "ndjson" | "jsonl") => Some(Self::Ndjson),
            ("text/csv", _) | (_, "csv") => Some(Self::Csv),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_by_type_or_name() {
        assert_eq!(Format::of("text/csv", "x"), Some(Format::Csv));
        assert_eq!(Format::of("text/plain", "People.CSV"), Some(Format::Csv));
        assert_eq!(Format::of("text/plain", "people.jsonl"), Some(Format::Ndjson));
        assert_eq!(Format::of("text/plain", "people.txt"), None);
    }
}
