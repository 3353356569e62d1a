//! Who changed what, when and from where.
//!
//! Triggers write the entries, so that no change of a configuration can be forgotten; reads that matter are written down by
//! `queries::record`. Both take who asked from the transaction's setting `app.origin`, which every door sets with its BEGIN
//! from the `Origin` of the running task. A worker's job then seals entries into a chain per tenant (`chain`).

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::infra::ids::{ApiKeyId, JobId, StaffId, UserId};

/// The chain of a tenant's entries: how it is made, and how one finds that somebody touched it.
pub mod chain;
/// Payloads of the jobs that seal entries and let old ones go.
pub mod jobs;
/// Every statement on `audit_logs` and `audit_chains`.
pub mod queries;
/// Looks whether somebody touched a tenant's entries.
pub mod verify;

/// What is kept of a client's name for itself.
const USER_AGENT_CHARS: usize = 300;

/// Whose doing the changes of a task are.
#[derive(Debug, Default)]
pub struct Origin {
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    request_id: Option<String>,
    actor: OnceLock<Actor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    User(UserId),
    ApiKey(ApiKeyId),
    Job(JobId),
    Staff(StaffId),
}

tokio::task_local! {
    static ORIGIN: Arc<Origin>;
}

/// Runs `work` with `origin` as that of every transaction it begins.
pub async fn within<T>(origin: Origin, work: impl Future<Output = T>) -> T {
    ORIGIN.scope(Arc::new(origin), work).await
}

/// Takes the origin of the running task along into another one.
pub fn inherit<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let origin = ORIGIN.try_with(Arc::clone).unwrap_or_default();
    ORIGIN.scope(origin, work)
}

/// Says who acts, once that is known.
pub fn act_as(actor: Actor) {
    let _ = ORIGIN.try_with(|origin| origin.actor.set(actor));
}

impl Origin {
    /// A request's. Who makes it is said when it is known: see [`act_as`].
    pub fn of_request(ip: Option<IpAddr>, user_agent: Option<&str>, request_id: &str) -> Self {
        let user_agent = user_agent.map(|name| name.chars().take(USER_AGENT_CHARS).collect());
        Self { ip, user_agent, request_id: Some(request_id.to_owned()), actor: OnceLock::new() }
    }

    /// A job's own doing, in the name of the request that caused it.
    pub fn of_job(job: JobId, request_id: Option<String>) -> Self {
        Self { request_id, actor: Actor::Job(job).into(), ..Self::default() }
    }

    /// As `app.origin` holds it.
    fn setting(&self) -> String {
        let (kind, id) = match self.actor.get() {
            Some(Actor::User(id)) => (Some("user"), Some(id.0)),
            Some(Actor::ApiKey(id)) => (Some("api_key"), Some(id.0)),
            Some(Actor::Job(id)) => (Some("job"), Some(id.0)),
            Some(Actor::Staff(id)) => (Some("staff"), Some(id.0)),
            None => (None, None),
        };
        let origin = json!({
            "actor_type": kind,
            "actor_id": id,
            "ip": self.ip,
            "user_agent": self.user_agent,
            "request_id": self.request_id,
        });
        STANDARD.encode(origin.to_string())
    }
}

/// What a door adds to its BEGIN: base64, in which nothing that a client sent can end the quotes.
pub(crate) fn begin_setting() -> String {
    let setting = ORIGIN.try_with(|origin| format!("; set local app.origin = '{}'", origin.setting()));
    setting.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_a_client_gets_out_of_the_quotes() {
        let name = "'; drop table audit_logs; --\\".repeat(40);
        let origin = Origin::of_request(None, Some(&name), "r");
        let setting = within(origin, async {
            act_as(Actor::User(UserId::generate()));
            begin_setting()
        });
        let setting = setting.await;
        let value = setting.strip_prefix("; set local app.origin = '").and_then(|s| s.strip_suffix('\'')).unwrap();
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)), "{value}");
        let stored: serde_json::Value = serde_json::from_slice(&STANDARD.decode(value).unwrap()).unwrap();
        assert_eq!(stored["user_agent"].as_str().unwrap().chars().count(), USER_AGENT_CHARS);
        assert_eq!(stored["actor_type"], "user");
    }

    #[test]
    fn without_a_request_there_is_no_setting() {
        assert_eq!(begin_setting(), "");
    }
}
