//! The kind `import.run`.

use std::collections::HashSet;
use std::sync::Arc;

use millwork_shared::events::queries::announce;
use millwork_shared::files::queries as files;
use millwork_shared::imports::jobs::RunImport;
use millwork_shared::imports::queries::{self as rows, Counts, ImportRow};
use millwork_shared::imports::{FINISHED_EVENT, MOST_ROWS, Mode, Resource};
use millwork_shared::infra::db::TenantTx;
use millwork_shared::infra::ids::RunId;
use millwork_shared::infra::storage::Key;
use millwork_shared::jobs::{JobError, Outcome};
use millwork_shared::objects::{Purpose, queries as objects};
use millwork_shared::tenants::Permissions;
use millwork_shared::tenants::queries::members;
use millwork_shared::{Error, Fault, Result};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::mpsc::Receiver;
use tracing::instrument;

use super::read::{Record, Stop, records};
use super::report;
use super::rows::{Became, Maker, columns, key};
use crate::context::Context;
use crate::runtime::Run;

/// Rows that are made in one transaction.
const CHUNK: usize = 200;

/// Makes what a file's rows say, chunk by chunk.
///
/// Safe to run twice: how far it is, is committed with the rows of a chunk, by the run alone that has the import. A dry run rolls
/// each chunk back, and begins anew.
#[instrument(name = "job.import.run", skip_all, fields(import.id = %job.import))]
pub async fn run(job: RunImport, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let token = RunId::generate();
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let Some(import) = rows::take(&mut tx, job.import, token).await? else { return ended(&mut tx, &job).await };
    let (resource, format, mode) = import.kind()?;
    let may = match may(&mut tx, &import, resource).await? {
        Ok(may) => may,
        Err(refused) => return Ok(Outcome::Fail(refused)),
    };
    let file = match files::readable(&mut tx, import.file_id, Some(import.number)).await {
        Err(Error::NotFound(_)) => {
            return Ok(Outcome::Fail(JobError::new("file_gone", "the file is not there any more")));
        }
        file => file?,
    };
    tx.commit().await?;
    let Some(bytes) = ctx.storage.read(&Key::of(run.tenant, file.object_id), 0..u64::MAX).await? else {
        return Ok(Outcome::Fail(JobError::new("file_gone", "the file's content is not there any more")));
    };
    let maker = Maker { user: import.user_id, may, cause: &run.cause, ctx: &ctx };
    let (position, counts) = (import.position, import.counts);
    let work =
        Work { import, resource, mode, token, run: &run, ctx: &ctx, maker, position, counts, seen: HashSet::new() };
    work.go(records(bytes, format, columns(resource))).await
}

/// What a run before has come to.
async fn ended(tx: &mut TenantTx, job: &RunImport) -> Result<Outcome> {
    match rows::find(tx, job.import).await?.and_then(|import| import.refused) {
        Some(refused) => Ok(Outcome::Fail(serde_json::from_str(&refused)?)),
        None => Ok(Outcome::Done(None)),
    }
}

/// What rows may give: what whoever asked might do then, and the person in whose name it is may still do.
async fn may(tx: &mut TenantTx, import: &ImportRow, resource: Resource) -> Result<Result<Permissions, JobError>> {
    let member = match members::get(tx, import.user_id).await {
        Ok(member) if member.deactivated_at.is_none() => member,
        Ok(_) | Err(Error::NotFound(_)) => {
            let detail = "the person in whose name it is imported is no active member any more";
            return Ok(Err(JobError::new("not_a_member", detail)));
        }
        Err(error) => return Err(error),
    };
    let may = Permissions::stored(&import.permissions).common(member.standing.permissions());
    let needed = resource.permission();
    Ok(if may.contains(needed) {
        Ok(may)
    } else {
        Err(JobError::new("permission_missing", format!("whoever asked does not hold `{needed}` any more")))
    })
}

struct Work<'a> {
    import: ImportRow,
    resource: Resource,
    mode: Mode,
    token: RunId,
    run: &'a Run,
    ctx: &'a Context,
    maker: Maker<'a>,
    /// Rows that are done.
    position: i64,
    counts: Counts,
    /// Keys of what a dry run would have made in the chunks before.
    seen: HashSet<String>,
}

impl Work<'_> {
    async fn go(mut self, mut records: Receiver<Result<Record, Stop>>) -> Result<Outcome> {
        let (mut read, mut chunk, mut refused) = (0, Vec::new(), None);
        loop {
            if self.run.cancelled.is_cancelled() {
                return Ok(Outcome::Cancelled);
            }
            let record = match records.recv().await.transpose() {
                Ok(Some(_)) if read == MOST_ROWS => {
                    let detail = format!("a file has at most {MOST_ROWS} rows; divide it");
                    refused = Some(JobError::new("too_many_rows", detail));
                    None
                }
                Ok(record) => record,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Refused { code, detail }) => {
                    refused = Some(JobError::new(code, format!("after row {read}: {detail}")));
                    None
                }
            };
            let ended = record.is_none(); // whatever could be read before is made
            if let Some(record) = record {
                read += 1;
                if read > self.position {
                    chunk.push(record);
                }
            }
            if chunk.len() == CHUNK || ended && !chunk.is_empty() {
                if !self.chunk(std::mem::take(&mut chunk)).await? {
                    return Ok(Outcome::Done(None)); // another run has it
                }
                self.run.progress(&json!({ "rows": self.position, "failed": self.counts.failed }));
            }
            if ended {
                return self.finish(refused).await;
            }
        }
    }

    /// Makes the rows of a chunk. False when another run has the import.
    async fn chunk(&mut self, chunk: Vec<Record>) -> Result<bool> {
        let (mut counts, mut position) = (self.counts, self.position);
        let (mut faults, mut jobs, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let mut tx = self.ctx.db.tenant(self.run.tenant).await?;
        for record in chunk {
            position += 1;
            let became = match record {
                Err(faults) => Became::Refused(faults),
                Ok(row) => {
                    let key = (self.mode == Mode::DryRun).then(|| key(self.resource, &row));
                    if key.as_ref().is_some_and(|key| self.seen.contains(key)) {
                        Became::Unchanged
                    } else {
                        let became = self.maker.make(self.resource, &mut tx, row).await?;
                        if let (Some(key), Became::Created(_)) = (key, &became) {
                            made.push(key);
                        }
                        became
                    }
                }
            };
            match became {
                Became::Created(further) => {
                    counts.created += 1;
                    jobs.extend(further);
                }
                Became::Unchanged => counts.unchanged += 1,
                Became::Refused(wrong) => {
                    counts.failed += 1;
                    faults.push((position, wrong));
                }
            }
        }
        if self.mode == Mode::DryRun {
            drop(tx); // all of it
            jobs.clear();
            tx = self.ctx.db.tenant(self.run.tenant).await?;
        }
        if !rows::advance(&mut tx, self.import.id, self.token, position, counts).await? {
            return Ok(false);
        }
        self.note(&mut tx, &faults).await?;
        tx.commit().await?;
        self.ctx.dispatcher.offer(&jobs);
        self.seen.extend(made);
        (self.counts, self.position) = (counts, position);
        Ok(true)
    }

    async fn note(&self, tx: &mut TenantTx, faults: &[(i64, Vec<Fault>)]) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { rows::note(tx, self.import.id, faults).await }
    }

    /// Writes the report, if anything is wrong, and ends the import with it. `refused` is what is wrong with the file as a whole.
    async fn finish(self, refused: Option<JobError>) -> Result<Outcome> {
        let (tenant, id) = (self.run.tenant, self.import.id);
        let mut written = None;
        if self.counts.failed > 0 || refused.is_some() {
            let mut tx = self.ctx.db.tenant(tenant).await?;
            let (object, _) = objects::begin(&mut tx, Purpose::Report, 0, 0).await?;
            let Some(before) = rows::begin_report(&mut tx, id, self.token, object).await? else {
                return Ok(Outcome::Done(None));
            };
            if let Some(before) = before {
                objects::abandon(&mut tx, before).await?;
            }
            tx.commit().await?;
            let last = refused.as_ref().map(|why| (self.position + 1, why));
            written = Some((object, report::write(self.ctx, (tenant, id), object, last).await?));
        }
        let mut tx = self.ctx.db.tenant(tenant).await?;
        let why = refused.as_ref().map(serde_json::to_string).transpose()?;
        if !rows::finish(&mut tx, id, self.token, why.as_deref()).await? {
            return Ok(Outcome::Done(None)); // another run has it, and gives the object up
        }
        if let Some((object, stored)) = written {
            objects::store(&mut tx, object, stored.size_bytes as i64, &stored.sha256).await?;
        }
        let told = json!({
            "import_id": id, "resource": self.import.resource, "mode": self.import.mode, "rows": self.position,
            "created": self.counts.created, "unchanged": self.counts.unchanged, "failed": self.counts.failed,
            "refused": refused,
        });
        let further = announce(&mut tx, FINISHED_EVENT, &told, &self.run.cause).await?;
        tx.commit().await?;
        self.ctx.dispatcher.offer(&further);
        let refused_by = refused.as_ref().map(|error| error.code.as_str());
        tracing::info!(rows = self.position, failed = self.counts.failed, refused_by, "an import is finished");
        match refused {
            Some(error) => Ok(Outcome::Fail(error)),
            None => Ok(Outcome::Done(Some(to_raw_value(&told)?))),
        }
    }
}
