//! From an address and settings to the crate's client of that store.

use super::Store;
use super::signed::Signed;
use crate::backend::store::StoreSettings;
use crate::backend::{BucketAddress, BucketKind};
use crate::error::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientOptions, RetryConfig};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_SECONDS: u64 = 10;

/// Makes the client, and what sends the requests that it has no methods for; nothing is asked of the store yet.
pub(super) fn store(address: &BucketAddress, settings: &StoreSettings) -> Result<(Arc<dyn Store>, Signed)> {
    // Whoever uses the engine may have chosen another one before; then that counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = &address.bucket;
    let failed = |error: object_store::Error| Error::new(ErrorKind::Invalid, format!("{address}: {error}"));
    // Waiting and asking again are the driver's.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let options = client(settings);
    let client = options.clone();
    let store: Arc<dyn Store> = match address.kind {
        BucketKind::S3 => {
            // A name that goes before the general one.
            let options = read::<AmazonS3ConfigKey>(address, settings, "aws_endpoint_url_s3")?;
            // Objects go one by one; the request that deletes many is one more thing that a store may not know.
            let builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry).with_disable_bulk_delete(true);
            let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.with_bucket_name(bucket).build().map_err(failed)?)
        }
        BucketKind::Azure => {
            let options = read::<AzureConfigKey>(address, settings, "azure_storage_endpoint")?;
            let builder = MicrosoftAzureBuilder::new().with_client_options(client).with_retry(retry);
            let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.with_container_name(bucket).build().map_err(failed)?)
        }
        BucketKind::Google => {
            let options = read::<GoogleConfigKey>(address, settings, "google_base_url")?;
            let builder = GoogleCloudStorageBuilder::new().with_client_options(client).with_retry(retry);
            let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Arc::new(builder.with_bucket_name(bucket).build().map_err(failed)?)
        }
    };
    let signed = Signed::new(Arc::clone(&store), address.kind, &options).map_err(failed)?;
    Ok((store, signed))
}

/// The options that this kind of store knows, those of the environment first; `endpoint` by the name that it has there.
fn read<K: FromStr>(address: &BucketAddress, settings: &StoreSettings, endpoint: &str) -> Result<Vec<(K, String)>> {
    let mut options = Vec::new();
    for (name, value) in &settings.environment {
        // The environment is full of names that mean something to others.
        if let Ok(key) = K::from_str(&name.to_ascii_lowercase()) {
            options.push((key, value.clone()));
        }
    }
    for (name, value) in &settings.options {
        let name = name.to_ascii_lowercase();
        let known = if name == "endpoint" { endpoint } else { &name };
        let unknown = |_| Error::new(ErrorKind::Invalid, format!("{address}: this kind of store has no option `{name}`"));
        options.push((K::from_str(known).map_err(unknown)?, value.clone()));
    }
    Ok(options)
}

fn client(settings: &StoreSettings) -> ClientOptions {
    // Whoever writes `http://` means it.
    let mut values = settings.environment.iter().chain(&settings.options).map(|(_, value)| value);
    ClientOptions::new()
        .with_allow_http(values.any(|value| value.starts_with("http://")))
        // The driver gives each request its time, by its size. A time for reading would count from before a body is sent.
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(CONNECT_SECONDS))
        .with_pool_max_idle_per_host(settings.connections.max(1))
}
