//! Roles: those that every tenant has, and what a member holds.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Permission, Permissions};
use crate::infra::ids::RoleId;

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
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Developer, Self::Support, Self::Viewer];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Support => "support",
            Self::Viewer => "viewer",
        }
    }

    pub const fn description(self) -> &'static str {
        match self {
            Self::Owner => "Everything, other owners included",
            Self::Admin => "Everything but making and unmaking owners",
            Self::Developer => "Builds on the service: jobs, events, webhooks, schedules, alerts",
            Self::Support => "Sees everything, and cancels or repeats jobs",
            Self::Viewer => "Sees everything but the audit entries",
        }
    }

    /// The same in every tenant.
    pub const fn id(self) -> RoleId {
        RoleId(Uuid::from_u128(0x00000000_0000_7000_8000_000000000105 - self as u128))
    }

    /// Whether the role holds `permission`.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission::*;
        match self {
            Self::Owner => true,
            Self::Admin => permission != OwnersWrite,
            Self::Developer => !matches!(
                permission,
                JobsCleanup
                    | ApiKeysWrite
                    | AuditLogsRead
                    | InvitationsWrite
                    | IpRulesWrite
                    | OwnersWrite
                    | PersonalDataErase
                    | PersonalDataRead
                    | RolesWrite
                    | TenantWrite
                    | UsersWrite
            ),
            Self::Support => {
                matches!(permission, JobsRetry | JobsCancel)
                    || permission.as_str().ends_with(":read") && permission != PersonalDataRead
            }
            Self::Viewer => {
                permission.as_str().ends_with(":read") && !matches!(permission, AuditLogsRead | PersonalDataRead)
            }
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
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or_else(|| format!("`{s}` is not a role"))
    }
}

/// What an active member is: the stored names of their roles, and what the tenant's own ones hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    pub role: Option<String>,
    /// Names of the tenant's own roles.
    pub custom: Vec<String>,
    /// Permissions of the tenant's own roles. Those that this build does not know are no permissions.
    pub extra: Vec<String>,
}

impl Standing {
    /// The role that every tenant has, if the member has one. A name that this build does not know is none.
    pub fn built_in(&self) -> Option<Role> {
        self.role.as_deref().and_then(|role| role.parse().ok())
    }

    /// The name to call the member's roles by, where there is room for one.
    pub fn first(&self) -> &str {
        self.built_in().map(Role::as_str).or(self.custom.first().map(String::as_str)).unwrap_or("none")
    }

    pub fn names(&self) -> Vec<String> {
        self.built_in().iter().map(|role| role.as_str().to_owned()).chain(self.custom.iter().cloned()).collect()
    }

    /// Everything the member may do.
    pub fn permissions(&self) -> Permissions {
        Permissions::stored(&self.extra).with(self.built_in().map(Role::permissions).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_may_do_what_any_of_their_roles_may() {
        let standing = Standing {
            role: Some("support".into()),
            custom: vec!["Billing".into()],
            extra: vec!["api_keys:write".into(), "of:tomorrow".into()],
        };
        let held = standing.permissions();
        assert!(held.contains(Permission::JobsRetry) && held.contains(Permission::ApiKeysWrite));
        assert_eq!(held.iter().count(), Role::Support.permissions().iter().count() + 1);
        assert_eq!(standing.names(), ["support", "Billing"]);
        assert_eq!(Standing::default().permissions(), Permissions::default());
    }

    #[test]
    fn only_owners_hold_what_it_takes_to_touch_an_owner() {
        for role in Role::ALL {
            assert_eq!(role.permissions().lacks(Role::Owner.permissions()).is_none(), role == Role::Owner);
            assert_eq!(role.allows(Permission::OwnersWrite), role == Role::Owner);
        }
    }
}
