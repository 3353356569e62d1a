//! Writes what tenants take out.

/// Rows as CSV or JSON.
pub mod encode;
/// gzip and zip, as they come.
mod pack;
/// The kind `export.run`.
pub mod run;
/// The kind `exports.send_ready`.
pub mod send_ready;
