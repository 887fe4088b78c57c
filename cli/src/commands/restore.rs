//! `restore`: writes what a snapshot holds into a folder, onto a device, as a tar archive, or one file of it to standard output.

use super::selection::Selection;
use super::snapshots::short_id;
use crate::context::Context;
use crate::environment;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use crate::secrets::Secret;
use crate::size::{self, bytes, count, counted};
use crate::time;
use icecore::Error;
use icecore::repository::Snapshot;
use icecore::restore::{OntoOptions, RestoreOptions, RestoreSummary};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Bytes that are collected before they go into an archive.
const ARCHIVE_BUFFER: usize = 1 << 20;

/// Writes what a snapshot holds into a folder, onto a device, as a tar archive, or one file of it to standard output
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("destination").required(true),
    after_help = "Examples:\n  \
    icecore restore latest --target /tmp/restored\n  \
    icecore restore latest --series web:/var/www --at 2026-10-03 --target /tmp/restored\n  \
    icecore restore 3f2a9c1d --path home/ann/letter.txt --target /tmp/restored    as /tmp/restored/home/ann/letter.txt\n  \
    icecore restore latest --path srv/www --target / --delete --dry-run -v        what going back would do, file by file\n  \
    icecore restore latest --series db:shop.sql --stdout | psql shop\n  \
    icecore restore latest --tar --output www.tar --path srv/www\n  \
    icecore restore latest --tar | ssh other tar -x --xattrs --xattrs-include='*' -C /srv\n  \
    icecore restore latest --path vm.img --onto /dev/vg0/vm --verify\n  \
    icecore restore latest --at 2025-10-03 --plan      what lies in tiers, and what getting it costs\n\n\
    Of files that are in the target already only what differs is fetched and written; what the snapshot does not have stays, unless \
    --delete is given. A restore that was interrupted goes on when it is run again, onto a device too. Folders above --path that are \
    not there are made as the snapshot has them."
)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Only this file, or this folder and what is in it, as `icecore ls` shows it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Folder to restore into; made where it does not exist
    #[arg(long, value_name = "FOLDER", group = "destination")]
    target: Option<PathBuf>,
    /// Block device or image file that the content of the one file is written onto, in place
    #[arg(long, value_name = "DEVICE", group = "destination")]
    onto: Option<PathBuf>,
    /// Only says from which tiers packs are needed, what has to thaw, what that costs and how long it takes
    #[arg(long, group = "destination")]
    plan: bool,
    /// Writes a tar archive (pax, with attributes, ACLs and holes) to standard output or --output
    #[arg(long, group = "destination")]
    tar: bool,
    /// Writes the content of the one file to standard output
    #[arg(long, group = "destination")]
    stdout: bool,
    /// File for the archive; an existing one is replaced once the new one is whole
    #[arg(long, value_name = "FILE", requires = "tar", conflicts_with_all = ["target", "onto", "stdout"])]
    output: Option<PathBuf>,
    /// Deletes what is in the target and not in the snapshot: at and below --path, or everywhere; also what the backup left out on purpose
    #[arg(long, conflicts_with_all = ["onto", "tar", "stdout"])]
    delete: bool,
    /// Restores owners and groups by number; otherwise names that this machine knows decide
    #[arg(long, conflicts_with_all = ["onto", "tar", "stdout"])]
    numeric_owner: bool,
    /// Also onto a device that is mounted or in use
    #[arg(long, conflicts_with_all = ["target", "tar", "stdout"])]
    force: bool,
    /// Reads back what was written and compares it with the snapshot; what differs is named (exit code 3)
    #[arg(long, conflicts_with_all = ["stdout", "tar", "dry_run"])]
    verify: bool,
    /// Where something has to thaw: writes what can be written, and goes on until all of it is there (ask for it with `icecore thaw` before)
    #[arg(long, conflicts_with_all = ["onto", "tar", "stdout", "dry_run", "plan"])]
    wait: bool,
    /// Memory to get along with, as 64M; without it what is of use, at most 128 MiB on two cores. Less makes it slower, and changes nothing else
    #[arg(long, value_name = "SIZE", value_parser = size::parse, conflicts_with_all = ["onto", "tar", "stdout", "plan"], help_heading = "Machine")]
    memory: Option<u64>,
    /// Only says what would be restored and what would be deleted; -v names everything that would change
    #[arg(long, conflicts_with_all = ["stdout", "tar"])]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    if args.plan {
        return plan(args, context);
    }
    match (&args.target, &args.onto) {
        (Some(target), _) => to_folder(args, target, context),
        (_, Some(device)) => onto_device(args, device, context),
        _ if args.tar => to_archive(args, context),
        _ => to_stdout(&args.selection, args.path.clone(), context),
    }
}

fn to_folder(args: &Args, target: &Path, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open_to_read()?;
    let snapshot = args.selection.find(&repository)?;
    let mut options = RestoreOptions::default();
    options.path = args.path.clone().map(OsString::into_vec);
    options.dry_run = args.dry_run;
    options.delete = args.delete;
    options.verify = args.verify;
    options.numeric_owner = args.numeric_owner;
    options.memory = args.memory;
    if args.delete {
        options.spare = own_places(context)?;
        options.spare.extend(repository.tiers()?.into_iter().map(|info| PathBuf::from(info.address)));
    }
    let progress = context.progress()?;
    let summary = loop {
        let summary = repository.restore(&snapshot, target, &options, &progress)?;
        if !(args.wait && summary.frozen && !summary.damaged) {
            break summary;
        }
        // Fails where something was not asked for, or a medium is not there.
        let paths: Vec<_> = options.path.iter().cloned().collect();
        repository.wait_for_some(&repository.cold_plan(&snapshot, &paths, &progress)?, &progress)?;
        // What was there that the snapshot does not have is gone by now.
        options.delete = false;
    };
    drop(progress);
    report(&summary, &snapshot, &format!("into {}", target.display()), args, context)?;
    let mut line = as_json(&summary, &snapshot);
    line["target"] = target.display().to_string().into();
    line["dry_run"] = args.dry_run.into();
    if let Some(plan) = &summary.plan {
        line["plan"] = json!({"created": plan.created, "changed": plan.changed, "unchanged": plan.unchanged});
    }
    context.output.json("summary", line)?;
    Ok(outcome(&summary))
}

/// What `--delete` must not delete, should it stand in the target.
fn own_places(context: &Context) -> anyhow::Result<Vec<PathBuf>> {
    let place = context.place()?;
    let mut places: Vec<PathBuf> = place.folder().map(ToOwned::to_owned).into_iter().collect();
    match context.secret(Some(&place))? {
        Secret::KeyFile(file) | Secret::PasswordFile(file) => places.push(file),
        _ => {}
    }
    places.extend(context.cache_folder());
    places.extend(environment::data_folder().map(|folder| folder.join("icecore")));
    Ok(places)
}

fn onto_device(args: &Args, device: &Path, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open_to_read()?;
    let snapshot = args.selection.find(&repository)?;
    let path = args.path.clone().map(OsString::into_vec);
    let mut options = OntoOptions::default();
    (options.force, options.dry_run, options.verify) = (args.force, args.dry_run, args.verify);
    let progress = context.progress()?;
    let summary = repository.restore_onto(&snapshot, path.as_deref(), device, &options, &progress)?;
    drop(progress);
    report(&summary, &snapshot, &format!("onto {}", device.display()), args, context)?;
    let mut line = as_json(&summary, &snapshot);
    line["onto"] = device.display().to_string().into();
    line["dry_run"] = args.dry_run.into();
    context.output.json("summary", line)?;
    Ok(outcome(&summary))
}

fn to_archive(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let Some(file) = &args.output else { return to_standard_output(args, context) };
    let repository = context.open_to_read()?;
    let snapshot = args.selection.find(&repository)?;
    let path = args.path.clone().map(OsString::into_vec);
    let progress = context.progress()?;
    let write = || -> icecore::Result<RestoreSummary> {
        let failed = |error| Error::io(file.display(), error);
        let mut archive = ArchiveFile::create(file).map_err(failed)?;
        let summary = repository.restore_to_tar(&snapshot, path.as_deref(), &mut archive.out, &progress)?;
        archive.finish().map_err(failed)?;
        Ok(summary)
    };
    let written = write();
    drop(progress);
    let summary = written?;
    report(&summary, &snapshot, &format!("into the archive {}", file.display()), args, context)?;
    let mut line = as_json(&summary, &snapshot);
    line["output"] = file.display().to_string().into();
    context.output.json("summary", line)?;
    Ok(outcome(&summary))
}

/// The file that an archive goes to. A regular one gets its name when it is whole and durable, and until then the one of that name stays; pipes,
/// devices and what a link leads to that is not there yet are written as they are.
struct ArchiveFile {
    out: BufWriter<File>,
    /// Where it stands and where it goes; nothing once it is there. What stands there is removed when this is dropped.
    unfinished: Option<(PathBuf, PathBuf)>,
}

impl ArchiveFile {
    fn create(path: &Path) -> io::Result<Self> {
        let found = path.metadata().ok();
        let place = match &found {
            Some(found) if !found.is_file() => None,
            Some(_) => path.canonicalize().ok(),
            None => (path.symlink_metadata().is_err() && !path.as_os_str().as_bytes().ends_with(b"/")).then(|| path.to_owned()),
        };
        let out = |file| BufWriter::with_capacity(ARCHIVE_BUFFER, file);
        let Some(place) = place else { return Ok(Self { out: out(File::create(path)?), unfinished: None }) };
        // Of some numbers names may be left from who was killed.
        let besides = (0..100).map(|n| place.with_file_name(format!(".icecore-{}-{n}.part", std::process::id())));
        let mut made = besides.map(|beside| (File::create_new(&beside), beside));
        let is_taken = |made: &io::Result<File>| made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists);
        let (file, beside) = made.find(|(file, _)| !is_taken(file)).ok_or(io::ErrorKind::AlreadyExists)?;
        let file = file?;
        let archive = Self { out: out(file), unfinished: Some((beside, place)) };
        // Whoever could not read the old one cannot read the new one.
        found.map_or(Ok(()), |found| archive.out.get_ref().set_permissions(found.permissions()))?;
        Ok(archive)
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        sync(self.out.get_ref())?;
        let Some((beside, place)) = &self.unfinished else { return Ok(()) };
        std::fs::rename(beside, place)?;
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        self.unfinished = None;
        sync(&File::open(folder)?)
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.unfinished {
            // Where it cannot be removed, what went wrong is said in any case.
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Waits until a file is durable. Pipes and tapes, and the folders of some file systems, cannot be asked.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn to_standard_output(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    if std::io::stdout().is_terminal() {
        return Err(usage("an archive is nothing for a terminal: use --output FILE, or pass it on to another program"));
    }
    let mut data = context.output.begin_data();
    let repository = context.open_to_read()?;
    let snapshot = args.selection.find(&repository)?;
    let path = args.path.clone().map(OsString::into_vec);
    let progress = context.progress()?;
    let summary = repository.restore_to_tar(&snapshot, path.as_deref(), &mut data, &progress)?;
    drop(progress);
    data.flush()?;
    context.output.json("summary", as_json(&summary, &snapshot))?;
    Ok(outcome(&summary))
}

/// Writes one file of a snapshot to standard output.
pub(super) fn to_stdout(selection: &Selection, path: Option<OsString>, context: &Context) -> anyhow::Result<Outcome> {
    let mut data = context.output.begin_data();
    let repository = context.open_to_read()?;
    let snapshot = selection.find(&repository)?;
    let path = path.map(OsString::into_vec);
    let progress = context.progress()?;
    let summary = repository.restore_to_writer(&snapshot, path.as_deref(), &mut data, &progress)?;
    drop(progress);
    data.flush()?;
    context.output.json("summary", as_json(&summary, &snapshot))?;
    Ok(Outcome::Done)
}

/// What a restore needs from where.
fn plan(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let snapshot = args.selection.find(&repository)?;
    let progress = context.progress()?;
    let paths: Vec<_> = args.path.iter().map(|path| path.as_bytes().to_vec()).collect();
    let plan = repository.cold_plan(&snapshot, &paths, &progress)?;
    drop(progress);
    super::thaw::report(&plan, &snapshot, &context.output)
}

fn outcome(summary: &RestoreSummary) -> Outcome {
    match (summary.damaged, summary.frozen) {
        (true, _) => Outcome::DamageFound,
        (_, true) => Outcome::Frozen,
        _ => Outcome::of_items_failed(summary.items_failed),
    }
}

fn report(summary: &RestoreSummary, snapshot: &Snapshot, where_to: &str, args: &Args, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    let (did, written) = match (args.dry_run, summary.items_failed) {
        (true, _) => ("would restore", "would be written"),
        (false, 0) => ("restored", "written"),
        (false, _) => ("restored a part of", "written"),
    };
    output.report(format_args!(
        "{did} snapshot {} of {} ({}) {where_to}",
        short_id(&snapshot.id),
        time::local(snapshot.header.time),
        shown(snapshot.body.series.as_bytes()),
    ))?;
    output.report(format_args!("  entries  {}, {} among them", count(summary.entries), counted(summary.files, "file")))?;
    if let Some(plan) = &summary.plan {
        let (created, changed, unchanged) = (count(plan.created), count(plan.changed), count(plan.unchanged));
        output.report(format_args!("  changes  {created} would be created, {changed} changed, {unchanged} are as they should be"))?;
    }
    if args.delete {
        let deleted = if args.dry_run { "would be deleted" } else { "deleted" };
        output.report(format_args!("  extra    {} {deleted}", count(summary.items_deleted)))?;
    }
    let unchanged = match summary.bytes_unchanged {
        0 => String::new(),
        unchanged => format!(", {} were there already", bytes(unchanged)),
    };
    output.report(format_args!("  content  {}: {} {written}{unchanged}", bytes(summary.bytes_total), bytes(summary.bytes_written)))?;
    if args.verify && summary.items_failed == 0 {
        output.report("  verify   all of it reads back as it is in the snapshot")?;
    }
    output.report(format_args!("  time     {}", time::duration(summary.duration_ns)))?;
    for (wait, items) in &summary.waits {
        let (items, tier, advice) = (counted(*items, "item"), &wait.tier, shown(wait.advice.as_bytes()));
        output.warn(format_args!("in tier {tier}, and not restored: {items}; {advice} (--tier-at {tier}=PLACE)"));
    }
    if output.is_json() {
        return Ok(());
    }
    if summary.damaged {
        output.warn("the repository is damaged; `icecore scrub` says what else that concerns");
    }
    if summary.frozen {
        output.warn("some of it cannot be read yet; `icecore restore --plan` says what is needed, and the same restore goes on then");
    }
    if summary.items_failed > 0 {
        output.warn(format_args!("the restore is not whole: {} not restored, or only in part", counted(summary.items_failed, "item")));
    }
    Ok(())
}

fn as_json(summary: &RestoreSummary, snapshot: &Snapshot) -> Value {
    json!({
        "snapshot_id": summary.snapshot.to_string(),
        "series": snapshot.body.series,
        "time": time::rfc3339(snapshot.header.time),
        "entries": summary.entries,
        "files": summary.files,
        "items_failed": summary.items_failed,
        "damaged": summary.damaged,
        "frozen": summary.frozen,
        "items_deleted": summary.items_deleted,
        "bytes_total": summary.bytes_total,
        "bytes_written": summary.bytes_written,
        "bytes_unchanged": summary.bytes_unchanged,
        "bytes_fetched": summary.bytes_fetched,
        "frames_decoded": summary.frames_decoded,
        "packs_read": summary.packs_read,
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}
