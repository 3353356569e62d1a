//! The kind `users.erase`.

use std::collections::BTreeMap;
use std::sync::Arc;

use millwork_shared::Result;
use millwork_shared::audit::queries as audit;
use millwork_shared::events::queries::announce;
use millwork_shared::exports::source::personal::{Fate, SECTIONS, Section};
use millwork_shared::exports::source::{Filters, Position};
use millwork_shared::files::queries as files;
use millwork_shared::infra::db::ledger_now;
use millwork_shared::infra::ids::ActorId;
use millwork_shared::jobs::Outcome;
use millwork_shared::personal_data::jobs::EraseUser;
use millwork_shared::personal_data::{ERASED_EVENT, queries};
use millwork_shared::tenants::queries::members;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tracing::instrument;

use crate::context::Context;
use crate::runtime::Run;

/// Rows that are counted, and files that are deleted, in one transaction.
const PAGE: i64 = 5_000;
const FILES: i64 = 100;

/// Erases a member: counts what is kept of them, deletes their files if that was asked for, then all that goes at once, with the
/// report.
///
/// Safe to run twice: what goes, goes with the report in one transaction, and a run after it finds the report.
#[instrument(name = "job.users.erase", skip_all, fields(user.id = %job.user))]
pub async fn erase(job: EraseUser, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let Some(found) = count(&job, &run, &ctx).await? else { return Ok(Outcome::Cancelled) };
    let Some(deleted) = delete_files(&job, &run, &ctx).await? else { return Ok(Outcome::Cancelled) };
    let mut tx = ctx.db.tenant(run.tenant).await?;
    members::lock(&mut tx, run.tenant).await?;
    members::keep_an_owner(&mut tx, job.user).await?;
    let Some(account) = queries::erase_member(&mut tx, job.user).await? else {
        let report = queries::find_report(&mut tx, job.user).await?;
        return Ok(Outcome::Done(report.map(RawValue::from_string).transpose()?));
    };
    let report = report(&job, account, &found, deleted);
    audit::record(&mut tx, queries::ACTION, ("user", &job.user.to_string()), Some(&report)).await?;
    let told = announce(&mut tx, ERASED_EVENT, &json!({ "user_id": job.user }), &run.cause).await?;
    tx.commit().await?;
    ctx.dispatcher.offer(&told);
    tracing::info!(account, "a member was erased");
    Ok(Outcome::Done(Some(to_raw_value(&report)?)))
}

/// How many rows there are of each section; None when somebody cancelled it.
async fn count(job: &EraseUser, run: &Run, ctx: &Context) -> Result<Option<BTreeMap<&'static str, u64>>> {
    let mut tx = ctx.system.system().await?;
    let until = ledger_now(&mut tx).await?;
    tx.commit().await?;
    let filters = Filters { user_id: Some(job.user.0), ..Filters::default() };
    let mut found = BTreeMap::new();
    for section in SECTIONS {
        let (mut rows, mut position) = (0, Position::START);
        loop {
            if run.cancelled.is_cancelled() {
                return Ok(None);
            }
            let mut tx = ctx.db.tenant(run.tenant).await?;
            let count = |_: &[Option<&str>]| {
                rows += 1;
                Ok(false)
            };
            let (last, more) = section.source.page(&mut tx, &filters, (position, until), PAGE, count).await?;
            tx.commit().await?;
            position = last;
            if !more {
                break;
            }
        }
        found.insert(section.name, rows);
        run.progress(&found);
    }
    Ok(Some(found))
}

/// Answers how many went; None when somebody cancelled it.
async fn delete_files(job: &EraseUser, run: &Run, ctx: &Context) -> Result<Option<u64>> {
    if !job.delete_files {
        return Ok(Some(0));
    }
    let mut deleted = 0;
    loop {
        if run.cancelled.is_cancelled() {
            return Ok(None);
        }
        let mut tx = ctx.db.tenant(run.tenant).await?;
        let some = files::erase_of(&mut tx, ActorId(job.user.0), FILES).await?;
        tx.commit().await?;
        if some == 0 {
            return Ok(Some(deleted));
        }
        deleted += some;
    }
}

/// What was found, and what was done about it.
fn report(job: &EraseUser, account: bool, found: &BTreeMap<&str, u64>, deleted: u64) -> Value {
    let done = |section: &Section| match section.fate {
        Fate::ErasedWithAccount if account => "erased",
        Fate::ErasedWithAccount => "kept: another tenant has the account too",
        Fate::Kept(_) if section.name == "files" && job.delete_files => "deleted",
        fate => fate.text(),
    };
    let sections: Vec<Value> = SECTIONS
        .iter()
        .map(|section| json!({ "section": section.name, "found": found.get(section.name), "done": done(section) }))
        .collect();
    json!({ "account_erased": account, "files_deleted": deleted, "sections": sections })
}
