//! Mail servers, asked in order until one takes the mail.

use std::time::Duration;

use millwork_shared::jobs::JobError;
use serde::Serialize;
use tokio::time::Instant;

use self::fault::{Blame, Fault, Step};
use self::server::Server;
use super::compose::Composed;

mod address;
mod circuit;
mod fault;
mod idle;
mod server;

/// Servers in the order of preference.
pub struct Servers(Vec<Server>);

/// What became of one mail in one run.
#[derive(Debug)]
pub struct Report {
    pub tried: Vec<Try>,
    pub end: End,
}

#[derive(Debug)]
pub enum End {
    Taken,
    Refused(JobError),
    /// `no_chance`: no server was in order.
    Later {
        error: JobError,
        no_chance: bool,
    },
}

/// What one server said.
#[derive(Debug, Serialize)]
pub struct Try {
    pub server: String,
    pub ms: u64,
    /// Where it failed; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    pub answer: String,
}

impl Servers {
    /// # Errors
    /// Says which entry of the list is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries: Vec<_> = text.split(',').map(str::trim).collect();
        let several = entries.len() > 1;
        let parse = |(n, entry): (usize, &&str)| {
            Server::parse(entry).map_err(|e| if several { format!("entry {}: {e}", n + 1) } else { e })
        };
        entries.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Hosts and ports.
    pub fn addresses(&self) -> Vec<(String, u16)> {
        self.0.iter().map(|server| (server.host.clone(), server.port)).collect()
    }

    /// Hands the mail to the first server that takes it, passing over those that failed a moment ago.
    ///
    /// A server that cannot be reached has its share of the time that is left, so that the next one has its chance. What
    /// is no fault of a server (a refused recipient) is not tried elsewhere.
    pub async fn deliver(&self, mail: &Composed, deadline: Instant) -> Report {
        let mut report = Report { tried: Vec::new(), end: all_rest() };
        for (server, left) in self.0.iter().zip((1..=self.0.len()).rev()) {
            let started = Instant::now();
            let time_left = deadline.saturating_duration_since(started);
            if time_left.is_zero() {
                break;
            }
            let Some(pass) = server.circuit.enter(started, time_left) else { continue };
            let connected_by = started + time_left / u32::try_from(left).unwrap_or(u32::MAX);
            let result = server.send(mail, connected_by, deadline).await;
            match &result {
                Err(Fault { blame: Blame::Server | Blame::Unsure, error, .. }) => {
                    let category = error.category().as_str();
                    tracing::warn!(
                        server.address = %server.host, server.port, %error, error.category = category,
                        "a mail server failed"
                    );
                    server.circuit.failed(&pass, Instant::now());
                }
                Err(Fault { blame: Blame::Nobody, .. }) => {}
                Ok(_) | Err(Fault { blame: Blame::Mail | Blame::Moment, .. }) => server.circuit.succeeded(&pass),
            }
            let over = report.note(server, started.elapsed(), result);
            if over {
                break;
            }
        }
        report
    }
}

fn all_rest() -> End {
    let error = JobError::new("mail_unavailable", "every mail server failed a moment ago");
    End::Later { error, no_chance: true }
}

impl Report {
    /// Adds what `server` said; whether no other is to be asked.
    fn note(&mut self, server: &Server, took: Duration, result: Result<String, Fault>) -> bool {
        let name = format!("{}:{}", server.host, server.port);
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(answer) => {
                self.tried.push(Try { server: name, ms, step: None, code: Some(250), answer });
                self.end = End::Taken;
                true
            }
            Err(Fault { blame, step, code, error }) => {
                let answer = error.message.clone();
                self.tried.push(Try { server: name, ms, step: Some(step), code, answer });
                let no_chance = matches!(self.end, End::Later { no_chance: true, .. });
                self.end = match blame {
                    Blame::Mail => End::Refused(error),
                    Blame::Server | Blame::Nobody => End::Later { error, no_chance },
                    Blame::Moment | Blame::Unsure => End::Later { error, no_chance: false },
                };
                matches!(blame, Blame::Mail | Blame::Unsure)
            }
        }
    }
}
