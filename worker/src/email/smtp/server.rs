//! One mail server: its address, its connections, and a conversation with it.

use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self, response::Response};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::circuit::Circuit;
use super::fault::{Blame, Fault, Step};
use super::idle::{self, Idle};
use crate::email::compose::Composed;

/// Longest wait for a TCP connection to one of a name's addresses, so that the next address has its chance.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a sign of life on a connection that was idle: its far end may be gone without a word.
const REVIVE_TIMEOUT: Duration = Duration::from_secs(3);

pub enum Security {
    None,
    /// STARTTLS where the server offers it.
    Opportunistic(TlsParameters),
    StartTls(TlsParameters),
    /// TLS from the first byte.
    Implicit(TlsParameters),
}

pub struct Server {
    pub host: String,
    pub port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    pub(super) hello: ClientId,
    pub circuit: Circuit,
    pub(super) idle: Arc<Idle>,
    /// One for each connection that may be in use.
    pub(super) slots: Semaphore,
}

impl Server {
    /// Hands the mail over and says what the server answered. A connection must stand by `connected_by`.
    ///
    /// May be dropped at any time: the connection in use is closed then, never kept.
    pub async fn send(&self, mail: &Composed, connected_by: Instant, deadline: Instant) -> Result<String, Fault> {
        let Ok(Ok(_slot)) = timeout_at(connected_by, self.slots.acquire()).await else { return Err(Fault::busy()) };
        if let Some(connection) = self.idle.take() {
            let revived_by = deadline.min(Instant::now() + REVIVE_TIMEOUT);
            match self.converse(connection, mail, revived_by, deadline).await {
                // Closed while it was idle, and probably not alone.
                Err(fault) if fault.step == Step::From && fault.blame == Blame::Server => self.idle.clear(),
                other => return other,
            }
        }
        let connection = match timeout_at(connected_by, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Fault::timeout(Step::Connect)),
        };
        self.converse(connection, mail, deadline, deadline).await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Fault> {
        let failed = |e: smtp::Error| Fault::of(Step::Connect, &e);
        let implicit = match &self.security {
            Security::Implicit(tls) => Some(tls.clone()),
            _ => None,
        };
        let addr = (self.host.as_str(), self.port);
        let connected =
            AsyncSmtpConnection::connect_tokio1(addr, Some(CONNECT_TIMEOUT), &self.hello, implicit, None).await;
        let mut connection = connected.map_err(failed)?;
        match &self.security {
            Security::StartTls(tls) => connection.starttls(tls.clone(), &self.hello).await.map_err(failed)?,
            Security::Opportunistic(tls) if connection.can_starttls() => {
                connection.starttls(tls.clone(), &self.hello).await.map_err(failed)?;
            }
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            if matches!(self.security, Security::Opportunistic(_)) && !connection.is_encrypted() {
                idle::hang_up(connection);
                return Err(Fault::unencrypted());
            }
            let logged_in = connection.auth(DEFAULT_MECHANISMS, credentials).await;
            logged_in.map_err(|e| Fault::of(Step::Login, &e))?;
        }
        Ok(connection)
    }

    /// Sends the mail over `connection` and keeps it for the next one if both sides know where they are.
    async fn converse(
        &self,
        mut connection: AsyncSmtpConnection,
        mail: &Composed,
        begun_by: Instant,
        deadline: Instant,
    ) -> Result<String, Fault> {
        let from = Mail::new(mail.envelope.from().cloned(), Vec::new());
        let begun = match timeout_at(begun_by, connection.command(from)).await {
            Ok(answer) => answer.map_err(|e| Fault::of(Step::From, &e)),
            Err(_) => return Err(Fault::timeout(Step::From)),
        };
        let mut step = Step::To;
        let done = match begun {
            Ok(_) => match timeout_at(deadline, hand_over(&mut connection, mail, &mut step)).await {
                Ok(answer) => answer.map_err(|e| Fault::of(step, &e)),
                Err(_) => return Err(Fault::timeout(step)),
            },
            Err(fault) => Err(fault),
        };
        match done {
            Ok(answer) => {
                self.idle.put(connection);
                Ok(answer.message().collect::<Vec<_>>().join(" "))
            }
            Err(fault) => {
                if fault.code.is_some() {
                    idle::hang_up(connection);
                }
                Err(fault)
            }
        }
    }
}

/// From the recipient to the answer to the mail's last byte.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    mail: &Composed,
    step: &mut Step,
) -> Result<Response, smtp::Error> {
    for recipient in mail.envelope.to() {
        connection.command(Rcpt::new(recipient.clone(), Vec::new())).await?;
    }
    *step = Step::Data;
    connection.command(Data).await?;
    *step = Step::Body;
    connection.message(&mail.bytes).await
}
