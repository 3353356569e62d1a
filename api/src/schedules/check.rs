//! What no schema can say of a schedule.

use millwork_shared::jobs::NewJob;
use millwork_shared::schedules::{Rhythm, RhythmFault};
use poem_openapi::types::Type;
use serde::de::DeserializeOwned;

use super::types::{NewSchedule, ScheduleChange, ScheduledJob};
use crate::http::{ApiError, Fault, Result, body};
use crate::jobs::submit::{self, Submitter};

/// Where nobody has said otherwise.
pub const ZONE: &str = "UTC";

/// The schedule that a body asks for, and its job.
///
/// # Errors
/// 400 when it is not JSON, 422 with every fault at once.
pub fn new(raw: &[u8], by: &Submitter<'_>) -> Result<(NewSchedule, NewJob)> {
    let new: NewSchedule = parse(raw, by)?;
    let job = job(&new.job, by)?;
    Ok((new, job))
}

/// The change that a body asks for, and the new job.
///
/// # Errors
/// As [`new`].
pub fn change(raw: &[u8], by: &Submitter<'_>) -> Result<(ScheduleChange, Option<NewJob>)> {
    let change: ScheduleChange = parse(raw, by)?;
    let job = change.job.as_ref().map(|asked| job(asked, by)).transpose()?;
    Ok((change, job))
}

fn parse<T: Type + DeserializeOwned + 'static>(raw: &[u8], by: &Submitter<'_>) -> Result<T> {
    let value = body::value(raw)?;
    let mut faults = body::faults_of::<T>(&value)?;
    let known: Vec<String> = faults.iter().map(|fault| fault.pointer.clone()).collect();
    let text = |field: &str| value[field].as_str().filter(|_| !known.contains(&format!("/{field}")));
    faults.extend(rhythm_faults(text("cron"), text("timezone"), by));
    if value["job"].is_object() {
        submit::add_faults("/job", &value["job"], by, &mut faults);
    }
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    body::parse(raw)
}

fn rhythm_faults(cron: Option<&str>, zone: Option<&str>, by: &Submitter<'_>) -> Vec<Fault> {
    match Rhythm::parse(cron.unwrap_or("* * * * *"), zone.unwrap_or(ZONE)) {
        Ok(rhythm) if rhythm.next_after(by.now).is_none() => {
            vec![Fault::new("/cron", "never", "there is no such day in the calendar")]
        }
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .into_iter()
            .map(|fault| match fault {
                RhythmFault::Cron(detail) => Fault::new("/cron", "invalid", detail),
                RhythmFault::Zone(detail) => Fault::new("/timezone", "unknown", detail),
            })
            .collect(),
    }
}

fn job(asked: &ScheduledJob, by: &Submitter<'_>) -> Result<NewJob> {
    let missed = || ApiError::internal(anyhow::anyhow!("a fault of a scheduled job was not found"));
    submit::lone_job(asked.clone().into(), by).ok_or_else(missed)
}
