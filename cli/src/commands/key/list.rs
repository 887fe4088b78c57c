//! `key list`: who has a way in.

use super::{as_json, domain_name, kind_name, short, short_credential};
use crate::context::Context;
use crate::exit::Outcome;
use icecore::repository::{SlotInfo, SlotState};
use serde_json::json;

/// Lists the keys of the repository
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  icecore key list -r REPO\n\nAny key may look. `*` marks the one that looks. The credential is what `icecore forget` groups snapshots by: it stays the same \
    when keys are rotated."
)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (slots, problems) = context.open()?.slots()?;
    let output = &context.output;
    let row = |slot: &SlotInfo| {
        let state = if slot.state == SlotState::Active { "active" } else { "removed" };
        let mark = if slot.is_own { " *" } else { "" };
        let (roles, domain) = (slot.roles.to_string(), domain_name(slot.domain));
        let credential = short_credential(slot.credential);
        [short(slot.id) + mark, kind_name(&slot.kind).into(), roles, domain, slot.generation.to_string(), state.into(), credential]
    };
    let mut rows = vec![["id", "kind", "roles", "domain", "generation", "state", "credential"].map(str::to_owned)];
    rows.extend(slots.iter().map(row));
    let widths: [usize; 7] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        output.line(cells.join("  ").trim_end())?;
    }
    for slot in &slots {
        output.json("key_slot", as_json(slot))?;
    }
    for problem in &problems {
        output.warn(problem);
    }
    let active = slots.iter().filter(|slot| slot.state == SlotState::Active).count();
    output.json("summary", json!({"key_slots": slots.len(), "active": active, "problems": problems.len()}))?;
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::DamageFound })
}
