//! What is wrong with rows, as a file: CSV of row, pointer, code and detail.

use bytes::Bytes;
use millwork_shared::Result;
use millwork_shared::exports::Format;
use millwork_shared::imports::queries::{self as imports, REPORT};
use millwork_shared::infra::ids::{ImportId, ObjectId, TenantId};
use millwork_shared::infra::storage::{Key, Stored};
use millwork_shared::jobs::JobError;

use crate::context::Context;
use crate::exports::encode::Encoder;

const PAGE: i64 = 1_000;

/// Writes the report to its object. `refused` is the row at which the file was refused as a whole, and why: it comes last, however many
/// faults there are.
pub async fn write(
    ctx: &Context,
    (tenant, import): (TenantId, ImportId),
    object: ObjectId,
    refused: Option<(i64, &JobError)>,
) -> Result<Stored> {
    let mut writer = ctx.storage.write(&Key::of(tenant, object)).await?;
    let mut encoder = Encoder::new(REPORT, Format::Csv)?;
    let mut after = (0, -1);
    loop {
        let mut tx = ctx.db.tenant(tenant).await?;
        let faults = imports::list_faults(&mut tx, import, after, PAGE).await?;
        tx.commit().await?;
        let Some(last) = faults.last() else { break };
        after = (last.0, last.1);
        for (row, _, pointer, code, detail) in &faults {
            encoder.row(&[Some(&row.to_string()), Some(pointer), Some(code), Some(detail)])?;
        }
        writer.push(Bytes::from(encoder.take()?)).await?;
    }
    if let Some((row, JobError { code, message })) = refused {
        encoder.row(&[Some(&row.to_string()), Some(""), Some(code), Some(message)])?;
    }
    writer.push(Bytes::from(encoder.finish()?)).await?;
    writer.finish().await
}
