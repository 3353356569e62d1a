//! The chain of a tenant's entries.
//!
//! Each sealed entry has a hash over itself and the hash before it, so that a change, a gap or an addition breaks every hash
//! after it. The chain's end, and where it begins since retention took what was before, are kept under `MASTER_KEYS`:
//! who can write to the database, but has no key, cannot make up another chain.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::queries::{Link, Unsealed};
use crate::Result;
use crate::infra::crypto::KeyRing;
use crate::infra::ids::TenantId;

/// What precedes the first entry.
pub const START: [u8; 32] = [0; 32];
/// An entry is written before it is sealed, at most by as long as a transaction may take. One that claims to be so much
/// older than a seal that did not have it was not there then.
const LATE: Duration = Duration::from_secs(3_600);

/// Both ends of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Places up to this one may be missing: their retention is over.
    pub floor: i64,
    /// The last place given, 0 for none.
    pub seq: i64,
    pub hash: [u8; 32],
}

impl Ends {
    pub const NONE: Self = Self { floor: 0, seq: 0, hash: START };

    pub fn seal(&self, keys: &KeyRing, tenant: TenantId) -> Result<Vec<u8>> {
        keys.seal(&context(tenant), &serde_json::to_vec(self)?)
    }

    /// # Errors
    /// Fails when they were made up, are another tenant's, or their key is missing.
    pub fn open(keys: &KeyRing, tenant: TenantId, sealed: &[u8]) -> Result<Self> {
        Ok(serde_json::from_slice(&keys.open(&context(tenant), sealed)?)?)
    }

    /// Gives `entries` the next places.
    pub fn extend(&mut self, entries: &[Unsealed], at: DateTime<Utc>) -> Vec<Link> {
        let extend = |entry: &Unsealed| {
            let (seq, prev_hash) = (self.seq + 1, self.hash);
            let hash = hash(&prev_hash, seq, at, &entry.text);
            (self.seq, self.hash) = (seq, hash);
            Link {
                id: entry.id,
                seq,
                sealed_at: at,
                prev_hash: prev_hash.into(),
                hash: hash.into(),
                text: String::new(),
            }
        };
        entries.iter().map(extend).collect()
    }
}

pub(crate) fn context(tenant: TenantId) -> String {
    format!("audit_chains/{tenant}")
}

fn hash(prev: &[u8], seq: i64, at: DateTime<Utc>, text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(prev);
    hash.update(seq.to_be_bytes());
    hash.update(at.timestamp_micros().to_be_bytes());
    hash.update(text.as_bytes());
    hash.finalize().into()
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("entry {id} at place {seq} is not as it was when it was sealed")]
    Changed { seq: i64, id: Uuid },
    #[error("places {from} to {to} are empty: entries were removed")]
    Removed { from: i64, to: i64 },
    #[error("entry {id} is at place {seq}, which another one has: it was inserted")]
    Inserted { seq: i64, id: Uuid },
    #[error("entry {id} at place {seq} claims a time at which the chain did not have it")]
    Backdated { seq: i64, id: Uuid },
    #[error("entry {id} at place {seq} does not follow from the one before it")]
    Broken { seq: i64, id: Uuid },
    #[error("entry {id} has place {seq}, beyond the chain's end")]
    BeyondEnd { seq: i64, id: Uuid },
    #[error("the end of the chain is not what was sealed under MASTER_KEYS: {0}")]
    Ends(String),
    #[error("entries have places, but there is no chain")]
    NoChain,
}

/// Walks a chain in the order of its places.
#[derive(Debug)]
pub struct Walk {
    ends: Ends,
    last: Option<(i64, Vec<u8>, DateTime<Utc>)>,
    pub findings: Vec<Finding>,
}

impl Walk {
    pub fn new(ends: Ends) -> Self {
        Self { ends, last: None, findings: Vec::new() }
    }

    pub fn step(&mut self, link: &Link) {
        let (seq, id) = (link.seq, link.id);
        if seq > self.ends.seq {
            return self.findings.push(Finding::BeyondEnd { seq, id });
        }
        if link.hash != hash(&link.prev_hash, seq, link.sealed_at, &link.text) {
            self.findings.push(Finding::Changed { seq, id });
        }
        match &self.last {
            Some((last, ..)) if *last == seq => return self.findings.push(Finding::Inserted { seq, id }),
            Some((last, hash, sealed_at)) if *last + 1 == seq => {
                if *hash != link.prev_hash {
                    self.findings.push(Finding::Broken { seq, id });
                }
                let late = TimeDelta::from_std(LATE).unwrap_or_default();
                if *sealed_at < link.sealed_at && created_at(id) + late < *sealed_at {
                    self.findings.push(Finding::Backdated { seq, id });
                }
            }
            last => {
                let expected = last.as_ref().map_or(1, |(last, ..)| last + 1);
                self.missing(expected, seq - 1);
                if seq == 1 && link.prev_hash != START {
                    self.findings.push(Finding::Broken { seq, id });
                }
            }
        }
        self.last = Some((seq, link.hash.clone(), link.sealed_at));
    }

    /// After the last entry.
    pub fn end(mut self) -> Vec<Finding> {
        let (seq, hash) = self.last.as_ref().map_or((0, &START[..]), |(seq, hash, _)| (*seq, &hash[..]));
        if seq == self.ends.seq && hash != self.ends.hash && seq > self.ends.floor {
            self.findings.push(Finding::Ends(format!("the last entry, at place {seq}, is another one")));
        }
        self.missing(seq + 1, self.ends.seq);
        self.findings
    }

    /// Retention may have taken those up to the floor.
    fn missing(&mut self, from: i64, to: i64) {
        let from = from.max(self.ends.floor + 1);
        if from <= to {
            self.findings.push(Finding::Removed { from, to });
        }
    }
}

/// The time in a UUIDv7.
fn created_at(id: Uuid) -> DateTime<Utc> {
    let (seconds, nanos) = id.get_timestamp().map_or((0, 0), |t| t.to_unix());
    DateTime::from_timestamp(seconds as i64, nanos).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: usize) -> (Ends, Vec<Link>) {
        let at = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let mut ends = Ends::NONE;
        let mut links = Vec::new();
        for n in 0..count {
            let id = uuid::Builder::from_unix_timestamp_millis(1_800_000_000_000, &[n as u8; 10]).into_uuid();
            let entry = Unsealed { id, text: format!("entry {n}") };
            let mut link = ends.extend(std::slice::from_ref(&entry), at + TimeDelta::seconds(n as i64)).remove(0);
            link.text = entry.text;
            links.push(link);
        }
        (ends, links)
    }

    fn walk(ends: Ends, links: &[Link]) -> Vec<Finding> {
        let mut walk = Walk::new(ends);
        links.iter().for_each(|link| walk.step(link));
        walk.end()
    }

    #[test]
    fn a_chain_that_nobody_touched_has_no_findings() {
        let (ends, links) = chain(9);
        assert_eq!(walk(ends, &links), []);
        assert_eq!(walk(Ends::NONE, &[]), []);
        assert_eq!(walk(Ends { floor: 4, ..ends }, &links[4..]), [], "retention took the first four");
        assert_eq!(walk(Ends { floor: 9, ..ends }, &[]), [], "retention took them all");
    }

    #[test]
    fn whatever_is_done_to_an_entry_is_found() {
        let (ends, links) = chain(5);
        for n in 0..links.len() {
            let mut changed = links.clone();
            changed[n].text.push('!');
            assert!(matches!(walk(ends, &changed)[..], [Finding::Changed { .. }]), "{n}");
            // whoever changes it also makes up a hash that fits
            let link = &mut changed[n];
            link.hash = hash(&link.prev_hash, link.seq, link.sealed_at, &link.text).into();
            assert!(matches!(walk(ends, &changed)[..], [Finding::Broken { .. } | Finding::Ends(_)]), "{n}");

            let mut removed = links.clone();
            removed.remove(n);
            assert!(matches!(walk(ends, &removed)[0], Finding::Removed { .. }), "{n}");

            let mut inserted = links.clone();
            inserted.insert(n, links[n].clone());
            assert!(matches!(walk(ends, &inserted)[0], Finding::Inserted { .. }), "{n}");
        }
        let mut more = links.clone();
        more.push(
            Ends::extend(&mut { ends }, &[Unsealed { id: links[0].id, text: String::new() }], links[4].sealed_at)
                .remove(0),
        );
        assert!(matches!(walk(ends, &more)[..], [Finding::BeyondEnd { .. }]));
    }

    #[test]
    fn an_entry_that_claims_to_be_older_than_a_seal_that_lacks_it_is_found() {
        let (mut ends, mut links) = chain(3);
        let id = uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000, &[1; 10]).into_uuid();
        let sealed_at = links[2].sealed_at + TimeDelta::seconds(1);
        links.extend(ends.extend(&[Unsealed { id, text: String::new() }], sealed_at));
        assert!(matches!(walk(ends, &links)[..], [Finding::Backdated { .. }]));
    }

    #[test]
    fn ends_that_were_made_up_do_not_open() {
        let ring = |byte| {
            KeyRing::parse(&format!(
                "k:{}",
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32])
            ))
        };
        let (ours, theirs) = (ring(1).unwrap(), ring(2).unwrap());
        let tenant = TenantId::generate();
        let (ends, _) = chain(2);
        assert_eq!(Ends::open(&ours, tenant, &ends.seal(&ours, tenant).unwrap()).unwrap(), ends);
        assert!(Ends::open(&ours, tenant, &ends.seal(&theirs, tenant).unwrap()).is_err());
        assert!(Ends::open(&ours, TenantId::generate(), &ends.seal(&ours, tenant).unwrap()).is_err());
    }
}
