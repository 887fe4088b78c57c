//! `key`: who has a way into the repository, and what they can do.

mod add;
mod list;
mod new_recipient;
mod rotate;

use super::snapshots::ID_DIGITS;
use crate::context::Context;
use crate::exit::Outcome;
use icecore::format::slot::SlotKind;
use icecore::id::{CredentialId, DomainId, SlotId};
use icecore::repository::{SlotInfo, SlotState};
use serde_json::{Value, json};

/// Shows, makes and takes away keys: who can do what with the repository
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:\n  \
    icecore key add -r REPO --role backup --new-key-file laptop.key    a key that can store and cannot read\n  \
    icecore key list -r REPO\n\n\
    `icecore key add --help` says what each role can do.")]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    Remove(rotate::RemoveArgs),
    Rotate(rotate::RotateArgs),
    NewRecipient(new_recipient::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        match self {
            Self::Add(args) => add::run(args, context),
            Self::List(args) => list::run(args, context),
            Self::Remove(args) => rotate::remove(args, context),
            Self::Rotate(args) => rotate::rotate(args, context),
            Self::NewRecipient(args) => new_recipient::run(args, context),
        }
    }
}

fn short(id: SlotId) -> String {
    id.to_string()[..ID_DIGITS].to_owned()
}

/// The digits of a credential that people see.
fn short_credential(credential: CredentialId) -> String {
    // It begins with its domain, and most have the same.
    let digits = credential.to_string();
    digits[digits.len() - ID_DIGITS..].to_owned()
}

/// A credential for people: the key that has it, where that is known.
pub(super) fn credential_name(credential: CredentialId, slots: &[SlotInfo]) -> String {
    let of_it = |slot: &&SlotInfo| slot.credential == credential;
    let active = slots.iter().filter(of_it).find(|slot| slot.state == SlotState::Active);
    let key = match (active, slots.iter().any(|slot| of_it(&slot))) {
        (Some(slot), _) => format!(" of key {} ({})", short(slot.id), kind_name(&slot.kind)),
        (None, true) => " of a key that was removed".to_owned(),
        (None, false) => String::new(),
    };
    format!("credential {}{key}", short_credential(credential))
}

fn kind_name(kind: &SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase { .. } => "passphrase",
        SlotKind::KeyFile => "key file",
        SlotKind::Recipient => "recipient",
        SlotKind::Command => "command",
    }
}

/// The domain for people; names are not stored, so this is the beginning of its id.
fn domain_name(domain: DomainId) -> String {
    if domain == DomainId::of_name("") { "default".into() } else { domain.to_string()[..ID_DIGITS].to_owned() }
}

fn as_json(slot: &SlotInfo) -> Value {
    json!({
        "id": slot.id.to_string(),
        "kind": kind_name(&slot.kind),
        "roles": slot.roles.to_string().split(", ").collect::<Vec<_>>(),
        "credential": slot.credential.to_string(),
        "domain": slot.domain.to_string(),
        "generation": slot.generation,
        "active": slot.state == SlotState::Active,
        "own": slot.is_own,
    })
}
