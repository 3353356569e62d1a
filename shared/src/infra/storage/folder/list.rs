use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use uuid::Uuid;

use super::super::key::uuid;
use super::{Entry, Key, SHARD_DIGITS, Unfinished, modified_at, present, shard};
use crate::infra::ids::TenantId;

/// A page of objects, in memory for the page alone: of each folder on the way the smallest names are kept that it may take.
pub(super) fn objects(root: &Path, after: Option<Key>, limit: usize) -> io::Result<Vec<Entry>> {
    fs::metadata(root)?; // a volume that is gone is not an empty one
    let mut page = Vec::new();
    let mut from = after.map(|key| key.tenant().0);
    while page.len() < limit {
        // The tenant that the last page ended in is looked at again.
        let tenants = smallest(root, |name| uuid(name).filter(|id| from.is_none_or(|from| *id >= from)), limit)?;
        let Some(&last) = tenants.last() else { break };
        for tenant in tenants {
            let after = after.filter(|key| key.tenant().0 == tenant);
            tenant_objects(&root.join(tenant.to_string()), tenant.into(), after, limit, &mut page)?;
            if page.len() >= limit {
                return Ok(page);
            }
        }
        let Some(next) = last.as_u128().checked_add(1) else { break };
        from = Some(Uuid::from_u128(next));
    }
    Ok(page)
}

fn tenant_objects(
    folder: &Path,
    tenant: TenantId,
    after: Option<Key>,
    limit: usize,
    page: &mut Vec<Entry>,
) -> io::Result<()> {
    let first = after.map(|key| shard(key.object()));
    let mut behind: Option<String> = None;
    loop {
        let wanted = |name: &str| {
            let counts = is_shard(name)
                && first.as_deref().is_none_or(|first| name >= first)
                && behind.as_deref().is_none_or(|behind| name > behind);
            counts.then(|| name.to_owned())
        };
        let shards = smallest(folder, wanted, limit - page.len())?;
        let Some(last) = shards.last().cloned() else { return Ok(()) };
        for shard in shards {
            let folder = folder.join(shard);
            let wanted = |name: &str| uuid(name).filter(|id| after.is_none_or(|after| *id > after.object().0));
            for object in smallest(&folder, wanted, limit - page.len())? {
                // What was deleted since its name was read is left out.
                let Some(found) = present(fs::symlink_metadata(folder.join(object.to_string())))? else { continue };
                let key = Key::of(tenant, object.into());
                page.push(Entry { key, size_bytes: found.len(), modified_at: modified_at(&found) });
            }
            if page.len() >= limit {
                return Ok(());
            }
        }
        behind = Some(last);
    }
}

pub(super) fn unfinished(folder: &Path, after: Option<String>, limit: usize) -> io::Result<Vec<Unfinished>> {
    let wanted = |name: &str| {
        let counts = parse_unfinished(name).is_some() && after.as_deref().is_none_or(|after| name > after);
        counts.then(|| name.to_owned())
    };
    let mut page = Vec::new();
    for name in smallest(folder, wanted, limit)? {
        let Some(found) = present(fs::symlink_metadata(folder.join(&name)))? else { continue };
        let Some((key, upload)) = parse_unfinished(&name) else { continue };
        page.push(Unfinished { key, upload: upload.to_owned(), touched_at: modified_at(&found) });
    }
    Ok(page)
}

pub(super) fn parse_unfinished(name: &str) -> Option<(Key, &str)> {
    let mut parts = name.splitn(3, '.');
    let (tenant, object, upload) = (parts.next()?, parts.next()?, parts.next()?);
    uuid(upload)?;
    Some((Key::of(uuid(tenant)?.into(), uuid(object)?.into()), upload))
}

fn is_shard(name: &str) -> bool {
    name.len() == SHARD_DIGITS && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The `limit` smallest of what `wanted` makes of the names in a folder, in order. A folder that is not there is empty.
fn smallest<T: Ord>(folder: &Path, wanted: impl Fn(&str) -> Option<T>, limit: usize) -> io::Result<Vec<T>> {
    let Some(names) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut heap = BinaryHeap::new();
    for entry in names {
        let name = entry?.file_name();
        let Some(value) = OsStr::to_str(&name).and_then(&wanted) else { continue };
        if heap.len() < limit {
            heap.push(value);
        } else if heap.peek().is_some_and(|largest| value < *largest) {
            heap.pop();
            heap.push(value);
        }
    }
    Ok(heap.into_sorted_vec())
}
