//! From names to roles.

use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::RoleId;
use millwork_shared::tenants::queries::roles as rows;
use millwork_shared::tenants::{Permissions, Role};

use super::grant;
use crate::http::{ApiError, Fault, Result};

/// Roles that were asked for by name.
#[derive(Debug, Default)]
pub struct Named {
    /// The one that every tenant has.
    pub built_in: Option<Role>,
    /// The tenant's own.
    pub own: Vec<RoleId>,
    /// Everything they hold.
    pub permissions: Permissions,
}

/// # Errors
/// 422 for a name that a role of every tenant has.
pub fn check_free(name: &str) -> Result<()> {
    if Role::ALL.iter().all(|role| !role.as_str().eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let detail = format!("every tenant has a role `{name}` already");
    Err(ApiError::invalid(vec![Fault::new("/name", "not_allowed", detail)]))
}

/// The roles of these names.
///
/// # Errors
/// 422 for a name that no role has, and for a second role of those that every tenant has.
pub async fn find(tx: &mut TenantTx, names: &[String]) -> Result<Named> {
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let known = rows::find_named(tx, &wanted).await?;
    let (mut found, mut faults) = (Named::default(), Vec::new());
    for (n, name) in names.iter().enumerate() {
        let mut fault = |code, detail: String| faults.push(Fault::new(format!("/roles/{n}"), code, detail));
        if let Ok(role) = name.parse::<Role>() {
            if found.built_in.is_some_and(|other| other != role) {
                fault("exclusive", "a member has one of the roles of every tenant; make one of your own".to_owned());
            }
            found.built_in = Some(role);
            found.permissions = found.permissions.with(role.permissions());
        } else if let Some(row) = known.iter().find(|row| row.name.to_lowercase() == name.to_lowercase()) {
            if !found.own.contains(&row.id) {
                found.own.push(row.id);
            }
            found.permissions = found.permissions.with(grant::stored(&row.permissions));
        } else {
            let name: String = name.chars().take(100).collect();
            fault("unknown", format!("there is no role `{name}`; see GET /roles"));
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(ApiError::invalid(faults)) }
}
