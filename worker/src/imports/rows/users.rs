//! People, who are invited.

use millwork_shared::email::address::is_mail_address;
use millwork_shared::infra::db::TenantTx;
use millwork_shared::invitations::jobs::SendInvitation;
use millwork_shared::invitations::queries::{self, NewInvitation};
use millwork_shared::jobs::{NewJob, queries as jobs};
use millwork_shared::tenants::queries::{members, roles};
use millwork_shared::{Error, Fault, Result};
use serde_json::{Map, Value};

use super::{Became, Maker, text, texts};
use crate::imports::read::{Column, Form};

pub const COLUMNS: &[Column] = &[Column::required("email", Form::Text), Column::required("roles", Form::List)];

/// Roles of one person.
const MOST_ROLES: usize = 20;
const LONGEST_ADDRESS: usize = 254;

pub fn key(row: &Map<String, Value>) -> String {
    text(row, "email").to_lowercase()
}

pub async fn make(maker: &Maker<'_>, tx: &mut TenantTx, row: Map<String, Value>) -> Result<Became> {
    let (email, names) = (text(&row, "email"), texts(&row, "roles").unwrap_or_default());
    let mut faults = Vec::new();
    if email.len() > LONGEST_ADDRESS || !is_mail_address(&email) {
        faults.push(Fault::new("/email", "format", "is no mail address"));
    }
    if names.is_empty() || names.len() > MOST_ROLES {
        faults.push(Fault::new("/roles", "length", format!("has 1 to {MOST_ROLES} names of roles")));
    }
    if !faults.is_empty() {
        return Ok(Became::Refused(faults));
    }
    let tenant = tx.tenant();
    members::lock(tx, tenant).await?;
    let promised = match roles::name(tx, &names).await? {
        Ok(promised) => promised,
        Err(faults) => return Ok(Became::Refused(faults)),
    };
    if let Some(missing) = maker.may.lacks(promised.permissions) {
        let detail = format!("nobody gives what they do not hold, and whoever asked lacks `{missing}`");
        return Ok(Became::Refused(vec![Fault::new("/roles", "permission_missing", detail)]));
    }
    let new = NewInvitation { email: &email, role: promised.built_in, own: &promised.own, invited_by: maker.user };
    let invitation = match queries::insert(tx, &new).await {
        Err(Error::Conflict { code: "already_member" | "already_invited", .. }) => return Ok(Became::Unchanged),
        inserted => inserted?,
    };
    let mail = vec![NewJob::of(tenant, &SendInvitation { invitation })?.caused_by(maker.cause)];
    jobs::enqueue(tx, &mail).await?;
    Ok(Became::Created(mail))
}
