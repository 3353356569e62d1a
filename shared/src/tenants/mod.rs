//! Tenants, and the roles people hold in them.

/// What may be done.
mod permissions;
/// What a tenant pays for.
mod plan;
/// Every statement on tenants, people, memberships and roles.
pub mod queries;
/// The roles that every tenant has.
mod roles;

pub use permissions::{Needed, Permission, Permissions, to};
pub use plan::Plan;
pub use roles::{Role, Standing};
