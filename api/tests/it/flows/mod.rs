//! From a request to its side effect: API, worker and scheduler over one database.

mod chains;
mod jobs;
