//! What a store that is no folder is reached with: options, environment, and the profiles of the AWS tools.

use crate::environment;
use crate::exit::usage;
use crate::output::Output;
use clap::Args;
use icecore::backend::{Address, BucketKind, StoreSettings};
use icecore::runtime::Runtime;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Options about stores.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreOptions {
    /// Where the store is, as https://s3.example.org or http://localhost:9000; without it as the environment or the store's own default says
    #[arg(long, global = true, value_name = "URL", help_heading = "Store")]
    endpoint: Option<String>,
    /// The region of an S3 bucket
    #[arg(long, global = true, value_name = "NAME", help_heading = "Store")]
    region: Option<String>,
    /// An option of the store by the name that the crate object_store has for it, as virtual_hosted_style_request=true; may be given again
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Store")]
    store_option: Vec<String>,
    /// So many seconds after it was written, at the latest, the store lists an object, as `icecore doctor` found; each listing waits for that
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Store")]
    listing_lag: Option<Duration>,
    /// Requests to a store that are under way at once
    #[arg(long, global = true, value_name = "N", help_heading = "Store")]
    store_connections: Option<NonZeroUsize>,
    #[arg(skip)]
    is_second: bool,
}

/// Options about the store of the second repository, where it is another one than that of the first.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SecondStoreOptions {
    /// As --endpoint, for the second repository; its credentials can stand in variables that begin with ICECORE_TO_, as ICECORE_TO_AWS_PROFILE
    #[arg(long, value_name = "URL")]
    to_endpoint: Option<String>,
    /// As --region, for the second repository
    #[arg(long, value_name = "NAME")]
    to_region: Option<String>,
    /// As --store-option, for the second repository; where one is given, none of the first counts there
    #[arg(long, value_name = "KEY=VALUE")]
    to_store_option: Vec<String>,
}

/// What the variables of the environment begin with that are meant for the second repository only.
const SECOND_PREFIX: &str = "ICECORE_TO_";

impl StoreOptions {
    /// Those of the second repository: what is said of it goes before what is said of the first.
    pub(crate) fn of_second(&self, second: &SecondStoreOptions) -> Self {
        let store_option = if second.to_store_option.is_empty() { &self.store_option } else { &second.to_store_option };
        Self {
            endpoint: second.to_endpoint.clone().or_else(|| self.endpoint.clone()),
            region: second.to_region.clone().or_else(|| self.region.clone()),
            store_option: store_option.clone(),
            is_second: true,
            ..self.clone()
        }
    }

    /// Requests that are under way at once.
    pub(crate) fn connections(&self) -> usize {
        self.store_connections.map_or(StoreSettings::CONNECTIONS, NonZeroUsize::get)
    }

    /// Variables of the environment. Those for the second repository never mix with others: a key goes with its own secret and token.
    fn environment(&self, prefix: &str) -> Variables {
        let named = if self.is_second { environment::variables(&format!("{SECOND_PREFIX}{prefix}")) } else { Vec::new() };
        match named.is_empty() {
            true => environment::variables(prefix),
            false => named.into_iter().filter_map(|(name, value)| Some((name.strip_prefix(SECOND_PREFIX)?.to_owned(), value))).collect(),
        }
    }

    /// All that is needed to reach the store at `address`.
    pub(crate) fn settings(&self, address: &Address, runtime: Runtime, output: &Arc<Output>) -> anyhow::Result<StoreSettings> {
        let mut settings = StoreSettings::new(runtime);
        settings.traffic = Arc::clone(output.traffic());
        let told = Arc::clone(output);
        settings.notice = Some(Arc::new(move |message| told.warn(message)));
        settings.connections = self.connections();
        settings.listing_lag = self.listing_lag.unwrap_or_default();
        if address.folder().is_some() {
            return Ok(settings);
        }
        let kind = if let Address::Bucket(bucket) = address { Some(bucket.kind) } else { None };
        settings.environment = match kind {
            None => Vec::new(),
            Some(BucketKind::S3) => {
                let of_environment = self.environment("AWS_");
                let mut found = of_profile(&of_environment)?;
                found.extend(of_environment);
                found
            }
            Some(BucketKind::Azure) => self.environment("AZURE_"),
            Some(BucketKind::Google) => self.environment("GOOGLE_"),
        };
        for option in &self.store_option {
            let Some((name, value)) = option.split_once('=') else {
                return Err(usage(format!("--store-option {option}: write it as KEY=VALUE")));
            };
            settings.options.push((name.to_owned(), value.to_owned()));
        }
        let named = [("endpoint", &self.endpoint), ("region", &self.region)];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        settings.options.extend(named);
        Ok(settings)
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("`{text}` is no number of seconds"))
}

/// Options by the names of the environment.
type Variables = Vec<(String, String)>;

/// What the chosen profile of the AWS tools says, as if the environment did.
fn of_profile(environment: &Variables) -> anyhow::Result<Variables> {
    let variable = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let file = |named: &str, usual: &str| match variable(named) {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(environment::home_folder()?.join(".aws").join(usual)),
    };
    // One that is missing says nothing, unless a profile is wanted of it.
    let read = |path: Option<PathBuf>| path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let config = read(file("AWS_CONFIG_FILE", "config"));
    let has_key = variable("AWS_ACCESS_KEY_ID").is_some();
    profile(variable("AWS_PROFILE"), &credentials, &config, has_key)
}

/// `has_key`: the environment has a key, so that of the profile, with its token, does not count.
fn profile(named: Option<&str>, credentials: &str, config: &str, has_key: bool) -> anyhow::Result<Variables> {
    let name = named.unwrap_or("default");
    let in_config = if name == "default" { "default".to_owned() } else { format!("profile {name}") };
    let (of_config, of_credentials) = (section(config, &in_config), section(credentials, name));
    if named.is_some() && of_config.is_none() && of_credentials.is_none() {
        return Err(usage(format!("AWS_PROFILE names `{name}`, which neither ~/.aws/config nor ~/.aws/credentials has")));
    }
    let (of_config, of_credentials) = (of_config.unwrap_or_default(), of_credentials.unwrap_or_default());
    let has = |key: &str| of_config.iter().chain(&of_credentials).any(|(known, _)| *known == key);
    if let Some(unknown) =
        ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"].into_iter().find(|key| has(key))
        && !has("aws_access_key_id")
        && !has_key
    {
        let message = format!(
            "the AWS profile `{name}` gets its keys by `{unknown}`, which icecore cannot do; let the AWS tools do it: \
             eval \"$(aws configure export-credentials --profile {name} --format env)\""
        );
        // Somebody may have another profile by chance; one that was named is meant.
        return if named.is_some() { Err(usage(message)) } else { Ok(Vec::new()) };
    }
    let mut found = Vec::new();
    for (key, value) in of_config.into_iter().chain(of_credentials) {
        let variable = match key {
            "region" => "AWS_REGION",
            "endpoint_url" => "AWS_ENDPOINT_URL",
            "aws_access_key_id" if !has_key => "AWS_ACCESS_KEY_ID",
            "aws_secret_access_key" if !has_key => "AWS_SECRET_ACCESS_KEY",
            "aws_session_token" if !has_key => "AWS_SESSION_TOKEN",
            _ => continue,
        };
        found.push((variable.to_owned(), value.to_owned()));
    }
    Ok(found)
}

/// The entries of a section of a file with `[sections]` and `key = value`; `None` where there is no such section. Nested ones are passed over.
fn section<'a>(text: &'a str, name: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let heading = |line: &'a str| {
        line.trim().strip_prefix('[')?.strip_suffix(']').map(|inner| inner.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut lines = text.lines();
    lines.find(|line| heading(line).as_deref() == Some(name))?;
    let entries = lines.take_while(|line| heading(line).is_none()).filter(|line| !line.starts_with([' ', '\t', '#', ';']));
    Some(entries.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = one\naws_secret_access_key=first\n\n[other]\naws_access_key_id = two\n\
                               aws_secret_access_key = second=\naws_session_token = token\n";
    const CONFIG: &str = "[default]\nregion = here\ns3 =\n  endpoint_url = http://nested\n[profile other]\nregion = there\n\
                          endpoint_url = http://endpoint:9000\n[profile sso]\nsso_session = me\n";

    fn found(named: Option<&str>, has_key: bool) -> Vec<(String, String)> {
        profile(named, CREDENTIALS, CONFIG, has_key).unwrap()
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn profiles_are_those_of_the_aws_tools() {
        assert_eq!(found(None, false), of(&[("AWS_REGION", "here"), ("AWS_ACCESS_KEY_ID", "one"), ("AWS_SECRET_ACCESS_KEY", "first")]));
        let other = [
            ("AWS_REGION", "there"),
            ("AWS_ENDPOINT_URL", "http://endpoint:9000"),
            ("AWS_ACCESS_KEY_ID", "two"),
            ("AWS_SECRET_ACCESS_KEY", "second="),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        assert_eq!(found(Some("other"), false), of(&other));
        // A key of the environment never goes with the secret or the token of a profile.
        assert_eq!(found(Some("other"), true), of(&other[..2]));
        assert_eq!(profile(None, "", "", false).unwrap(), []);
        assert!(profile(Some("third"), CREDENTIALS, CONFIG, false).is_err());
        assert!(profile(Some("sso"), CREDENTIALS, CONFIG, false).unwrap_err().to_string().contains("export-credentials"));
    }
}
