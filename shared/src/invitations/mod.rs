//! Asking people to join a tenant. Who is asked proves by a token from their mail that the address is theirs.

use std::time::Duration;

/// Payloads of the jobs that this feature asks for.
pub mod jobs;
/// Every statement on invitations.
pub mod queries;

/// How long an invitation is good, from its newest mail on.
pub const VALID_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Open invitations of a tenant.
pub const MOST_OPEN: i64 = 100;
/// Invitations that a tenant makes in a day, whatever becomes of them.
pub const MOST_A_DAY: i64 = 200;
/// Invitations of one address that a tenant makes in a day, whatever becomes of them.
pub const MOST_A_DAY_FOR_ONE: i64 = 3;
/// Mails of one invitation.
pub const MOST_MAILS: i32 = 5;
/// How long until an invitation may be mailed again.
pub const MAIL_AGAIN_AFTER: Duration = Duration::from_secs(600);
