//! `snapshots`: lists what was backed up and when.

use super::filter::SnapshotFilter;
use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::names::{put_paths, shown};
use crate::output::Output;
use crate::table::{Column, Table, terminal_width};
use crate::{size, time};
use icecore::id::SnapshotId;
use icecore::repository::{Snapshot, SnapshotState};
use icecore::{Error, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Digits of an id that people see; every command takes them back.
pub(super) const ID_DIGITS: usize = 8;

/// Lists the snapshots, oldest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore snapshots\n  \
    icecore snapshots --series web:/var/www --tag before-upgrade\n  \
    icecore snapshots --host web --since 2026-10-01 --latest 3\n  \
    icecore snapshots --json")]
pub(crate) struct Args {
    #[command(flatten)]
    filter: SnapshotFilter,
    /// Lists all in one table, by time
    #[arg(long)]
    ungrouped: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (snapshots, problems) = context.open()?.snapshots_and_problems()?;
    let all = snapshots.len();
    let asked_for = args.filter.choose(snapshots, context)?;
    let output = &context.output;
    match (asked_for.is_empty(), all) {
        (true, 0) if problems.is_empty() => output.note("no snapshots"),
        (true, 0) => output.note("no snapshots that can be read"),
        (true, _) => output.note(format_args!("none of the {all} snapshots is meant")),
        (false, _) => print_table(&asked_for, args.ungrouped, output)?,
    }
    for snapshot in &asked_for {
        output.json("snapshot", as_json(snapshot))?;
    }
    let outcome = report_problems(&problems, output);
    output.json("summary", json!({"snapshots": asked_for.len(), "snapshots_all": all, "problems": problems.len()}))?;
    Ok(outcome)
}

/// Warns of what is wrong with snapshots, and tells how a command ends that could go on all the same.
pub(crate) fn report_problems(problems: &[Error], output: &Output) -> Outcome {
    problems.iter().for_each(|problem| output.warn(problem));
    match problems.iter().any(|problem| problem.kind() == ErrorKind::Damaged) {
        true => {
            output.note(exit::DAMAGED);
            Outcome::DamageFound
        }
        false => Outcome::of_items_failed(problems.len() as u64),
    }
}

/// The digits of a snapshot's id that people see.
pub(crate) fn short_id(id: &SnapshotId) -> String {
    id.to_string()[..ID_DIGITS].to_owned()
}

/// A snapshot as every command shows it in JSON.
pub(crate) fn as_json(snapshot: &Snapshot) -> Value {
    let (header, body) = (&snapshot.header, &snapshot.body);
    let mut line = json!({
        "id": snapshot.id.to_string(),
        "series": body.series,
        "time": time::rfc3339(header.time),
        "started": time::rfc3339(body.started),
        "ended": time::rfc3339(body.ended),
        "host": body.host,
        "program": body.program,
        "tags": body.tags,
        "entries": header.entries,
        "bytes_total": header.file_bytes,
        "bytes_stored": header.new_bytes,
        "whole": body.whole,
        "closed": snapshot.state == SnapshotState::Closed,
        "legal_holds": snapshot.held.iter().flat_map(|held| &held.legal).map(ToString::to_string).collect::<Vec<_>>(),
        "locked_until": snapshot.held.as_ref().and_then(|held| held.until).map(time::rfc3339),
    });
    put_paths(&mut line, &body.paths);
    line
}

/// One table, or one with a heading for each series, in the order of their names.
fn print_table(snapshots: &[Snapshot], is_ungrouped: bool, output: &Output) -> anyhow::Result<()> {
    let id = if is_ungrouped { "id" } else { "  id" };
    let columns =
        [(id, Column::Left), ("time", Column::Left), ("entries", Column::Right), ("size", Column::Right), ("stored", Column::Right)];
    let [a, b, c, d, e] = columns;
    let mut table = Table::new([a, b, c, d, e, ("tags", Column::Shortened), (if is_ungrouped { "series" } else { "" }, Column::Shortened)]);
    let mut groups: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(if is_ungrouped { "" } else { &snapshot.body.series }).or_default().push(snapshot);
    }
    for snapshot in groups.values().flatten() {
        table.push(row(snapshot, is_ungrouped));
    }
    let mut lines = table.lines(terminal_width()).into_iter();
    let mut print = |count: usize| lines.by_ref().take(count).try_for_each(|line| output.line(line));
    print(1)?;
    for (series, snapshots) in &groups {
        if !is_ungrouped {
            output.line(format_args!("{} ({})", shown(series.as_bytes()), size::count(snapshots.len() as u64)))?;
        }
        print(snapshots.len())?;
    }
    Ok(())
}

/// What stands before the tags of a snapshot that must not go.
fn held_mark(snapshot: &Snapshot) -> String {
    let Some(held) = &snapshot.held else { return String::new() };
    let legal = if held.legal.is_empty() { "" } else { "(legal hold) " };
    let locked = held.until.map_or_else(String::new, |until| format!("(locked until {}) ", time::date(until)));
    format!("{legal}{locked}")
}

fn row(snapshot: &Snapshot, is_ungrouped: bool) -> [String; 7] {
    let (header, body) = (&snapshot.header, &snapshot.body);
    let tags = format!("{}{}", held_mark(snapshot), shown(body.tags.join(", ").as_bytes()));
    let indent = if is_ungrouped { "" } else { "  " };
    [
        format!("{indent}{}", short_id(&snapshot.id)),
        time::local(header.time),
        size::count(header.entries),
        size::bytes(header.file_bytes),
        size::bytes(header.new_bytes),
        if body.whole { tags } else { format!("(incomplete) {tags}") },
        if is_ungrouped { shown(body.series.as_bytes()) } else { String::new() },
    ]
}
