//! Contents page: every feature's handlers.

use std::sync::Arc;

use crate::context::Context;
use crate::http_requests::call::call;
use crate::runtime::{Registry, echo};
use crate::webhooks::deliver::deliver;
use crate::{
    audit, auth, email, exports, files, imports, invitations, jobs, maintenance, objects, personal_data, quotas,
};

/// The handlers of every kind, over one context.
pub fn registry(context: Arc<Context>) -> Registry {
    Registry::over(context)
        .with(echo::echo)
        .with(email::send::send)
        .with(auth::rotate_signing_keys::rotate_signing_keys)
        .with(auth::send_notice::send_notice)
        .with(auth::send_password_reset::send_password_reset)
        .with(auth::send_verification::send_verification)
        .with(auth::send_welcome::send_welcome)
        .with(auth::send_lockout::send_lockout)
        .with(invitations::send::send)
        .with(audit::seal::seal)
        .with(audit::expire::expire)
        .with(quotas::send_notice::send_notice)
        .with(maintenance::roll_partitions)
        .with(maintenance::delete_expired)
        .with(maintenance::delete_finished::delete_finished)
        .with(maintenance::clean_up)
        .with(personal_data::erase::erase)
        .with(imports::run::run)
        .with(exports::run::run)
        .with(exports::send_ready::send_ready)
        .with(files::verify::verify)
        .with(objects::sweep::sweep)
        .with(jobs::bulk::replay)
        .with(jobs::bulk::cancel)
        .with(call)
        .with(deliver)
}
