//! Tenants, and the roles people hold in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a tenant pays for.
mod plan;
/// Every statement on tenants, people and memberships.
pub mod queries;

pub use plan::Plan;

/// Declares every permission once: variant and `resource:action`.
macro_rules! permissions {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What a caller may do, `resource:action`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission { $($variant),* }

        impl Permission {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

permissions! {
    AlertsRead = "alerts:read",
    AlertsWrite = "alerts:write",
    ApiKeysRead = "api_keys:read",
    ApiKeysWrite = "api_keys:write",
    AuditLogsRead = "audit_logs:read",
    EventTypesRead = "event_types:read",
    EventTypesWrite = "event_types:write",
    EventsPublish = "events:publish",
    EventsRead = "events:read",
    JobsCancel = "jobs:cancel",
    JobsCleanup = "jobs:cleanup",
    JobsRead = "jobs:read",
    JobsRetry = "jobs:retry",
    JobsSubmit = "jobs:submit",
    QueuesRead = "queues:read",
    QueuesWrite = "queues:write",
    SchedulesRead = "schedules:read",
    SchedulesWrite = "schedules:write",
    UsageRead = "usage:read",
    WebhooksRead = "webhooks:read",
    WebhooksSecret = "webhooks:secret",
    WebhooksWrite = "webhooks:write",
    WorkersRead = "workers:read",
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|p| p.as_str() == s).ok_or_else(|| {
            format!(
                "`{s}` is not a permission; they are {}",
                Self::ALL.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ")
            )
        })
    }
}

/// A set of permissions, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u64);

const _: () = assert!(Permission::ALL.len() <= 64, "a permission is one bit of a u64");

impl Permissions {
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u64) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |p| self.contains(*p))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, p| bits | 1 << p as u64))
    }
}

/// A built-in role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Admin,
    Developer,
    Support,
    Viewer,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Support => "support",
            Self::Viewer => "viewer",
        }
    }

    /// Whether the role holds `permission`.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission::*;
        match self {
            Self::Owner | Self::Admin => true,
            Self::Developer => !matches!(permission, JobsCleanup | ApiKeysWrite | AuditLogsRead),
            Self::Support => permission.as_str().ends_with(":read") || matches!(permission, JobsRetry | JobsCancel),
            Self::Viewer => permission.as_str().ends_with(":read") && permission != AuditLogsRead,
        }
    }

    /// Everything the role may do.
    pub fn permissions(self) -> Permissions {
        Permission::ALL.iter().copied().filter(|p| self.allows(*p)).collect()
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Owner, Self::Admin, Self::Developer, Self::Support, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == s)
            .ok_or_else(|| format!("`{s}` is not a role"))
    }
}
