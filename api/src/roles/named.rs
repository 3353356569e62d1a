//! From names to roles.

use millwork_shared::infra::db::TenantTx;
use millwork_shared::tenants::Role;
use millwork_shared::tenants::queries::roles::{self as rows, Named};

use crate::http::{ApiError, Fault, Result};

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
    rows::name(tx, names).await?.map_err(ApiError::invalid)
}
