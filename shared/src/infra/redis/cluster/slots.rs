//! Which of a cluster's slots a key is in, and which node has it.

use std::ops::RangeInclusive;

use redis::{Arg, Cmd};

use super::Address;

pub const COUNT: u16 = 16_384;

/// The slot of the first key that `command` names; none for a command without a key.
pub fn of(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| if let Arg::Simple(bytes) = word { bytes } else { b"" });
    let key = match words.next()? {
        b"EVALSHA" | b"EVAL" => words.nth(2)?, // after the script and the number of its keys
        _ => words.next()?,
    };
    Some(of_key(key))
}

fn of_key(key: &[u8]) -> u16 {
    crc16(tag(key)) % COUNT
}

/// What stands between the first brace and the next closing one, if it is not empty; otherwise the whole key.
fn tag(key: &[u8]) -> &[u8] {
    let tagged = || {
        let (_, after) = key.split_at_checked(key.iter().position(|byte| *byte == b'{')? + 1)?;
        after.split_at_checked(after.iter().position(|byte| *byte == b'}')?).map(|(tag, _)| tag)
    };
    tagged().filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16/XMODEM, as the cluster's specification wants it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

/// Which node has which slot.
#[derive(Debug, Clone, Default)]
pub struct SlotMap {
    nodes: Vec<Address>,
    /// By slot, one more than the place of its node in `nodes`; 0 for a slot that no node has. Empty before anything is known.
    places: Vec<u16>,
}

impl SlotMap {
    pub fn owner(&self, slot: u16) -> Option<&Address> {
        let place = usize::from(*self.places.get(usize::from(slot))?);
        self.nodes.get(place.checked_sub(1)?)
    }

    pub fn assign(&mut self, slots: RangeInclusive<u16>, node: &Address) {
        self.places.resize(COUNT.into(), 0);
        let at = self.nodes.iter().position(|known| known == node).unwrap_or_else(|| {
            self.nodes.push(node.clone());
            self.nodes.len() - 1
        });
        let place = u16::try_from(at + 1).unwrap_or(0);
        for slot in slots {
            if let Some(of_slot) = self.places.get_mut(usize::from(slot)) {
                *of_slot = place;
            }
        }
    }

    /// The nodes that have slots, or had when the map was made.
    pub fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// How many slots some node has.
    pub fn assigned(&self) -> usize {
        self.places.iter().filter(|place| **place > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [("foo", 12_182), ("bar", 5_061), ("mw:{bar}:ready", 5_061), ("a{foo}b{bar}", 12_182)] {
            assert_eq!(of_key(key.as_bytes()), slot, "{key}");
        }
        for whole in [&b"a{}{bar}"[..], b"a{bar", b"a}bar{"] {
            assert_eq!(of_key(whole), crc16(whole) % COUNT, "no tag, or an empty one");
        }
    }

    #[test]
    fn a_command_goes_by_its_first_key() {
        let slot = |words: &[&str]| {
            let mut command = Cmd::new();
            of(command.arg(words))
        };
        assert_eq!(slot(&["BLPOP", "foo", "5"]), Some(12_182));
        assert_eq!(slot(&["EVALSHA", "0123", "2", "{bar}a", "{bar}b", "foo"]), Some(5_061));
        assert_eq!(slot(&["PING"]), None);
    }

    #[test]
    fn the_last_assignment_of_a_slot_counts() {
        let (one, two) = (Address::new("one", 1), Address::new("two", 2));
        let mut map = SlotMap::default();
        assert_eq!((map.owner(0), map.assigned()), (None, 0));
        map.assign(0..=99, &one);
        map.assign(50..=199, &two);
        map.assign(60..=60, &one);
        for (slot, node) in [(0, Some(&one)), (50, Some(&two)), (60, Some(&one)), (199, Some(&two)), (200, None)] {
            assert_eq!(map.owner(slot), node, "{slot}");
        }
        assert_eq!((map.nodes(), map.assigned()), (&[one.clone(), two][..], 200));
    }
}
