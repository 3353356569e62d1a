//! Every statement on the tables of webhooks.

mod deliveries;
mod endpoints;
mod outgoing;

pub use deliveries::{DeliveryRow, Filter, get_delivery, list_deliveries};
pub use endpoints::{
    Change, NewWebhook, SealedSecret, WebhookRow, delete, disable, exists_alike, find, get, get_secret, insert, list,
    lock, rotate_secret, update,
};
pub use outgoing::{Outgoing, OutgoingKey, Sender, list_outgoing};
