//! `backup`: makes a snapshot of files and folders, or of what comes from standard input.

use crate::commands::snapshots::short_id;
use crate::context::Context;
use crate::environment;
use crate::exit::{Outcome, usage};
use crate::interrupt;
use crate::names::shown;
use crate::place::DefaultPlace;
use crate::size::{self, bytes, count};
use crate::time;
use anyhow::Context as _;
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::limits::TEXT_MAX;
use icecore::repository::Repository;
use icecore::source::{Roots, SourceOptions};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes a snapshot of files and folders, or of what comes from standard input
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore backup ~/Documents                                     into the default repository\n  \
    icecore backup -r /mnt/disk/backups /home /etc --exclude '*.tmp' --exclude-caches\n  \
    pg_dump shop | icecore backup -r /mnt/disk/backups --stdin --name shop.sql\n\n\
    `backup .` stores what is in the folder, so that it is restored right into the target; `backup X` and `backup /a/X` are \
    restored as TARGET/X. Paths of the same name are kept apart by their full path, which the output then says.")]
pub(crate) struct Args {
    /// Files and folders
    #[arg(value_name = "PATH", required_unless_present = "stdin", conflicts_with = "stdin")]
    paths: Vec<PathBuf>,
    /// Name of the series that the snapshot belongs to; without it host and paths
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Tag of the snapshot (can be repeated)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Host that the snapshot is of; without it this machine's name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Time of the snapshot, as 2026-10-03T12:30:00Z; without it now
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    time: Option<time::Typed>,
    /// Reads standard input and stores it as one file
    #[arg(long, requires = "name")]
    stdin: bool,
    /// Name of the file that standard input is stored as
    #[arg(long, value_name = "NAME", requires = "stdin")]
    name: Option<String>,
    /// zstd level, from -7 (fastest) to 22 (smallest)
    #[arg(long, value_name = "LEVEL", default_value_t = 3, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-7..=22))]
    compression: i32,
    /// Reads all files, also those that look unchanged since the last backup
    #[arg(long)]
    read_all: bool,
    #[command(flatten)]
    excludes: Excludes,
}

/// What is left out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is left out")]
struct Excludes {
    /// Pattern as in .gitignore, matched against absolute paths (can be repeated)
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// File with one such pattern a line; empty lines and lines that begin with # do not count (can be repeated)
    #[arg(long, value_name = "FILE", alias = "exclude-file")]
    exclude_from: Vec<PathBuf>,
    /// Name of files like .gitignore, whose patterns count in the folder that they lie in and below (can be repeated)
    #[arg(long, value_name = "NAME")]
    ignore_file: Vec<String>,
    /// Leaves out what lies in folders with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leaves out what lies in folders that hold a file of this name (can be repeated)
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,
    /// Leaves out files larger than this, as 500M or 2G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    exclude_larger_than: Option<u64>,
    /// Does not enter other file systems than those of the paths
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    // What can be wrong with the request comes before a repository is made.
    let roots = if args.stdin { None } else { Some(Roots::resolve(&args.paths)?) };
    let host = args.host.clone().unwrap_or_else(environment::host);
    let mut options = BackupOptions::new(series(args, &host, roots.as_ref())?);
    options.host = host;
    options.tags.clone_from(&args.tag);
    options.time = args.time.map(|time| time.first);
    options.level = args.compression;
    options.read_all = args.read_all;
    let mut source = args.excludes.options()?;

    let (repository, made) = context.open_or_make_default()?;
    if let Some(made) = &made {
        introduce(made, context);
    }
    let progress = context.progress()?;
    let summary = match (&roots, &args.name) {
        (Some(roots), _) => {
            leave_out_own_folders(roots, &mut source, context)?;
            progress.count_ahead(roots, &source, &context.runtime());
            repository.backup(roots, &source, &options, &progress)?
        }
        (None, Some(name)) => repository.backup_stream(name, Box::new(interrupt::Stdin), &options, &progress)?,
        (None, None) => return Err(usage("--stdin needs --name NAME")),
    };
    drop(progress);
    report(&summary, &options, &repository, context)?;
    context.output.json("summary", as_json(&summary, &options, &repository, made.as_ref()))?;
    Ok(Outcome::of_items_failed(summary.files_failed))
}

impl Excludes {
    fn options(&self) -> anyhow::Result<SourceOptions> {
        let mut excludes = Vec::new();
        for path in &self.exclude_from {
            let text = std::fs::read_to_string(path).with_context(|| format!("exclude patterns in {}", path.display()))?;
            excludes.extend(text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(str::to_owned));
        }
        // After those of files: the last pattern that matches decides.
        excludes.extend(self.exclude.iter().cloned());
        Ok(SourceOptions {
            excludes,
            exclude_files: self.ignore_file.clone(),
            exclude_caches: self.exclude_caches,
            one_file_system: self.one_file_system,
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_larger_than: self.exclude_larger_than,
        })
    }
}

/// The series that was named, otherwise host and paths.
fn series(args: &Args, host: &str, roots: Option<&Roots>) -> anyhow::Result<String> {
    if let Some(series) = &args.series {
        return Ok(series.clone());
    }
    let mut paths: Vec<String> = match roots {
        Some(roots) => roots.paths().iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect(),
        None => args.name.iter().cloned().collect(),
    };
    // The order in which they were given does not make another series.
    paths.sort_unstable();
    let series = format!("{host}:{}", paths.join(","));
    match series.len() > TEXT_MAX {
        true => Err(usage("host and paths are too long for the name of a series; name it with --series NAME")),
        false => Ok(series),
    }
}

/// Leaves out the repository and the caches where they lie in what is backed up: they change while it is read.
fn leave_out_own_folders(roots: &Roots, source: &mut SourceOptions, context: &Context) -> anyhow::Result<()> {
    let repository = Some(context.place()?.folder().to_owned());
    for (folder, what) in [(repository, "the repository"), (context.cache_folder(), "the cache")] {
        let Some(folder) = folder.and_then(|folder| folder.canonicalize().ok()) else { continue };
        for root in roots.paths() {
            let root = Path::new(OsStr::from_bytes(root));
            let Ok(physical) = root.canonicalize() else { continue };
            if physical.starts_with(&folder) {
                return Err(usage(format!("{} lies in {what} and cannot be backed up with it", shown(root.as_os_str().as_bytes()))));
            }
            let Ok(below) = folder.strip_prefix(&physical) else { continue };
            let path = root.join(below);
            match path.to_str() {
                Some(path) => source.excludes.push(literally(path)),
                None => return Err(usage(format!("the folder of {what} lies in what is backed up and is not UTF-8; move it elsewhere"))),
            }
            context.output.note(format_args!("{what} in {} is left out", shown(path.as_os_str().as_bytes())));
        }
    }
    Ok(())
}

/// A pattern that matches exactly this absolute path.
fn literally(path: &str) -> String {
    let mut pattern = String::new();
    for character in path.chars() {
        if "*?[]{}!\\ ".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Says what was made on first use.
fn introduce(made: &DefaultPlace, context: &Context) {
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

fn report(summary: &BackupSummary, options: &BackupOptions, repository: &Repository, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    let id = summary.snapshot.as_ref().map(short_id).unwrap_or_default();
    output.report(format_args!("snapshot {id} of series {} in {}", shown(options.series.as_bytes()), repository.describe()))?;
    output.report(format_args!(
        "  files    {} new, {} changed, {} unchanged ({} entries in all)",
        count(summary.files_new),
        count(summary.files_changed),
        count(summary.files_unmodified),
        count(summary.entries)
    ))?;
    output.report(format_args!("  content  {}, of which {} had to be read", bytes(summary.bytes_total), bytes(summary.bytes_read)))?;
    output.report(format_args!("  new      {}, stored as {}", bytes(summary.bytes_unique), bytes(summary.bytes_stored)))?;
    output.report(format_args!("  time     {}", time::duration(summary.duration_ns)))?;
    if summary.files_failed > 0 && !output.is_json() {
        output.warn(format_args!(
            "{} items could not be read, or changed while they were read (see above); the snapshot is not complete",
            count(summary.files_failed)
        ));
    }
    Ok(())
}

fn as_json(summary: &BackupSummary, options: &BackupOptions, repository: &Repository, made: Option<&DefaultPlace>) -> Value {
    json!({
        "snapshot_id": summary.snapshot.map(|id| id.to_string()),
        "series": options.series,
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
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}
