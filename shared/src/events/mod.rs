//! Events that tenants publish, and the types they declare for them.

use chrono::{DateTime, TimeDelta, Utc};

use crate::infra::ids::EventId;

/// Every statement on the tables of events.
pub mod queries;
/// JSON Schemas that tenants declare for their events.
pub mod schema;

/// Longest name of an event type.
pub const TYPE_MAX_BYTES: usize = 128;
/// Bytes of an event's payload at most.
pub const PAYLOAD_MAX_BYTES: usize = 256 * 1024;
/// Event types that a tenant may declare.
pub const TYPES_PER_TENANT: i64 = 1_000;
/// How far the time in an id that a client gives may lie from now; within it, the same id is the same event.
pub const ID_WINDOW: TimeDelta = TimeDelta::hours(24);

/// Whether `name` is the name of an event type: words of letters, digits, `_` and `-`, joined by dots.
pub fn is_type_name(name: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    name.len() <= TYPE_MAX_BYTES && name.split('.').all(is_word)
}

/// Whether `pattern` names event types: one by its name, those of a prefix (`order.*`), or all (`*`).
pub fn is_pattern(pattern: &str) -> bool {
    pattern == "*" || is_type_name(pattern.strip_suffix(".*").unwrap_or(pattern))
}

/// Every pattern that an event of type `name` matches.
pub fn patterns_of(name: &str) -> Vec<String> {
    let prefixes = name.match_indices('.').map(|(at, _)| format!("{}.*", &name[..at]));
    prefixes.chain([name.to_owned(), "*".to_owned()]).collect()
}

/// Whether a client may give its event this id at `now`.
pub fn id_fault(id: EventId, now: DateTime<Utc>) -> Option<&'static str> {
    if id.0.get_version_num() != 7 || id.0.get_variant() != uuid::Variant::RFC4122 {
        return Some("an event's id is a UUIDv7");
    }
    let off = (now - id.created_at()).abs() > ID_WINDOW;
    off.then_some("the time in an event's id lies within 24 hours of now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_told_from_other_text() {
        for name in ["order.created", "a", "user_account.e-mail.changed", "Order.V2"] {
            assert!(is_type_name(name) && is_pattern(name) && is_pattern(&format!("{name}.*")), "{name}");
        }
        assert!(is_pattern("*") && !is_type_name("*"));
        for bad in
            ["", ".", "a.", ".a", "a..b", "a b", "é", "a.*.b", "*.a", "**", "a*", ".*", "a.*.*", &"a".repeat(129)]
        {
            assert!(!is_type_name(bad) && !is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_matches_itself_its_prefixes_and_the_star() {
        assert_eq!(patterns_of("order.item.added"), ["order.*", "order.item.*", "order.item.added", "*"]);
        assert_eq!(patterns_of("order"), ["order", "*"]);
    }

    #[test]
    fn an_id_is_version_seven_and_of_these_days() {
        let id = EventId::generate();
        let now = id.created_at();
        assert_eq!(id_fault(id, now), None);
        for hours in [24, -24] {
            assert_eq!(id_fault(id, now + TimeDelta::hours(hours)), None);
            assert!(id_fault(id, now + TimeDelta::hours(hours) + TimeDelta::seconds(hours.signum())).is_some());
        }
        for bad in ["0190163d-8694-439b-aea5-966c26f8ad91", "00000000-0000-0000-0000-000000000000"] {
            assert!(id_fault(bad.parse().unwrap(), now).is_some(), "{bad}");
        }
    }
}
