//! A page of what storage has beside a page of what the database knows.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use millwork_shared::infra::ids::TenantId;
use millwork_shared::infra::storage::{Entry, Key};
use millwork_shared::objects::sweep::Row;

/// What a page says. Everything up to `end` was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub objects: u64,
    pub objects_bytes: u64,
    pub rows: u64,
    /// Objects without a row, with their sizes, that are old enough.
    pub orphans: Vec<(Key, u64)>,
    /// Stored rows without an object in the listing: it may have come since.
    pub absent: Vec<Key>,
    /// Rows that are marked as missing their object, which is there.
    pub found: Vec<Key>,
    pub differing: Vec<Key>,
    /// None when there is nothing behind the page.
    pub end: Option<Key>,
}

/// Walks along both pages, which are in the order of their keys and begin behind the same one. Of a page that is `limit` long
/// there may be more, so that what lies behind its last key cannot be told yet.
///
/// The listing was read before the rows: an object that is in it had its row by then.
pub(super) fn compare(
    entries: &[Entry],
    rows: &[Row],
    limit: usize,
    only: Option<TenantId>,
    born_before: DateTime<Utc>,
) -> Compared {
    let own = only.map_or(entries.len(), |only| entries.partition_point(|entry| entry.key.tenant() == only));
    let more_entries = (own == limit).then(|| entries[own - 1].key);
    let more_rows = (rows.len() == limit).then(|| rows[limit - 1].key());
    let end = more_entries.into_iter().chain(more_rows).min();
    let within = |key: Key| end.is_none_or(|end| key <= end);
    let mut entries = entries[..own].iter().take_while(|entry| within(entry.key)).peekable();
    let mut rows = rows.iter().take_while(|row| within(row.key())).peekable();
    let mut compared = Compared { end, ..Compared::default() };
    loop {
        let order = match (entries.peek(), rows.peek()) {
            (Some(entry), Some(row)) => entry.key.cmp(&row.key()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return compared,
        };
        let entry = entries.next_if(|_| order.is_le());
        let row = rows.next_if(|_| order.is_ge());
        compared.objects += u64::from(entry.is_some());
        compared.objects_bytes += entry.map_or(0, |entry| entry.size_bytes);
        compared.rows += u64::from(row.is_some());
        match (entry, row) {
            (Some(entry), None) if entry.modified_at < born_before => {
                compared.orphans.push((entry.key, entry.size_bytes));
            }
            (None, Some(row)) if row.stored => compared.absent.push(row.key()),
            (Some(entry), Some(row)) if row.stored => {
                if row.missing {
                    compared.found.push(entry.key);
                }
                if row.size_bytes != i64::try_from(entry.size_bytes).ok() {
                    compared.differing.push(entry.key);
                }
            }
            _ => {}
        }
    }
}
