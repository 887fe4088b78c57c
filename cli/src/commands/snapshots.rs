//! `snapshots`: lists what was backed up and when.

use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::names::{put_paths, shown};
use crate::output::Output;
use crate::{size, time};
use icecore::id::SnapshotId;
use icecore::repository::{Snapshot, SnapshotState};
use icecore::{Error, ErrorKind};
use serde_json::{Value, json};

/// Digits of an id that people see; every command takes them back.
pub(super) const ID_DIGITS: usize = 8;

/// Lists the snapshots, oldest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore snapshots\n  \
    icecore snapshots --series web:/var/www --tag before-upgrade\n  \
    icecore snapshots --json")]
pub(crate) struct Args {
    /// Only the snapshots of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Only snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (snapshots, problems) = context.open()?.snapshots_and_problems()?;
    let is_asked_for = |snapshot: &&Snapshot| {
        let body = &snapshot.body;
        args.series.as_ref().is_none_or(|series| *series == body.series) && args.tag.iter().all(|tag| body.tags.contains(tag))
    };
    let asked_for: Vec<&Snapshot> = snapshots.iter().filter(is_asked_for).collect();
    let output = &context.output;
    print_table(&asked_for, output)?;
    for snapshot in &asked_for {
        output.json("snapshot", as_json(snapshot))?;
    }
    let outcome = report_problems(&problems, output);
    output.json("summary", json!({"snapshots": asked_for.len(), "snapshots_all": snapshots.len(), "problems": problems.len()}))?;
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
    });
    put_paths(&mut line, &body.paths);
    line
}

fn print_table(snapshots: &[&Snapshot], output: &Output) -> anyhow::Result<()> {
    if snapshots.is_empty() {
        output.note("no snapshots");
        return Ok(());
    }
    let mut rows = vec![["id", "time", "entries", "size", "stored", "series", "tags"].map(str::to_owned)];
    rows.extend(snapshots.iter().map(|snapshot| {
        let (header, body) = (&snapshot.header, &snapshot.body);
        let mark = if body.whole { "" } else { " (incomplete)" };
        [
            short_id(&snapshot.id),
            time::local(header.time),
            size::count(header.entries),
            size::bytes(header.file_bytes),
            size::bytes(header.new_bytes),
            shown(body.series.as_bytes()) + mark,
            shown(body.tags.join(", ").as_bytes()),
        ]
    }));
    let widths: [usize; 7] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            2..=4 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        output.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
