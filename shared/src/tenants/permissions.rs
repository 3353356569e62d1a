//! What may be done: one list, of which everything else is made.

use std::fmt;
use std::str::FromStr;

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

        /// A type for each permission, for signatures that say what they need.
        pub mod to {
            $(
                #[doc = concat!("`", $name, "`")]
                #[derive(Debug, Clone, Copy)]
                pub struct $variant;

                impl super::Needed for $variant {
                    const PERMISSION: super::Permission = super::Permission::$variant;
                }
            )*
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
    ExportsRead = "exports:read",
    ExportsWrite = "exports:write",
    FilesRead = "files:read",
    FilesWrite = "files:write",
    ImportsRead = "imports:read",
    ImportsWrite = "imports:write",
    InvitationsRead = "invitations:read",
    InvitationsWrite = "invitations:write",
    IpRulesRead = "ip_rules:read",
    IpRulesWrite = "ip_rules:write",
    JobsCancel = "jobs:cancel",
    JobsCleanup = "jobs:cleanup",
    JobsRead = "jobs:read",
    JobsRetry = "jobs:retry",
    JobsSubmit = "jobs:submit",
    OwnersWrite = "owners:write",
    PersonalDataErase = "personal_data:erase",
    PersonalDataRead = "personal_data:read",
    QueuesRead = "queues:read",
    QueuesWrite = "queues:write",
    RolesRead = "roles:read",
    RolesWrite = "roles:write",
    SchedulesRead = "schedules:read",
    SchedulesWrite = "schedules:write",
    TenantRead = "tenant:read",
    TenantWrite = "tenant:write",
    UsageRead = "usage:read",
    UsersRead = "users:read",
    UsersWrite = "users:write",
    WebhooksRead = "webhooks:read",
    WebhooksSecret = "webhooks:secret",
    WebhooksWrite = "webhooks:write",
    WorkersRead = "workers:read",
}

/// A permission as a type: those of [`to`].
pub trait Needed: Send + Sync + 'static {
    const PERMISSION: Permission;
}

impl Permission {
    /// What it is about, and what may be done with it.
    pub fn parts(self) -> (&'static str, &'static str) {
        self.as_str().split_once(':').unwrap_or((self.as_str(), ""))
    }
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
pub struct Permissions(u128);

const _: () = assert!(Permission::ALL.len() <= 128, "a permission is one bit of a u128");

impl Permissions {
    /// As they were stored; those that this build does not know are none.
    pub fn stored(names: &[String]) -> Self {
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u128) != 0
    }

    /// These and those.
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are in both.
    pub const fn common(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// The first of `wanted` that is not among them.
    pub fn lacks(self, wanted: Self) -> Option<Permission> {
        Self(wanted.0 & !self.0).iter().next()
    }

    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |p| self.contains(*p))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, p| bits | 1 << p as u128))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_read_as_it_is_written_and_has_two_parts() {
        for &permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
            let (resource, action) = permission.parts();
            assert!(!resource.is_empty() && !action.is_empty(), "{permission}");
        }
        assert_eq!(<to::JobsRead as Needed>::PERMISSION, Permission::JobsRead);
    }
}
