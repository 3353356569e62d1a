use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use url::{Host, Url};

use super::{Deadlines, Storage};
use crate::infra::config::{Faults, secret, without_password};
use crate::infra::crypto::Secret;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Storage")]
pub struct StorageArgs {
    /// Where files, exports and reports are kept: file:///folder, or
    /// s3://bucket?endpoint=https://…&region=…&path_style=true [default in development: the folder .dev/objects]
    #[arg(long, env = "STORAGE_URL", hide_env_values = true)]
    pub storage_url: Option<String>,
    /// Key for s3://
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    pub aws_access_key_id: Option<String>,
    /// Its secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub aws_secret_access_key: Option<String>,
}

impl StorageArgs {
    /// Opens the storage; nothing is connected yet.
    pub fn read(&self, faults: &mut Faults) -> Option<Storage> {
        let mut url = self.storage_url.clone().filter(|text| !text.trim().is_empty());
        if cfg!(debug_assertions) {
            url = url.or_else(folder_of_checkout);
        }
        let place = faults.required("STORAGE_URL", &url, StorageUrl::from_str)?;
        let keys = match &place {
            StorageUrl::Folder(_) => None,
            StorageUrl::Bucket(_) => Some(Keys {
                id: faults
                    .required("AWS_ACCESS_KEY_ID", &self.aws_access_key_id, |id| Ok::<_, String>(id.to_owned()))?,
                secret: faults.required("AWS_SECRET_ACCESS_KEY", &self.aws_secret_access_key, |text| {
                    secret(&Some(text.to_owned())).ok_or("missing")
                })?,
            }),
        };
        Storage::open(&place, keys.as_ref(), Deadlines::default())
            .map_err(|e| faults.push("STORAGE_URL", format!("{e:#}")))
            .ok()
    }
}

fn folder_of_checkout() -> Option<String> {
    let folder = std::env::current_dir().ok()?.join(".dev/objects");
    Url::from_directory_path(folder).ok().map(String::from)
}

/// Keys of an S3 service.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: Secret<String>,
}

/// What STORAGE_URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageUrl {
    Folder(PathBuf),
    Bucket(Box<BucketUrl>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    pub name: String,
    /// Amazon's of the region unless set.
    pub endpoint: Option<Url>,
    /// Where clients reach it by links, if elsewhere than we do.
    pub public_endpoint: Option<Url>,
    pub region: String,
    /// Whether the bucket is part of the path and not of the host's name.
    pub path_style: bool,
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "the folder {}", path.display()),
            Self::Bucket(bucket) => write!(f, "the bucket {}", bucket.name),
        }
    }
}

impl FromStr for StorageUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("file:") {
            let url = Url::parse(text).ok().filter(|_| text.starts_with("file:///"));
            let path = url.and_then(|url| url.to_file_path().ok());
            return path.map(Self::Folder).ok_or_else(|| format!("`{text}` is not of the form file:///folder"));
        }
        let shown = || format!("`{}`", without_password(text));
        let form = || format!("{} is neither file:///folder nor s3://bucket?endpoint=…&region=…", shown());
        let url = Url::parse(text).map_err(|_| form())?;
        if url.scheme() != "s3" || url.port().is_some() || !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(form());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("{} has keys; they go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", shown()));
        }
        bucket(&url).map(Box::new).map(Self::Bucket)
    }
}

fn bucket(url: &Url) -> Result<BucketUrl, String> {
    let name = url.host_str().unwrap_or_default().to_owned();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !(3..=63).contains(&name.len()) || !name.bytes().all(plain) {
        return Err(format!("`{name}` is no name of a bucket: 3 to 63 of a to z, 0 to 9, - and ."));
    }
    let mut bucket =
        BucketUrl { name, endpoint: None, public_endpoint: None, region: "us-east-1".to_owned(), path_style: false };
    for (name, value) in url.query_pairs() {
        match &*name {
            "endpoint" => bucket.endpoint = Some(endpoint(&value)?),
            "public_endpoint" => bucket.public_endpoint = Some(endpoint(&value)?),
            "region" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
                bucket.region = value.into_owned();
            }
            "region" => return Err(format!("`{value}` is no region such as eu-central-1")),
            "path_style" => {
                bucket.path_style = value.parse().map_err(|_| format!("path_style is `{value}`, not true or false"))?;
            }
            other => return Err(format!("`{other}` is none of endpoint, public_endpoint, region, path_style")),
        }
    }
    let by_number = |url: &Url| !matches!(url.host(), Some(Host::Domain(_)));
    if !bucket.path_style && bucket.endpoint.iter().chain(&bucket.public_endpoint).any(by_number) {
        return Err(
            "the endpoint is an IP address, which a bucket's name cannot stand before: add path_style=true".into()
        );
    }
    Ok(bucket)
}

fn endpoint(text: &str) -> Result<Url, String> {
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text)
        .ok()
        .filter(plain)
        .ok_or_else(|| format!("`{}` is no endpoint such as https://s3.example.com", without_password(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(url: &str, id: &str, secret: &str) -> String {
        let mut faults = Faults::default();
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let args =
            StorageArgs { storage_url: some(url), aws_access_key_id: some(id), aws_secret_access_key: some(secret) };
        args.read(&mut faults);
        faults.finish().err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_bucket_is_read_with_where_it_is() {
        let text = "s3://my-bucket?endpoint=http://127.0.0.1:3900&region=garage&path_style=true";
        let StorageUrl::Bucket(bucket) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!((bucket.name.as_str(), bucket.region.as_str(), bucket.path_style), ("my-bucket", "garage", true));
        assert_eq!(bucket.endpoint.unwrap().as_str(), "http://127.0.0.1:3900/");
        let StorageUrl::Bucket(bucket) = "s3://my-bucket".parse().unwrap() else { panic!() };
        assert_eq!((bucket.endpoint, bucket.region.as_str(), bucket.path_style), (None, "us-east-1", false));
        assert_eq!("file:///a%20b/c".parse(), Ok(StorageUrl::Folder("/a b/c".into())));
    }

    #[test]
    fn faults_are_named_and_show_no_secret() {
        for (url, says) in [
            ("file://host/folder", "not of the form file:///folder"),
            ("files", "neither file:///folder nor s3://bucket"),
            ("s3://b", "no name of a bucket"),
            ("s3://Under_score", "no name of a bucket"),
            ("s3://bucket/prefix", "neither file"),
            ("s3://id:hunter2@bucket", "they go into AWS_ACCESS_KEY_ID"),
            ("s3://bucket?endpoint=s3.example.com", "no endpoint"),
            ("s3://bucket?endpoint=https://a:hunter2@s3.example.com", "no endpoint"),
            ("s3://bucket?path_style=yes", "path_style is `yes`"),
            ("s3://bucket?style=path", "`style` is none of"),
            ("s3://bucket?region=", "no region"),
            ("s3://bucket?endpoint=http://127.0.0.1:3900", "add path_style=true"),
            ("file:///proc/none/such", "cannot be made"),
        ] {
            let text = faults(url, "id", "hunter2");
            assert!(text.contains("STORAGE_URL: ") && text.contains(says), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        assert!(faults("s3://bucket", "", "x").contains("AWS_ACCESS_KEY_ID: missing"));
        assert!(faults("s3://bucket", "x", "").contains("AWS_SECRET_ACCESS_KEY: missing"));
        assert_eq!(faults("s3://bucket", "x", "y"), "");
    }
}
