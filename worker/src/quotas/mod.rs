//! Mails about quotas.

/// The kind `quotas.send_notice`.
pub mod send_notice;
