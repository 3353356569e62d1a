use std::fmt;

use reqwest::StatusCode;
use s3::error::S3Error;
use serde::Deserialize;

use super::super::unavailable;
use crate::Error;

/// Why a request has no answer to speak of.
#[derive(Debug)]
pub(super) enum Fault {
    /// The object, or the upload, is not there.
    Absent,
    /// Nobody answers, or too late, or not now: worth another try.
    Down(String),
    /// Our keys, or what they may do.
    Refused(String),
    /// Refused for another reason: its code.
    Status(StatusCode, String),
    /// A fault of ours, or an answer that cannot be read.
    Strange(String),
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(rename = "Code", default)]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

impl Fault {
    /// What an answer that is no success says.
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let Body { code, message } = quick_xml::de::from_reader(body).unwrap_or_default();
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        match (status.as_u16(), &*code) {
            (404, "NoSuchBucket") => Self::Down("the bucket does not exist".to_owned()),
            (404, _) => Self::Absent,
            (401 | 403, _) => Self::Refused(code),
            (507, _) | (_, "InsufficientStorage" | "XMinioStorageFull") => Self::Down("no space is left".to_owned()),
            (501, _) => Self::Status(status, code),
            // What came over there is not what was sent from here.
            (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "RequestTimeout") => Self::Down(code),
            (408 | 429 | 500.., _) | (409, "OperationAborted" | "ConditionalRequestConflict") => {
                Self::Down(format!("answered {} {code}", status.as_u16()))
            }
            _ => Self::Status(status, format!("{code} {}", message.chars().take(200).collect::<String>())),
        }
    }

    pub(super) fn strange(what: impl fmt::Display) -> Self {
        Self::Strange(what.to_string())
    }

    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Down(_))
    }
}

/// Without the URL, which may be signed.
impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::strange(error.without_url());
        }
        let timed_out = error.is_timeout();
        let error = anyhow::Error::from(error.without_url());
        Self::Down(if timed_out { "no answer in time".to_owned() } else { format!("{error:#}") })
    }
}

impl From<S3Error> for Fault {
    fn from(error: S3Error) -> Self {
        Self::strange(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent => unavailable("what was being written is not there any more"),
            Fault::Down(cause) => unavailable(cause),
            Fault::Refused(code) => unavailable(format!("it refuses our keys: {code}")),
            Fault::Status(status, code) => {
                Self::Internal(anyhow::anyhow!("storage answered {} {code}", status.as_u16()))
            }
            Fault::Strange(what) => Self::Internal(anyhow::anyhow!("storage: {what}")),
        }
    }
}
