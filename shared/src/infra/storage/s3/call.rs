use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use s3::Bucket;
use s3::command::{Command, HttpMethod};
use s3::request::Request;
use s3::request::tokio_backend::ReqwestRequest;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::{Fault, S3};
use crate::jobs::retry::Policy;

/// More is no answer of S3: a thousand keys take less than half of it.
const MOST_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// Waits between tries.
const WAITS: Policy = Policy { first: Duration::from_millis(100), factor: 4.0, longest: Duration::from_secs(2) };

/// A request as it goes out. Its signature is good for a quarter of an hour, so it may be sent more than once.
pub(super) struct Signed {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl S3 {
    /// Signs, sends and reads the answer, with a few tries. Every command of ours may run twice.
    pub(super) async fn call(&self, path: &str, command: Command<'_>, body: Bytes) -> Result<Answer, Fault> {
        let signed = self.sign(path, command, body).await?;
        self.send(&signed, self.deadlines.call).await
    }

    /// An answer of the bucket itself, read.
    pub(super) async fn ask<T: DeserializeOwned>(&self, command: Command<'_>) -> Result<T, Fault> {
        read(&self.call("/", command, Bytes::new()).await?.body)
    }

    pub(super) async fn sign(&self, path: &str, command: Command<'_>, body: Bytes) -> Result<Signed, Fault> {
        sign(&self.bucket, path, command, body).await
    }

    /// `deadline` is one try's.
    pub(super) async fn send(&self, signed: &Signed, deadline: Duration) -> Result<Answer, Fault> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(signed, deadline).await {
                Err(fault) if fault.is_passing() && tries < self.deadlines.tries => self.pause(tries).await,
                result => return result,
            }
        }
    }

    pub(super) async fn attempt(&self, signed: &Signed, deadline: Duration) -> Result<Answer, Fault> {
        let work = async {
            let response = self.response(signed).await?;
            let headers = response.headers().clone();
            let body = whole(response).await?;
            // A long operation answers 200 at once and says later that it failed.
            if body.starts_with(b"<") && body.windows(7).any(|w| w == b"<Error>") {
                return Err(Fault::of(reqwest::StatusCode::INTERNAL_SERVER_ERROR, &body));
            }
            Ok(Answer { headers, body })
        };
        timeout(deadline, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// An answer whose body is still to come.
    pub(super) async fn open(&self, path: &str, command: Command<'_>) -> Result<Response, Fault> {
        let signed = self.sign(path, command, Bytes::new()).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let response = timeout(self.deadlines.call, self.response(&signed)).await;
            match response.unwrap_or_else(|_| Err(late())) {
                Err(fault) if fault.is_passing() && tries < self.deadlines.tries => self.pause(tries).await,
                result => return result,
            }
        }
    }

    async fn response(&self, signed: &Signed) -> Result<Response, Fault> {
        let Signed { method, url, headers, body } = signed;
        let request = self.http.request(method.clone(), url.clone()).headers(headers.clone()).body(body.clone());
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(Fault::of(status, &whole(response).await.unwrap_or_default()))
    }

    async fn pause(&self, tries: u32) {
        let wait = WAITS.ceiling(i16::try_from(tries).unwrap_or(i16::MAX)).mul_f64(rand::random_range(0.5..1.0));
        tokio::time::sleep(wait.min(self.deadlines.call)).await;
    }
}

pub(super) async fn sign(bucket: &Bucket, path: &str, command: Command<'_>, body: Bytes) -> Result<Signed, Fault> {
    let method = match command.http_verb() {
        HttpMethod::Get => Method::GET,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Post => Method::POST,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Head => Method::HEAD,
    };
    let request = ReqwestRequest::new(bucket, path, command).await?;
    Ok(Signed { method, url: request.url()?, headers: request.headers().await?, body })
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    quick_xml::de::from_reader(body).map_err(Fault::strange)
}

async fn whole(mut response: Response) -> Result<Bytes, Fault> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > MOST_ANSWER_BYTES {
            return Err(Fault::strange("an answer is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn late() -> Fault {
    Fault::Down("no answer in time".to_owned())
}
