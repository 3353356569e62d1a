//! Bodies of the routes of rules on addresses.

use ipnet::IpNet;
use millwork_shared::infra::networks;
use millwork_shared::ip_rules::queries::IpRuleRow;
use millwork_shared::ip_rules::{self as rules};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::http::{ApiError, Fault, Result, Time};

/// What becomes of who comes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum IpAction {
    Allow,
    Deny,
}

impl From<IpAction> for rules::Action {
    fn from(action: IpAction) -> Self {
        match action {
            IpAction::Allow => Self::Allow,
            IpAction::Deny => Self::Deny,
        }
    }
}

/// A rule to be kept.
#[derive(Debug, Object, Deserialize)]
#[oai(example)]
#[serde(deny_unknown_fields)]
pub struct NewIpRule {
    pub action: IpAction,
    /// A network, or an address alone: `203.0.113.0/24`, `2001:db8::/32`, `203.0.113.7`
    #[oai(validator(min_length = 1, max_length = 50))]
    pub cidr: String,
    /// What it is for
    #[oai(validator(max_length = 200))]
    pub description: Option<String>,
    /// Keep it even if the caller's own address would be refused from then on. False unless given
    pub force: Option<bool>,
}

impl NewIpRule {
    /// # Errors
    /// 422: it is no network, or an address within one.
    pub fn network(&self) -> Result<IpNet> {
        let fault = |detail| ApiError::invalid(vec![Fault::new("/cidr", "cidr_invalid", detail)]);
        let net = networks::parse(&self.cidr).map_err(fault)?;
        if net != net.trunc() {
            let detail = format!("`{}` is an address within a network; the network is {}", self.cidr, net.trunc());
            return Err(fault(detail));
        }
        Ok(net)
    }
}

impl poem_openapi::types::Example for NewIpRule {
    fn example() -> Self {
        Self {
            action: IpAction::Allow,
            cidr: "203.0.113.0/24".to_owned(),
            description: Some("the office".to_owned()),
            force: None,
        }
    }
}

/// A rule.
#[derive(Debug, Object, Serialize)]
pub struct IpRule {
    pub id: Uuid,
    pub action: IpAction,
    /// The network it is about
    pub cidr: String,
    pub description: String,
    pub created_at: Time,
}

impl From<IpRuleRow> for IpRule {
    fn from(row: IpRuleRow) -> Self {
        Self {
            id: row.id.0,
            action: if row.action == rules::Action::Deny.as_str() { IpAction::Deny } else { IpAction::Allow },
            cidr: row.network,
            description: row.description,
            created_at: Time(row.created_at),
        }
    }
}

/// 409: after this the caller would be refused.
pub fn would_lock_out(address: Option<std::net::IpAddr>) -> ApiError {
    let from = address.map_or("unknown".to_owned(), |address| address.to_string());
    let detail = format!("your own address, {from}, would be refused from then on; send `force` if that is meant");
    ApiError::conflict("would_lock_out", detail).with("address", json!(from))
}
