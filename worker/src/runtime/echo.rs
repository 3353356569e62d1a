//! The kind `echo`.

use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::jobs::Outcome;
use millwork_shared::jobs::kinds::Echo;

use super::Run;
use crate::context::Context;

/// Returns its payload.
pub async fn echo(job: Echo, _run: Arc<Run>, _ctx: Arc<Context>) -> Result<Outcome> {
    Ok(Outcome::Done(Some(job.0)))
}
