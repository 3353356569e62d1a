//! The kind `export.run`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use millwork_shared::Result;
use millwork_shared::events::queries::announce;
use millwork_shared::exports::jobs::{RunExport, SendExportReady};
use millwork_shared::exports::queries::{self as rows, ExportRow};
use millwork_shared::exports::source::personal::SECTIONS;
use millwork_shared::exports::source::{Filters, Position, Source};
use millwork_shared::exports::{Format, READY_EVENT, file_name};
use millwork_shared::infra::ids::{ObjectId, TenantId};
use millwork_shared::infra::storage::{Key, Stored, Writer};
use millwork_shared::jobs::{NewJob, Outcome, queries as jobs};
use millwork_shared::objects::queries as objects;
use millwork_shared::objects::{Purpose, TOUCH};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::time::Instant;
use tracing::instrument;

use super::encode::Encoder;
use super::pack::Packer;
use crate::context::Context;
use crate::runtime::Run;

/// Rows that are read in one transaction.
const PAGE: i64 = 5_000;
/// Bytes after which a page ends before its time: rows may be large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Writes an export to storage, page by page.
///
/// Safe to run twice: a run that was stopped leaves its object to the next one, which gives it up and begins anew, and only the run
/// that the export's row names can make it ready.
#[instrument(name = "job.export.run", skip_all, fields(export.id = %job.export))]
pub async fn run(job: RunExport, run: Arc<Run>, ctx: Arc<Context>) -> Result<Outcome> {
    let Some((export, object)) = begin(&job, &run, &ctx).await? else { return Ok(Outcome::Done(None)) };
    let key = Key::of(run.tenant, object);
    let writing = Writing { run: &run, ctx: &ctx, object, touched: Instant::now(), before: 0 };
    let written = writing.write(&export, &key).await;
    match written {
        Ok(Some((exported, stored))) => finish(&job, &run, &ctx, &export, (object, exported, stored)).await,
        Ok(None) => {
            give_up(&ctx, run.tenant, object).await?;
            Ok(Outcome::Cancelled)
        }
        Err(error) => {
            if let Err(later) = give_up(&ctx, run.tenant, object).await {
                tracing::warn!(error = %later, %object, "an export's object is given up later, by the sweep");
            }
            Err(error)
        }
    }
}

/// Takes the export for this run, with an object of its own. None when there is nothing to do.
async fn begin(job: &RunExport, run: &Run, ctx: &Context) -> Result<Option<(ExportRow, ObjectId)>> {
    let mut tx = ctx.db.tenant(run.tenant).await?;
    let (object, _) = objects::begin(&mut tx, Purpose::Export, 0, 0).await?;
    let Some(before) = rows::take(&mut tx, job.export, object).await? else { return Ok(None) };
    if let Some(before) = before {
        objects::abandon(&mut tx, before).await?;
    }
    let export = rows::get(&mut tx, job.export).await?;
    tx.commit().await?;
    Ok(Some((export, object)))
}

async fn give_up(ctx: &Context, tenant: TenantId, object: ObjectId) -> Result<()> {
    let mut tx = ctx.db.tenant(tenant).await?;
    objects::abandon(&mut tx, object).await?;
    tx.commit().await
}

/// Makes the export ready, and says so, in one transaction.
async fn finish(
    job: &RunExport,
    run: &Run,
    ctx: &Context,
    export: &ExportRow,
    (object, exported, stored): (ObjectId, u64, Stored),
) -> Result<Outcome> {
    let (exported, size_bytes) = (exported as i64, stored.size_bytes as i64);
    let mut tx = ctx.db.tenant(run.tenant).await?;
    if !rows::finish(&mut tx, job.export, object, exported, size_bytes).await? {
        return Ok(Outcome::Done(None)); // another run has it, and has given this object up
    }
    objects::store(&mut tx, object, size_bytes, &stored.sha256).await?;
    let told = json!({
        "export_id": job.export, "resource": export.resource, "format": export.format, "rows": exported,
        "size_bytes": size_bytes,
    });
    let mut further = announce(&mut tx, READY_EVENT, &told, &run.cause).await?;
    if let Some(user) = export.notify {
        let mail = [NewJob::of(run.tenant, &SendExportReady { user, export: job.export })?.caused_by(&run.cause)];
        jobs::enqueue(&mut tx, &mail).await?;
        further.extend(mail);
    }
    tx.commit().await?;
    ctx.dispatcher.offer(&further);
    tracing::info!(rows = exported, size_bytes, "an export is ready");
    Ok(Outcome::Done(Some(to_raw_value(&json!({ "rows": exported, "size_bytes": size_bytes }))?)))
}

struct Writing<'a> {
    run: &'a Run,
    ctx: &'a Context,
    object: ObjectId,
    touched: Instant,
    /// Rows of the sections that are written.
    before: u64,
}

impl Writing<'_> {
    /// Answers the number of rows and what was stored; None when somebody cancelled it.
    async fn write(mut self, export: &ExportRow, key: &Key) -> Result<Option<(u64, Stored)>> {
        let (resource, format, compress) = export.kind()?;
        let filters = export.filters()?;
        let mut writer = self.ctx.storage.write(key).await?;
        let mut packer = Packer::new(compress);
        packer.begin(&file_name(resource, format, None))?;
        let exported = match Source::of(resource) {
            Some(source) => self.rows(&source, &filters, (format, &mut writer, &mut packer)).await?,
            None => self.sections(export, &filters, (&mut writer, &mut packer)).await?,
        };
        let Some(exported) = exported else {
            writer.abort().await;
            return Ok(None);
        };
        writer.push(Bytes::from(packer.finish()?)).await?;
        Ok(Some((exported, writer.finish().await?)))
    }

    /// Writes what is kept of a person: an object with an array a section, and what became of each.
    async fn sections(
        &mut self,
        export: &ExportRow,
        filters: &Filters,
        (writer, packer): (&mut Writer, &mut Packer),
    ) -> Result<Option<u64>> {
        let own = filters.user_id.is_some_and(|user| export.requested_by.0 == user);
        let head =
            json!({ "tenant_id": self.run.tenant, "user_id": filters.user_id, "asked_for_at": export.created_at });
        let head = head.to_string();
        self.push(format!("{},\n\"sections\":{{", head.trim_end_matches('}')).into_bytes(), writer, packer).await?;
        let mut kept = Vec::new();
        for section in SECTIONS.iter().filter(|section| own || !section.own) {
            let separator = if kept.is_empty() { "\n" } else { ",\n" };
            self.push(format!("{separator}\"{}\":", section.name).into_bytes(), writer, packer).await?;
            let rows = self.rows(&section.source, filters, (Format::Json, &mut *writer, &mut *packer)).await?;
            let Some(rows) = rows else { return Ok(None) };
            self.before += rows;
            kept.push(json!({
                "section": section.name, "rows": rows, "purpose": section.purpose, "on_erasure": section.fate.text(),
            }));
        }
        let tail = serde_json::to_string(&kept)?;
        self.push(format!("}},\n\"kept\":{tail}}}\n").into_bytes(), writer, packer).await?;
        Ok(Some(std::mem::take(&mut self.before)))
    }

    async fn rows(
        &mut self,
        source: &Source,
        filters: &Filters,
        (format, writer, packer): (Format, &mut Writer, &mut Packer),
    ) -> Result<Option<u64>> {
        let until = self.now().await?;
        let mut encoder = Encoder::new(source.columns, format)?;
        let (mut position, mut piece) = (Position::START, Vec::new());
        loop {
            if self.run.cancelled.is_cancelled() {
                return Ok(None);
            }
            let read = async {
                let mut tx = self.ctx.db.tenant(self.run.tenant).await?;
                let page = source.page(&mut tx, filters, (position, until), PAGE, |values| {
                    encoder.row(values)?;
                    Ok(encoder.gathered() >= PAGE_BYTES)
                });
                page.await // the transaction only read, and may have rows left that nobody wants
            };
            // The page before is packed and stored meanwhile.
            let ((last, more), ()) = tokio::try_join!(read, self.push(piece, writer, packer))?;
            self.tell(self.before + encoder.rows()).await?;
            if !more {
                let rows = encoder.rows();
                self.push(encoder.finish()?, writer, packer).await?;
                return Ok(Some(rows));
            }
            (position, piece) = (last, encoder.take()?);
        }
    }

    /// Packs a piece on a thread that may block, and hands it to storage.
    async fn push(&self, piece: Vec<u8>, writer: &mut Writer, packer: &mut Packer) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut packing = std::mem::replace(packer, Packer::new(None));
        let packed = tokio::task::spawn_blocking(move || {
            let packed = packing.push(piece);
            (packing, packed)
        });
        let (packing, packed) = packed.await.map_err(anyhow::Error::from)?;
        *packer = packing;
        writer.push(Bytes::from(packed?)).await
    }

    /// Says how far it is, and that it is still at it.
    async fn tell(&mut self, exported: u64) -> Result<()> {
        self.run.progress(&json!({ "rows": exported }));
        if self.touched.elapsed() >= TOUCH {
            let mut tx = self.ctx.db.tenant(self.run.tenant).await?;
            objects::touch(&mut tx, self.object).await?;
            tx.commit().await?;
            self.touched = Instant::now();
        }
        Ok(())
    }

    async fn now(&self) -> Result<DateTime<Utc>> {
        let mut tx = self.ctx.system.system().await?;
        let now = millwork_shared::infra::db::ledger_now(&mut tx).await?;
        tx.commit().await?;
        // So that it comes to an end; clocks that make ids may be a little ahead.
        Ok(now + Duration::from_secs(1))
    }
}
