//! Mails that ask people to join a tenant.

/// The kind `invitations.send`.
pub mod send;
