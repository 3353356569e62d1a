//! No one grants what they do not hold.

use millwork_shared::tenants::{Permission, Permissions};

use crate::http::{ApiError, Caller, Fault, Result};

/// Reads permission names; every one that is none is a fault.
pub fn parse(names: &[String]) -> Result<Permissions> {
    let mut faults = Vec::new();
    let mut permissions = Vec::new();
    for (n, name) in names.iter().enumerate() {
        match name.parse::<Permission>() {
            Ok(permission) => permissions.push(permission),
            Err(detail) => faults.push(Fault::new(format!("/permissions/{n}"), "not_allowed", detail)),
        }
    }
    if faults.is_empty() { Ok(permissions.into_iter().collect()) } else { Err(ApiError::invalid(faults)) }
}

/// Whether the caller may give and take `permissions`, and touch who or what has them.
///
/// # Errors
/// 403 naming the first permission that the caller does not hold.
pub fn holds_all(caller: &Caller, permissions: Permissions) -> Result<()> {
    caller.permissions.lacks(permissions).map_or(Ok(()), |missing| Err(ApiError::forbidden(missing)))
}
