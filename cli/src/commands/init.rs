//! `init`: makes a repository.

use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::secrets::new_key_file;
use icecore::backend;
use icecore::repository::{CreateOptions, PARITY_PERCENT_MAX};
use serde_json::json;
use std::path::PathBuf;

/// Makes a repository in a place that is missing or empty: a folder, or a part of a bucket
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore init -r /mnt/disk/backups                                  asks for a passphrase\n  \
    icecore init -r /mnt/disk/backups --password-file ~/.backup-password\n  \
    icecore init -r /mnt/disk/backups --new-key-file ~/icecore.key     a key file instead of a passphrase\n  \
    icecore init -r /mnt/disk/backups --parity                         3 % more, from which scrub heals damage\n  \
    icecore init -r s3://bucket/backups --endpoint https://s3.example.org\n\n\
    Places: a folder; s3://BUCKET/PREFIX for S3 and what speaks it; az://CONTAINER/PREFIX for Azure; gs://BUCKET/PREFIX for Google; \
    sftp://USER@HOST:PORT/FOLDER. Credentials come from where the tools of that store have them: AWS_ACCESS_KEY_ID and \
    AWS_SECRET_ACCESS_KEY or AWS_PROFILE, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, GOOGLE_APPLICATION_CREDENTIALS, ssh.\n\n\
    Without the passphrase or the key file nobody can read the repository, its owner included: keep a copy elsewhere.")]
pub(crate) struct Args {
    /// Writes a new key file, which opens the repository instead of a passphrase
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// Stores beside every object what heals it; of large packs up to this part may be lost
    #[arg(long, value_name = "PERCENT", value_parser = parity_percent(), num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    parity: Option<u8>,
}

/// Takes what the engine takes.
pub(super) fn parity_percent() -> impl clap::builder::TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(0..=i64::from(PARITY_PERCENT_MAX))
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let address = context.place_of_new()?;
    if args.new_key_file.is_some() && context.named_secret()?.is_some() {
        return Err(usage("--new-key-file makes the key that opens the repository; leave the other passphrase or key out"));
    }
    // Fails where anything is there, before a passphrase is typed or a key written, and makes nothing before that.
    let settings = context.store_settings(&address)?;
    backend::require_free(&address, &settings)?;
    let raced = backend::try_create_if_absent(&address, &settings)?;
    let key = match &args.new_key_file {
        None => context.secret(None)?.key(true)?,
        Some(path) => new_key_file(path, address.folder(), &context.runtime())?,
    };
    let mut options = CreateOptions::default();
    options.parity_percent = args.parity.unwrap_or(0);
    let repository = context.create(&address, &key, &options)?;
    let output = &context.output;
    output.report(format_args!("made repository {} in {}", &repository.id().to_string()[..8], repository.describe()))?;
    let opens = match &args.new_key_file {
        Some(path) => format!("the key file {}", path.display()),
        None => "the passphrase or key".to_owned(),
    };
    output.note(format_args!("Keep a copy of {opens} in another place: without it nobody can read the backups, you included."));
    if let Some(ability) = raced.filter(|ability| ability.missing().is_some()) {
        let why = ability.missing().unwrap_or_default();
        output.warn(format_args!("this store has no {} ({why}): {}", ability.name, ability.purpose));
    }
    let key_file = args.new_key_file.as_ref().map(|path| path.display().to_string());
    let summary = json!({
        "repository": repository.describe(),
        "repository_id": repository.id().to_string(),
        "key_file": key_file,
        "parity_percent": options.parity_percent,
    });
    output.json("summary", summary)?;
    Ok(Outcome::Done)
}
