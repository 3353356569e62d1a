//! The people who run the platform, apart from tenants and their people, and what they do about tenants (decision
//! 0033).

use crate::infra::ids::{StaffId, StaffSessionId};

/// What staff look at, over all tenants.
pub mod feed;
/// Every statement on `staff` and `staff_sessions`.
pub mod queries;
/// What staff do about tenants.
pub mod tenants;
/// What staff do about people.
pub mod users;

/// Somebody of the staff who has proven who they are.
///
/// Only [`queries::authenticate`] makes one, and [`Db::staff`](crate::infra::db::Db::staff) opens its door to nobody
/// else: a handler of a tenant's request has none to show.
#[derive(Debug, Clone)]
pub struct Staff {
    id: StaffId,
    email: String,
    name: String,
    session: StaffSessionId,
}

impl Staff {
    pub fn id(&self) -> StaffId {
        self.id
    }

    pub fn email(&self) -> &str {
        &self.email
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn session(&self) -> StaffSessionId {
        self.session
    }
}
