//! What a backup says at its end.

use crate::commands::snapshots::short_id;
use crate::context::Context;
use crate::names::shown;
use crate::place::DefaultPlace;
use crate::size::{bytes, count, counted};
use crate::time;
use icecore::backup::BackupSummary;
use icecore::repository::Repository;
use serde_json::{Value, json};

/// Says what was made on first use.
pub(super) fn introduce(made: &DefaultPlace, context: &Context) {
    context.output.note(format_args!(
        "No repository was named, so a default one was made, which all commands use from now on:\n  \
           repository  {}\n  \
           key file    {}\n\
         To restore:   icecore restore latest --target FOLDER\n\
         Keep a copy of the key file in another place too, on another machine or on paper: without it nobody can read\n\
         the backups, you included. To have a repository on another disk: icecore init -r FOLDER\n",
        made.repository.display(),
        made.key_file.display()
    ));
}

/// For people.
pub(super) fn report(summary: &BackupSummary, series: &str, repository: &Repository, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    let id = summary.snapshot.as_ref().map(short_id).unwrap_or_default();
    output.report(format_args!("snapshot {id} of series {} in {}", shown(series.as_bytes()), repository.describe()))?;
    output.report(format_args!(
        "  files    {} new, {} changed, {} unchanged ({} in all)",
        count(summary.files_new),
        count(summary.files_changed),
        count(summary.files_unmodified),
        counted(summary.entries, "entry")
    ))?;
    output.report(format_args!("  content  {}, of which {} had to be read", bytes(summary.bytes_total), bytes(summary.bytes_read)))?;
    output.report(format_args!("  new      {}, stored as {}", bytes(summary.bytes_unique), bytes(summary.bytes_stored)))?;
    output.report(format_args!("  time     {}", time::duration(summary.duration_ns)))?;
    if let Some(until) = summary.locked_until {
        output.report(format_args!("  locked   until {}", time::local(until)))?;
    }
    if summary.files_failed > 0 && !output.is_json() {
        output.warn(format_args!(
            "not read, or changed while being read: {} (see above); the snapshot is not complete",
            counted(summary.files_failed, "item")
        ));
    }
    Ok(())
}

/// For programs.
pub(super) fn as_json(summary: &BackupSummary, series: &str, repository: &Repository, made: Option<&DefaultPlace>) -> Value {
    json!({
        "snapshot_id": summary.snapshot.map(|id| id.to_string()),
        "series": series,
        "repository": repository.describe(),
        "repository_made": made.is_some(),
        "key_file_made": made.map(|made| made.key_file.display().to_string()),
        "files_new": summary.files_new,
        "files_changed": summary.files_changed,
        "files_unmodified": summary.files_unmodified,
        "files_failed": summary.files_failed,
        "entries": summary.entries,
        "bytes_total": summary.bytes_total,
        "bytes_read": summary.bytes_read,
        "bytes_unique": summary.bytes_unique,
        "bytes_stored": summary.bytes_stored,
        "delta_bytes": summary.delta_bytes,
        "locked_until": summary.locked_until.map(time::rfc3339),
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}
