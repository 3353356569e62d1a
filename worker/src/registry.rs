//! Contents page: every feature's handlers.

use std::sync::Arc;

use crate::context::Context;
use crate::http_requests::call::call;
use crate::maintenance;
use crate::runtime::{Registry, echo};
use crate::webhooks::deliver::deliver;

/// The handlers of every kind, over one context.
pub fn registry(context: Arc<Context>) -> Registry {
    Registry::over(context)
        .with(echo::echo)
        .with(maintenance::roll_partitions)
        .with(maintenance::delete_expired)
        .with(maintenance::clean_up)
        .with(call)
        .with(deliver)
}
