//! Why there was no answer, in a few words that programs can tell apart.

use std::error::Error as StdError;
use std::io;

use millwork_shared::egress::TargetFault;

use super::resolver::Refused;

/// What kept a call from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The URL cannot be called whatever the network does.
    InvalidUrl,
    /// The address is private, reserved or otherwise out of bounds.
    RefusedAddress,
    /// The name does not resolve.
    Dns,
    /// No connection.
    Connect,
    /// A connection, but no agreement on its encryption.
    Tls,
    /// The deadline passed.
    Timeout,
    /// The connection was cut before the answer was complete.
    Reset,
    /// What came is not HTTP, or breaks its rules or our bounds.
    Protocol,
}

impl FailureClass {
    /// Stable, snake_case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidUrl => "invalid_url",
            Self::RefusedAddress => "refused_address",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
        }
    }
}

/// A call without an answer.
#[derive(Debug, Clone)]
pub struct Failure {
    pub class: FailureClass,
    /// For people; names no secret, since URLs here have no credentials.
    pub message: String,
}

impl Failure {
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let message = causes(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
        Self { class: class_of(&error), message }
    }
}

impl From<TargetFault> for Failure {
    fn from(fault: TargetFault) -> Self {
        let class = match fault.code {
            "url_private_address" => FailureClass::RefusedAddress,
            _ => FailureClass::InvalidUrl,
        };
        Self::new(class, fault.detail)
    }
}

fn class_of(error: &reqwest::Error) -> FailureClass {
    let find = |is: &dyn Fn(&(dyn StdError + 'static)) -> bool| causes(error).any(is);
    if find(&|cause| cause.is::<Refused>()) {
        return FailureClass::RefusedAddress;
    }
    if error.is_dns() {
        return FailureClass::Dns;
    }
    if error.is_timeout() {
        return FailureClass::Timeout;
    }
    if find(&|cause| cause.is::<rustls::Error>()) {
        return FailureClass::Tls;
    }
    if error.is_connect() {
        return FailureClass::Connect;
    }
    if find(&|cause| cause.downcast_ref::<io::Error>().is_some_and(is_cut) || is_incomplete(cause)) {
        return FailureClass::Reset;
    }
    FailureClass::Protocol
}

fn is_cut(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

fn is_incomplete(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
}

/// The chain of causes. An I/O error shows the cause of what it wraps, not what it wraps, so that is put in between.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
