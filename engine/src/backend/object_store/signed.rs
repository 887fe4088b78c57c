//! Requests for which the crate `object_store` has no method: object locks, storage classes, thawing, unfinished uploads.
//!
//! The crate signs an address for them, by the credentials that it has found for everything else. So signing, tokens that expire and the style of
//! addresses stay its own; here stand only sending and reading.

use super::Store;
use crate::backend::BucketKind;
use futures_util::StreamExt;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::{HeaderMap, HeaderName, HeaderValue, Method, SignedUrlOptions, Url};
use object_store::{ClientOptions, Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// A signature holds for so long; a request that waits longer for its answer is given up anyway.
const VALID_SECONDS: u64 = 300;
/// All these answers are short.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Sends requests of one's own making to a bucket.
#[derive(Debug)]
pub(super) struct Signed {
    store: Arc<dyn Store>,
    kind: BucketKind,
    web: HttpClient,
}

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The key; empty for the bucket itself.
    pub(super) path: Path,
    pub(super) query: &'a [(&'a str, &'a str)],
    /// In lower case.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

/// What the store says where it does what it was asked for.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Told {
    /// The value of a header; `None` where there is none, or none of text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Signed {
    /// For the store that was made with these options.
    pub(super) fn new(store: Arc<dyn Store>, kind: BucketKind, options: &ClientOptions) -> Result<Self> {
        Ok(Self { store, kind, web: ReqwestConnector::default().connect(options)? })
    }

    /// Asks once. What the store refuses is an error as the crate gives them, for [`super::answer::Verdict`] to read.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Told> {
        let mut headers = HeaderMap::new();
        for (name, value) in ask.headers {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(failed)?);
        }
        let url = self.sign(ask, &headers).await.map_err(|error| self.unsigned(error))?;
        let mut request = HttpRequest::new(ask.body.to_vec().into());
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = url.as_str().parse().map_err(failed)?;
        *request.headers_mut() = headers;
        let response = self.web.execute(request).await.map_err(failed)?;
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut stream = body.bytes_stream();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(failed)?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(failed(format!("the response has more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        let told = Told { headers: parts.headers, body: bytes };
        match parts.status.as_u16() {
            200..300 => Ok(told),
            status => {
                let source = format!("status code: {status}: {}", told.text()).into();
                let path = ask.path.to_string();
                Err(match status {
                    404 => Error::NotFound { path, source },
                    412 => Error::Precondition { path, source },
                    _ => Error::Generic { store: "store", source },
                })
            }
        }
    }

    /// Google's credentials without a private key have a service sign for them, which most may not use. It is not asked for minutes what it refuses.
    fn unsigned(&self, error: Error) -> Error {
        match self.kind {
            BucketKind::Google => Error::NotSupported { source: format!("these credentials cannot sign addresses: {error}").into() },
            BucketKind::S3 | BucketKind::Azure => error,
        }
    }

    async fn sign(&self, ask: &Ask<'_>, headers: &HeaderMap) -> Result<Url> {
        let valid = Duration::from_secs(VALID_SECONDS);
        match self.kind {
            // Its signature is about the place alone.
            BucketKind::Azure => {
                let mut url = self.store.signed_url(ask.method.clone(), &ask.path, valid).await?;
                url.query_pairs_mut().extend_pairs(ask.query);
                Ok(url)
            }
            BucketKind::S3 | BucketKind::Google => {
                let mut options = SignedUrlOptions::default().with_query(ask.query.iter().copied());
                options.signed_headers = headers.clone();
                self.store.signed_url_opts(ask.method.clone(), &ask.path, valid, &options).await
            }
        }
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "store", source: error.into() }
}
