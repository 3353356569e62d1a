//! Links to objects for who has no token: whoever holds one may read the object, or send it, for a while.
//!
//! A link is sealed, so that it says nothing and cannot be made by anybody else. It is for installations whose storage is a
//! folder; an object store signs its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::infra::crypto::KeyRing;
use crate::infra::ids::{ObjectId, TenantId};
use crate::{Error, Result};

/// What links are sealed for.
const CONTEXT: &str = "object links";
/// Longer is none of ours: a name has at most 255 characters.
const MOST_BYTES: usize = 4 * 1024;

/// What somebody may do who holds the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub tenant: TenantId,
    pub object: ObjectId,
    pub expires_at: DateTime<Utc>,
    pub deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Read it, under this name.
    Get { name: String, media_type: String, inline: bool },
    /// Send it: exactly so many bytes.
    Put { size_bytes: i64 },
}

impl Link {
    /// As text for a URL.
    pub fn seal(&self, keys: &KeyRing) -> Result<String> {
        Ok(URL_SAFE_NO_PAD.encode(keys.seal(CONTEXT, &serde_json::to_vec(self)?)?))
    }

    /// What [`seal`](Self::seal) made, as long as it counts.
    ///
    /// # Errors
    /// [`Error::NotFound`] for what is none, or not any more: whoever made it up is not told which.
    pub fn open(text: &str, keys: &KeyRing, now: DateTime<Utc>) -> Result<Self> {
        let none = || Error::NotFound("link");
        if text.len() > MOST_BYTES {
            return Err(none());
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| none())?;
        let plain = keys.open(CONTEXT, &sealed).map_err(|_| none())?;
        let link: Self = serde_json::from_slice(&plain)?;
        if link.expires_at > now { Ok(link) } else { Err(none()) }
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use chrono::Duration;

    use super::*;

    #[test]
    fn a_link_counts_for_its_time_and_cannot_be_made_up() {
        let keys = KeyRing::parse(&format!("a:{}", STANDARD.encode([1; 32]))).unwrap();
        let expires_at = DateTime::UNIX_EPOCH + Duration::hours(1);
        let link = Link {
            tenant: TenantId::generate(),
            object: ObjectId::generate(),
            expires_at,
            deed: Deed::Put { size_bytes: 7 },
        };
        let text = link.seal(&keys).unwrap();
        assert_eq!(Link::open(&text, &keys, expires_at - Duration::milliseconds(1)).unwrap(), link);
        assert!(Link::open(&text, &keys, expires_at).is_err());
        let other = KeyRing::parse(&format!("b:{}", STANDARD.encode([2; 32]))).unwrap();
        assert!(Link::open(&text, &other, DateTime::UNIX_EPOCH).is_err());
        for bad in ["", "x", &text[1..], &"x".repeat(MOST_BYTES + 1)] {
            assert!(matches!(Link::open(bad, &keys, DateTime::UNIX_EPOCH), Err(Error::NotFound(_))), "{bad}");
        }
    }
}
