//! `tier list`: which tiers there are, and what lies in them.

use super::{as_json, group_as_json};
use crate::context::Context;
use crate::exit::Outcome;
use crate::money;
use crate::names::shown;
use crate::size::{bytes, count};
use crate::table::{Column, Table, terminal_width};
use serde_json::json;

/// Lists the tiers and what lies in them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore tier list")]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let tiers = context.open()?.tiers()?;
    let output = &context.output;
    let columns = [
        ("name", Column::Left),
        ("rank", Column::Right),
        ("packs", Column::Right),
        ("size", Column::Right),
        ("a month", Column::Right),
        ("state", Column::Left),
        ("address", Column::Shortened),
    ];
    let mut table = Table::new(columns);
    for info in &tiers {
        let state = match (&info.absent, info.tier.is_retired, info.tier.is_frozen) {
            (Some(_), ..) => "not there",
            (_, true, _) => "retired",
            (.., true) => "frozen",
            _ => "there",
        };
        let (packs, size, month) = (count(info.packs.packs), bytes(info.packs.bytes), money::shown(info.month_cost));
        table.push([info.tier.name.clone(), info.tier.rank.to_string(), packs, size, month, state.into(), shown(info.address.as_bytes())]);
        let mut line = as_json(&info.tier);
        line["address"] = info.address.clone().into();
        line["held"] = group_as_json(info.packs);
        line["month_cost"] = money::as_number(info.month_cost).into();
        line["absent"] = info.absent.clone().into();
        output.json("tier", line)?;
    }
    if tiers.is_empty() {
        output.report("there are no tiers; all of the repository is in one place (`icecore tier add --help`)")?;
    } else {
        for line in table.lines(terminal_width()) {
            output.line(line)?;
        }
    }
    for info in tiers.iter().filter_map(|info| info.absent.as_ref()) {
        output.note(info);
    }
    output.json("summary", json!({"tiers": tiers.len()}))?;
    Ok(Outcome::Done)
}
