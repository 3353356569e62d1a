use std::fmt;

use uuid::Uuid;

use crate::infra::ids::{ObjectId, TenantId};

/// The name of an object: `tenant/object`, two UUIDs. Keys sort by tenant, then by id.
///
/// Made of ids alone, so that no name can lead anywhere else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    tenant: TenantId,
    object: ObjectId,
}

impl Key {
    pub const fn of(tenant: TenantId, object: ObjectId) -> Self {
        Self { tenant, object }
    }

    /// Before all objects of a tenant, or of everybody. No object is called so.
    pub fn before_all(of: Option<TenantId>) -> Self {
        Self { tenant: of.unwrap_or(Uuid::nil().into()), object: Uuid::nil().into() }
    }

    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    pub const fn object(&self) -> ObjectId {
        self.object
    }

    /// None for what [`Display`](fmt::Display) does not write, down to the letter: no two texts are one key.
    pub fn parse(text: &str) -> Option<Self> {
        let (tenant, object) = text.split_once('/')?;
        Some(Self { tenant: uuid(tenant)?.into(), object: uuid(object)?.into() })
    }
}

/// A UUID as we write it: lower case, with hyphens.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(id)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.object)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_two_uuids_and_nothing_else_is_one() {
        let key = Key::of(TenantId::generate(), ObjectId::generate());
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        let (tenant, object) = (key.tenant(), key.object());
        for bad in [
            String::new(),
            "/".to_owned(),
            tenant.to_string(),
            format!("{tenant}/"),
            format!("{tenant}/../{object}"),
            format!("{tenant}/{object}/"),
            format!("/{tenant}/{object}"),
            format!("{tenant}/{}", object.0.simple()),
            format!("{{{tenant}}}/{object}"),
            format!("{tenant}/{object}").to_uppercase(),
            format!("{tenant}/urn:uuid:{object}"),
        ] {
            assert_eq!(Key::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_sort_as_their_texts_do() {
        let mut keys: Vec<Key> = (0..100).map(|_| Key::of(Uuid::new_v4().into(), Uuid::new_v4().into())).collect();
        keys.sort();
        assert!(keys.is_sorted_by_key(|key| key.to_string()));
    }
}
