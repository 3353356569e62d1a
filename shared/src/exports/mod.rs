//! What tenants take out: rows of theirs as a file.

use std::time::Duration;

use crate::named;
use crate::tenants::Permission;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Every statement on `exports`.
pub mod queries;
/// What is exported, page by page.
pub mod source;

/// How long an export can be downloaded.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Exports of a tenant that wait or run at a time.
pub const MOST_LIVE: i64 = 10;
/// What its webhooks are told when an export is ready.
pub const READY_EVENT: &str = "export.ready";

named! {
    /// What can be exported.
    Resource: "exported" {
        Jobs = "jobs",
        Attempts = "attempts",
        Events = "events",
        Deliveries = "deliveries",
        AuditLogs = "audit_logs",
        Users = "users",
        Files = "files",
        /// All that is kept of one person.
        PersonalData = "personal_data",
    }
}

named! {
    Format: "a format" {
        /// RFC 4180, with a line of names, and nothing that a spreadsheet takes for a formula.
        Csv = "csv",
        /// One array.
        Json = "json",
        /// An object a line.
        Ndjson = "ndjson",
    }
}

named! {
    Compression: "a compression" {
        Gzip = "gzip",
        Zip = "zip",
    }
}

impl Resource {
    /// What somebody must hold to read it.
    pub const fn permission(self) -> Permission {
        match self {
            Self::Jobs | Self::Attempts => Permission::JobsRead,
            Self::Events => Permission::EventsRead,
            Self::Deliveries => Permission::WebhooksRead,
            Self::AuditLogs => Permission::AuditLogsRead,
            Self::Users => Permission::UsersRead,
            Self::Files => Permission::FilesRead,
            Self::PersonalData => Permission::PersonalDataRead,
        }
    }
}

impl Format {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

impl Compression {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/gzip",
            Self::Zip => "application/zip",
        }
    }
}

/// What an export is saved as: `jobs.csv.gz`.
pub fn file_name(resource: Resource, format: Format, compress: Option<Compression>) -> String {
    let plain = format!("{}.{}", resource.as_str(), format.as_str());
    match compress {
        None => plain,
        Some(Compression::Gzip) => format!("{plain}.gz"),
        Some(Compression::Zip) => format!("{plain}.zip"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_told_what_there_is() {
        assert!(Resource::ALL.iter().all(|resource| resource.as_str().parse() == Ok(*resource)));
        assert_eq!("xml".parse::<Format>().unwrap_err(), "`xml` is not a format; those are csv, json, ndjson");
        assert_eq!(file_name(Resource::AuditLogs, Format::Csv, Some(Compression::Gzip)), "audit_logs.csv.gz");
    }
}
