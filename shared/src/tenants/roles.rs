//! The roles that every tenant has.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Permission, Permissions};

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

    /// Whether the role holds `permission`.
    pub fn allows(self, permission: Permission) -> bool {
        use Permission::*;
        match self {
            Self::Owner | Self::Admin => true,
            Self::Developer => !matches!(permission, JobsCleanup | ApiKeysWrite | AuditLogsRead | IpRulesWrite),
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
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or_else(|| format!("`{s}` is not a role"))
    }
}
