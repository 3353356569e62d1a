//! Brings in rows of files.

/// Records of a file, one after the other.
mod read;
/// What is wrong with rows, as a file.
mod report;
/// What becomes of a row.
mod rows;
/// The kind `import.run`.
pub mod run;
