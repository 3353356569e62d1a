use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use s3::error::S3Error;
use url::Url;

use super::super::{Download, PresignedPut, Upload};
use super::{Fault, Key, S3, seconds};
use crate::Result;

impl S3 {
    pub(in super::super) fn presign_get(&self, key: Key, expires: Duration, as_: &Download) -> Result<Url> {
        let queries = HashMap::from([
            ("response-content-disposition".to_owned(), as_.disposition.clone()),
            ("response-content-type".to_owned(), as_.media_type.clone()),
        ]);
        finished(self.public.presign_get(key.to_string(), seconds(expires), Some(queries)))
    }

    /// The signature covers what is to be sent, so that the link takes nothing else: length, type, and the hash where the
    /// client gave one. Without it the first content is the last, for what is looked at must not change afterwards.
    pub(in super::super) fn presign_put(&self, key: Key, expires: Duration, what: &Upload) -> Result<PresignedPut> {
        let mut headers =
            vec![("content-length", what.size_bytes.to_string()), ("content-type", what.media_type.clone())];
        headers.push(match what.sha256 {
            Some(sha256) => ("x-amz-checksum-sha256", STANDARD.encode(sha256)),
            None => ("if-none-match", "*".to_owned()),
        });
        let mut signed = HeaderMap::new();
        for (name, value) in &headers {
            signed.insert(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(Fault::strange)?);
        }
        let url = finished(self.public.presign_put(key.to_string(), seconds(expires), Some(signed), None))?;
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(PresignedPut { url, headers })
    }
}

/// Signing waits for nobody: keys that do not expire are not asked for anew.
fn finished(link: impl Future<Output = Result<String, S3Error>>) -> Result<Url> {
    let link = link.now_or_never().ok_or_else(|| Fault::strange("signing a link waits"))?;
    Ok(Url::parse(&link.map_err(Fault::from)?).map_err(Fault::strange)?)
}
