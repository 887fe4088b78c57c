//! `key add`: gives somebody a way in.

use super::{as_json, short};
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::secrets::{Secret, new_key_file, read};
use icecore::ErrorKind;
use icecore::format::Roles;
use icecore::id::DomainId;
use icecore::repository::{Key, NewSlot, Recipient, SlotHolder};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Makes another key for the repository, which can do what its roles allow and nothing else
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("holder").required(true),
    after_help = "Roles, as far as cryptography goes:\n  \
        backup     stores and deduplicates; cannot read anything back, not even its own\n  \
        maintain   checks, forgets, collects garbage; sees neither names nor content\n  \
        restore    reads everything; stores nothing\n  \
        admin      makes and takes away keys (of roles that it has itself)\n\n\
        Examples:\n  \
        icecore key add -r REPO --role backup --new-key-file laptop.key\n  \
        icecore key add -r REPO --new-password-file second-password          with all roles\n  \
        icecore key add -r REPO --role restore --recipient ann.recipient     see `icecore key new-recipient`\n  \
        icecore key add -r REPO --role backup --new-key-command 'kms-decrypt wrapped-key'"
)]
pub(crate) struct Args {
    /// What the key can do (can be repeated); without it everything
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Vec<Role>,
    /// File that holds the passphrase to be added
    #[arg(long, value_name = "FILE", group = "holder")]
    new_password_file: Option<PathBuf>,
    /// Writes a new key file
    #[arg(long, value_name = "FILE", group = "holder")]
    new_key_file: Option<PathBuf>,
    /// Recipient whose key file is to open the repository: the text or a file that holds it
    #[arg(long, value_name = "RECIPIENT", group = "holder")]
    recipient: Option<OsString>,
    /// Shell command that prints the key: the line of a key file or 64 hex digits; from then on given as --key-command
    #[arg(long, value_name = "COMMAND", group = "holder")]
    new_key_command: Option<OsString>,
    /// Name of a dedup domain: the key deduplicates only against what keys of the same domain stored
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    domain: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Backup,
    Maintain,
    Restore,
    Admin,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let named = args.role.iter().map(|role| match role {
        Role::Backup => Roles::BACKUP,
        Role::Maintain => Roles::MAINTAIN,
        Role::Restore => Roles::RESTORE,
        Role::Admin => Roles::ADMIN,
    });
    let roles = named.reduce(Roles::and).unwrap_or(Roles::ALL.and(Roles::ADMIN));
    let holder = holder(args, context)?;
    let mut new = NewSlot::new(holder, roles);
    new.domain = DomainId::of_name(&args.domain);
    let output = &context.output;
    let slot = repository.add_slot(&new).inspect_err(|error| match &args.new_key_file {
        Some(path) if error.kind() == ErrorKind::Unavailable => output.note(format_args!(
            "the key slot may have been made all the same, as `icecore key list` tells; the key file {} stays, since nothing else would open it",
            path.display()
        )),
        // The key in it opens nothing. Where it cannot be removed, it is only in the way.
        Some(path) => drop(std::fs::remove_file(path)),
        None => {}
    })?;
    output.report(format_args!("made key slot {} for {}, opened by {}", short(slot.id), slot.roles, describe(args)))?;
    if let Some(path) = &args.new_key_file {
        output.note(advice(path));
    }
    let mut summary = as_json(&slot);
    summary["key_file"] = args.new_key_file.as_ref().map(|path| path.display().to_string()).into();
    output.json("summary", summary)?;
    Ok(Outcome::Done)
}

fn holder(args: &Args, context: &Context) -> anyhow::Result<SlotHolder> {
    if let Some(path) = &args.new_key_file {
        return Ok(SlotHolder::Key(new_key_file(path, context.place()?.folder(), &context.runtime())?));
    }
    if let Some(recipient) = &args.recipient {
        return Ok(SlotHolder::Recipient(parse_recipient(recipient)?));
    }
    let new = args.new_password_file.clone().map(Secret::PasswordFile);
    let new = new.or_else(|| args.new_key_command.clone().map(Secret::KeyCommand));
    let key: Key = new.ok_or_else(|| usage("say what is to open the repository"))?.key(true)?;
    Ok(SlotHolder::Key(key))
}

fn parse_recipient(recipient: &OsString) -> anyhow::Result<Recipient> {
    if let Some(text) = recipient.to_str().filter(|text| Recipient::is_meant_by(text)) {
        return Ok(Recipient::parse(text)?);
    }
    let path = Path::new(recipient);
    let text = read(path, "recipient")?;
    let text = std::str::from_utf8(&text).unwrap_or_default();
    Recipient::parse(text).map_err(|error| error.context(path.display()).into())
}

fn describe(args: &Args) -> String {
    match (&args.new_key_file, &args.new_password_file) {
        (Some(path), _) => format!("the key file {}", path.display()),
        (_, Some(path)) => format!("the passphrase in {}", path.display()),
        _ if args.recipient.is_some() => "the recipient's key file".into(),
        _ => "the key that the command prints".into(),
    }
}

/// How to keep a key file.
pub(super) fn advice(path: &Path) -> String {
    format!(
        "{} is one line of text. It can be printed and typed in again: its last eight digits show a slip. Whoever has it needs no passphrase; \
         keep it where only those get at it who are to use it, and not beside the repository.",
        path.display()
    )
}
