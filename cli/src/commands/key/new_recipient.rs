//! `key new-recipient`: a key file, and the public half of it to be sent to an admin.

use super::add::advice;
use crate::context::Context;
use crate::exit::Outcome;
use crate::secrets::write_key_file;
use anyhow::Context as _;
use icecore::repository::{Key, Recipient};
use serde_json::json;
use std::path::PathBuf;

/// Writes a new key file and prints its recipient, which an admin gives to `icecore key add --recipient`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore key new-recipient ann.key > ann.recipient\n\n\
    The key file stays with whoever made it; the recipient is no secret. Make one for each repository: from the first time that the key file \
    opens a repository, it is bound to its admin.")]
pub(crate) struct Args {
    /// The key file to be
    #[arg(value_name = "FILE")]
    key_file: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let key = Key::generate(&context.runtime());
    let recipient = Recipient::of_key(&key).context("a key file has a recipient")?;
    write_key_file(&args.key_file, &key)?;
    context.output.line(&recipient)?;
    context.output.note(advice(&args.key_file));
    context.output.json("summary", json!({"recipient": recipient.to_string(), "key_file": args.key_file.display().to_string()}))?;
    Ok(Outcome::Done)
}
