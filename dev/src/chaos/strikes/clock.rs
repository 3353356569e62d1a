//! The time of day of one process, stepped by libfaketime; clocks that only run on are left alone, as on a machine whose
//! time is set.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::Done;
use crate::chaos::plan::Stroke;
use crate::chaos::rest;
use crate::chaos::site::Site;

const STOP_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_secs(120);
/// In seconds: an hour ahead, ten minutes back, a day ahead, a minute back.
const STEPS: [i64; 4] = [3_600, -600, 86_400, -60];

/// The process is started anew for it, since a library cannot be put under one that runs, and once more after it.
pub fn step(site: &mut Site, stroke: &Stroke) -> Result<Done> {
    let library = match &site.faketime {
        Ok(library) => library.display().to_string(),
        Err(why) => return Ok(Done::Skipped(why.clone())),
    };
    let victim = stroke.pick as usize % site.members.len();
    let step = STEPS[(stroke.pick / 64) as usize % STEPS.len()];
    let file = site.folder().join("clock");
    fs::write(&file, "+0")?;
    let variables = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()), // its name in older versions
    ];
    site.members[victim].process()?.stop(STOP_LIMIT)?;
    site.start(victim, &variables)?;
    site.members[victim].wait_until_ready(READY_LIMIT)?;
    rest(stroke.lasts / 3)?;
    fs::write(&file, format!("{step:+}"))?;
    rest(stroke.lasts / 3)?;
    fs::write(&file, "+0")?;
    rest(stroke.lasts / 3)?;
    site.members[victim].process()?.stop(STOP_LIMIT)?;
    site.start(victim, &[])?;
    Ok(Done::Struck(format!("{} by {step:+} s and back", site.members[victim].name)))
}
