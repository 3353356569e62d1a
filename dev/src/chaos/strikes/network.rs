//! The ways between any two.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Done;
use crate::chaos::plan::{Fault, Stroke};
use crate::chaos::rest;
use crate::chaos::site::Site;

pub fn strike(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let wires = site.wires();
    let (name, wire) = wires.get(stroke.pick as usize % wires.len().max(1)).context("no connections")?;
    match stroke.fault {
        Fault::NetDelay => {
            wire.delay(Duration::from_millis(50 + stroke.pick / 64 % 350));
            let rested = rest(stroke.lasts);
            wire.delay(Duration::ZERO);
            rested?;
        }
        Fault::NetHold => {
            wire.hold();
            let rested = rest(stroke.lasts);
            wire.release();
            rested?;
        }
        Fault::NetReset => wire.reset(),
        Fault::NetSilence => wire.silence(),
        _ => wire.half_open(),
    }
    let time = if stroke.lasts.is_zero() { String::new() } else { format!(", {:.1} s", stroke.lasts.as_secs_f64()) };
    Ok(Done::Struck(format!("{name}{time}")))
}
