//! Events on their way to the endpoints that want them.

use std::time::Duration;

use clap::Args;
use millwork_shared::infra::config::{Faults, parse};
use millwork_shared::infra::db::SystemDb;
use millwork_shared::infra::redis::Redis;
use millwork_shared::jobs::Job;
use millwork_shared::jobs::retry::Schedule;
use millwork_shared::webhooks::jobs::DeliverWebhook;

mod circuit;
/// The handler of `webhook.deliver`.
pub mod deliver;
mod loader;
mod message;
mod pace;
/// Standard Webhooks signatures.
pub mod signature;
mod verdict;
/// What a receiver does with them.
#[cfg(any(test, feature = "testing"))]
pub mod verify;

use self::circuit::Circuits;
use self::loader::Loader;
use self::pace::Pace;
pub(crate) use message::signing_keys;

#[derive(Debug, Clone, Args)]
pub struct WebhookArgs {
    /// Waits before each retry of a delivery [default: 5s,5m,30m,2h,5h,10h,14h,20h,24h]
    #[arg(long, env = "WEBHOOK_RETRY_SCHEDULE")]
    webhook_retry_schedule: Option<String>,
    /// Total deadline of one attempt, in milliseconds, 100 to 60000 [default: 15000]
    #[arg(long, env = "WEBHOOK_TIMEOUT_MS")]
    webhook_timeout_ms: Option<String>,
}

/// How deliveries are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub schedule: Schedule,
    pub timeout: Duration,
}

impl WebhookArgs {
    pub fn read(&self, faults: &mut Faults) -> Option<Settings> {
        let schedule = self.webhook_retry_schedule.clone().unwrap_or("5s,5m,30m,2h,5h,10h,14h,20h,24h".into());
        let timeout = self.webhook_timeout_ms.clone().unwrap_or("15000".into());
        let schedule = faults.required("WEBHOOK_RETRY_SCHEDULE", &Some(schedule), |text| {
            let schedule: Schedule = text.parse()?;
            let most = DeliverWebhook::MAX_ATTEMPTS;
            if schedule.attempts() > most {
                Err(format!("at most {} waits are allowed", most - 1))
            } else {
                Ok(schedule)
            }
        });
        let timeout = faults.required("WEBHOOK_TIMEOUT_MS", &Some(timeout), |text| match parse::<u64>(text) {
            Ok(ms @ 100..=60_000) => Ok(Duration::from_millis(ms)),
            _ => Err(format!("`{text}` is not a number of milliseconds from 100 to 60000")),
        });
        Some(Settings { schedule: schedule?, timeout: timeout? })
    }
}

/// What the handler of deliveries works with.
#[derive(Debug, Clone)]
pub struct Deliveries {
    settings: Settings,
    loader: Loader,
    pace: Pace,
    circuits: Circuits,
}

impl Deliveries {
    /// Starts the loader, which ends with the last clone.
    pub fn new(settings: Settings, system: SystemDb, redis: Redis) -> Self {
        Self { settings, loader: Loader::start(system), pace: Pace::new(redis), circuits: Circuits::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schedule: Option<&str>, timeout: Option<&str>) -> Result<Settings, String> {
        let mut faults = Faults::default();
        let args = WebhookArgs {
            webhook_retry_schedule: schedule.map(str::to_owned),
            webhook_timeout_ms: timeout.map(str::to_owned),
        };
        let settings = args.read(&mut faults);
        faults.finish().map_err(|e| e.to_string())?;
        Ok(settings.unwrap())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = read(None, None).unwrap();
        assert_eq!((settings.schedule.attempts(), settings.timeout), (10, Duration::from_secs(15)));
    }

    #[test]
    fn every_bad_value_is_named() {
        let faults = read(Some("5s,soon"), Some("5s")).unwrap_err();
        assert!(
            faults.contains("WEBHOOK_RETRY_SCHEDULE: `soon`") && faults.contains("WEBHOOK_TIMEOUT_MS: `5s`"),
            "{faults}"
        );
        assert!(read(Some(&["1s"; 100].join(",")), None).unwrap_err().contains("at most 99 waits"));
        assert!(read(Some(&["1s"; 99].join(",")), None).is_ok());
    }
}
