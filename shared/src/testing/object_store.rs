//! An S3 service on loopback, with its objects in a folder: s3s-fs, which checks signatures and checksums as Amazon does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::host::MultiDomain;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::infra::crypto::Secret;
use crate::infra::storage::{BucketUrl, Deadlines, Keys, Storage, StorageUrl};
use crate::infra::tasks;

const BUCKET: &str = "millwork-test";

/// A service of its own, with one bucket; gone when dropped.
pub struct ObjectStore {
    root: PathBuf,
    addr: SocketAddr,
    service: S3Service,
    trouble: Arc<Mutex<Option<Plan>>>,
    server: Option<JoinHandle<Option<()>>>,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is never answered, nor any after it.
    Hang,
    /// It and all other connections are cut, and nothing listens any more.
    Die,
    /// It is carried out, and its connection cut before the answer.
    LoseAnswer,
}

impl ObjectStore {
    pub async fn start() -> Self {
        let root = std::env::temp_dir().join(format!("millwork-s3-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(root.join(BUCKET)).expect("a folder can be made");
        let files = FileSystem::new(&root).expect("s3s-fs takes a folder");
        let mut builder = S3ServiceBuilder::new(Server { files, root: root.clone() });
        builder.set_auth(SimpleAuth::from_single(Self::keys().id, Self::keys().secret.expose().as_str()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it has an address");
        builder.set_host(MultiDomain::new([format!("s3.localhost:{}", addr.port())]).expect("a domain"));
        let mut store = Self { root, addr, service: builder.build(), trouble: Arc::default(), server: None };
        store.serve(listener);
        store
    }

    /// What its clients present.
    pub fn keys() -> Keys {
        Keys { id: "AKTEST".to_owned(), secret: Secret::new("a secret of forty characters, or nearly so".to_owned()) }
    }

    /// STORAGE_URL, by path.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}?endpoint=http://{}&region=us-east-1&path_style=true", self.addr)
    }

    /// STORAGE_URL, by the host's name.
    pub fn virtual_url(&self) -> String {
        format!("s3://{BUCKET}?endpoint=http://s3.localhost:{}&region=us-east-1", self.addr.port())
    }

    pub fn storage(&self) -> Storage {
        self.storage_with(&self.url(), &Self::keys(), Deadlines::default())
    }

    pub fn storage_with(&self, url: &str, keys: &Keys, deadlines: Deadlines) -> Storage {
        let url: StorageUrl = url.parse().expect("a URL of a storage");
        Storage::open(&url, Some(keys), deadlines).expect("it opens without asking")
    }

    /// A bucket that does not exist.
    pub fn no_bucket(&self) -> StorageUrl {
        let mut url: StorageUrl = self.url().parse().expect("a URL of a storage");
        if let StorageUrl::Bucket(bucket) = &mut url {
            **bucket = BucketUrl { name: "no-such-bucket".to_owned(), ..(**bucket).clone() };
        }
        url
    }

    /// Lets `trouble` come over the request of that method after `after` others of it.
    pub fn trouble(&self, after: usize, method: Method, trouble: Trouble) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Plan { after, method: Some(method), trouble });
    }

    /// Cuts all connections. What it has stays.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    /// Listens again, at the same address.
    pub async fn resume(&mut self) {
        self.stop();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        loop {
            match TcpListener::bind(self.addr).await {
                Ok(listener) => return self.serve(listener),
                Err(_) => tokio::task::yield_now().await, // the old one is not gone yet
            }
        }
    }

    fn serve(&mut self, listener: TcpListener) {
        let (service, trouble) = (self.service.clone(), self.trouble.clone());
        let server = async move {
            let (dies, mut dead) = tokio::sync::mpsc::channel(1);
            let mut connections = JoinSet::new();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.expect("a connection").0,
                    _ = dead.recv() => return,
                };
                let (service, trouble, dies) = (service.clone(), trouble.clone(), dies.clone());
                let answer = service_fn(move |request| serve(request, service.clone(), trouble.clone(), dies.clone()));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tasks::join(&mut connections, async move {
                    let _ = connection.await;
                });
                while connections.try_join_next().is_some() {}
            }
        };
        self.server = Some(tasks::spawn("object store", server));
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("on purpose")]
struct Cut;

async fn serve(
    request: Request<Incoming>,
    service: S3Service,
    trouble: Arc<Mutex<Option<Plan>>>,
    dies: tokio::sync::mpsc::Sender<()>,
) -> Result<hyper::Response<s3s::Body>, Cut> {
    let comes = comes(&mut trouble.lock().unwrap_or_else(PoisonError::into_inner), request.method());
    match comes {
        None => service.call(request.map(s3s::Body::from)).await.map_err(|_| Cut),
        Some(Trouble::Hang) => std::future::pending().await,
        Some(Trouble::Die) => {
            let _ = dies.try_send(());
            Err(Cut)
        }
        Some(Trouble::LoseAnswer) => {
            let answer = service.call(request.map(s3s::Body::from)).await.map_err(|_| Cut)?;
            // Its body is part of the work: a long operation answers before it is done.
            let mut body = answer.into_body();
            while std::future::poll_fn(|cx| hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), cx))
                .await
                .is_some()
            {}
            Err(Cut)
        }
    }
}

/// Trouble to come.
struct Plan {
    /// Requests that it spares.
    after: usize,
    /// None: every request.
    method: Option<Method>,
    trouble: Trouble,
}

/// What comes over the request now.
fn comes(plan: &mut Option<Plan>, method: &Method) -> Option<Trouble> {
    let planned = plan.as_mut()?;
    if planned.method.as_ref().is_some_and(|of| of != method) {
        return None;
    }
    if planned.after > 0 {
        planned.after -= 1;
        return None;
    }
    let trouble = planned.trouble;
    if trouble == Trouble::Hang {
        planned.method = None;
    } else {
        *plan = None;
    }
    Some(trouble)
}

/// s3s-fs, which cannot list unfinished uploads and denies access to unknown ones: its folder tells of both.
struct Server {
    files: FileSystem,
    root: PathBuf,
}

impl Server {
    fn known(&self, upload: &str) -> S3Result<()> {
        let known = self.root.join(format!(".upload-{upload}.json")).exists();
        known.then_some(()).ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

macro_rules! pass_on {
    ($($method:ident $input:ident $output:ident),* $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for Server {
            $(async fn $method(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$method(request).await
            })*

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                self.known(&request.input.upload_id)?;
                self.files.abort_multipart_upload(request).await
            }

            async fn complete_multipart_upload(
                &self,
                request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                self.known(&request.input.upload_id)?;
                self.files.complete_multipart_upload(request).await
            }

            async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
                self.known(&request.input.upload_id)?;
                self.files.upload_part(request).await
            }

            async fn list_multipart_uploads(
                &self,
                request: S3Request<ListMultipartUploadsInput>,
            ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
                let input = request.input;
                let mut uploads = uploads(&self.root, &input.bucket).map_err(|_| s3_error!(InternalError))?;
                uploads.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
                let after = (input.key_marker, input.upload_id_marker);
                uploads.retain(|upload| after.0.is_none() || (upload.key.clone(), upload.upload_id.clone()) > after);
                let most = usize::try_from(input.max_uploads.unwrap_or(1_000)).unwrap_or(1_000);
                let is_truncated = uploads.len() > most;
                uploads.truncate(most);
                let last = uploads.last().filter(|_| is_truncated);
                Ok(S3Response::new(ListMultipartUploadsOutput {
                    bucket: Some(input.bucket),
                    is_truncated: Some(is_truncated),
                    next_key_marker: last.and_then(|upload| upload.key.clone()),
                    next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
                    uploads: Some(uploads),
                    ..Default::default()
                }))
            }
        }
    };
}

pass_on! {
    create_multipart_upload CreateMultipartUploadInput CreateMultipartUploadOutput,
    delete_object DeleteObjectInput DeleteObjectOutput,
    get_object GetObjectInput GetObjectOutput,
    head_object HeadObjectInput HeadObjectOutput,
    list_objects_v2 ListObjectsV2Input ListObjectsV2Output,
    put_object PutObjectInput PutObjectOutput,
}

/// Of files named `.bucket-<bucket>.object-<key>.upload-<id>.metadata.json`, names in base64.
fn uploads(root: &Path, bucket: &str) -> std::io::Result<Vec<MultipartUpload>> {
    let prefix = format!(".bucket-{}.object-", URL_SAFE_NO_PAD.encode(bucket));
    let mut uploads = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".metadata.json")) else {
            continue;
        };
        let Some((key, id)) = rest.split_once(".upload-") else { continue };
        let key = URL_SAFE_NO_PAD.decode(key).ok().and_then(|key| String::from_utf8(key).ok());
        uploads.push(MultipartUpload {
            key,
            upload_id: Some(id.to_owned()),
            initiated: Some(Timestamp::from(entry.metadata()?.modified()?)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        });
    }
    Ok(uploads)
}
