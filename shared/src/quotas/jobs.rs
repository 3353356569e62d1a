//! Payloads of the jobs that this feature asks for.

use serde::{Deserialize, Serialize};

use crate::infra::ids::UserId;
use crate::jobs::{Job, Queue};

/// Tells an owner that a quota is nearly, or wholly, used up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendQuotaNotice {
    pub user: UserId,
    /// What is counted: a [`Metric`](super::Metric), or `storage`.
    pub metric: String,
    pub percent: i16,
    pub limit: i64,
}

impl Job for SendQuotaNotice {
    const KIND: &'static str = "quotas.send_notice";
    const QUEUE: Queue = Queue::Email;
}
