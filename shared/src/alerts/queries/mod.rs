//! Every statement on alerts.

mod backlogs;
mod failures;
mod kept;
mod publish;

pub use backlogs::{Checked, check_queues};
pub use failures::{mail_failures, note_failures};
pub use kept::{AlertRow, Change, NewAlert, delete, get, insert, list, lock, update};
