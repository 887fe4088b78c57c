//! `backup`: makes a snapshot of files and folders, of a stream, or of what a tar stream holds.

mod also;
mod excludes;
mod exec;
mod hooks;
mod lists;
mod report;

use crate::child::Running;
use crate::context::Context;
use crate::environment;
use crate::exit::{Outcome, usage};
use crate::interrupt::Interruptible;
use crate::{size, time};
use also::{Also, Copies};
use anyhow::Context as _;
use excludes::{Excludes, leave_out_own_folders, warn_of_devices_in_use};
use hooks::Hooks;
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::limits::TEXT_MAX;
use icecore::source::{Roots, SourceOptions};
use lists::Lists;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes a snapshot of files and folders, of standard input, or of what a program writes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore backup ~/Documents                                     into the default repository\n  \
    icecore backup -r /mnt/disk/backups /home /etc --exclude '*.tmp' --exclude-caches\n  \
    find /srv -name '*.pdf' -print0 | icecore backup --files-from0 - --series papers\n  \
    icecore backup --exec --name shop.sql -- pg_dump shop          a snapshot only if pg_dump ends well\n  \
    pg_dump shop | icecore backup --stdin --name shop.sql          the same, but a failing pg_dump is not noticed\n  \
    icecore backup --tar --exec --name cluster -- pg_basebackup -D - -Ft -X fetch\n  \
    icecore backup --tar old.tar                                   what the archive holds, as files\n  \
    icecore backup /dev/vg0/home                                   what lies on a device, as a file `home`\n  \
    icecore backup /srv/images --fixed '*.qcow2'                   images, cut every 16 KiB\n  \
    icecore backup /home --also /mnt/a,/mnt/b --quorum 2           read once, stored in three places, of which two must have it\n\n\
    A snapshot of the volume keeps files from changing while they are read:\n  \
    icecore backup /mnt/snap/. --series home \\\n    \
      --before 'lvcreate -s -n snap -l 20%ORIGIN vg0/home && mount -o ro /dev/vg0/snap /mnt/snap' \\\n    \
      --after  'umount /mnt/snap; lvremove -y vg0/snap'\n  \
    icecore backup /home/.snap/. --series home \\\n    \
      --before 'btrfs subvolume snapshot -r /home /home/.snap' \\\n    \
      --after  'btrfs subvolume delete /home/.snap' --ignore-device\n  \
    icecore backup /tank/home/.zfs/snapshot/backup/. --series home --ignore-device \\\n    \
      --before 'zfs snapshot tank/home@backup' --after 'zfs destroy tank/home@backup'\n\n\
    `backup .` stores what is in the folder, so that it is restored right into the target; `backup X` and `backup /a/X` are \
    restored as TARGET/X. Paths of the same name are kept apart by their full path, which the output then says. A path that is \
    missing is named and the others are backed up (exit code 3).\n\n\
    The command of --after finds in ICECORE_OUTCOME how it went (done, incomplete, failed, interrupted), and ICECORE_EXIT_CODE and \
    ICECORE_SNAPSHOT. It runs also when the command of --before failed. If it fails itself, the exit code is 3 at least.")]
pub(crate) struct Args {
    /// Files, folders and block devices
    #[arg(
        value_name = "PATH",
        required_unless_present_any = ["stream", "files_from", "files_from0"],
        conflicts_with = "stream"
    )]
    paths: Vec<PathBuf>,
    /// Name of the series that the snapshot belongs to; without it host and paths, or lists of paths
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
    /// zstd level, from -7 (fastest) to 22 (smallest)
    #[arg(long, value_name = "LEVEL", default_value_t = 3, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-7..=22))]
    compression: i32,
    /// Locks the snapshot for so long (30d, 8w, 1y): until then nobody can forget it. Needs a key that also maintains
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration)]
    lock: Option<Duration>,
    #[command(flatten)]
    also: Also,
    /// Reads all files, also those that look unchanged since the last backup
    #[arg(long)]
    read_all: bool,
    /// Files may be unchanged although their file system has another device number than last time, as each snapshot of btrfs and ZFS has
    #[arg(long)]
    ignore_device: bool,
    /// Compresses what changed against what it was, where that pays; needs a key that can restore. It is the default where the repository is a folder; undoes --no-delta
    #[arg(long, overrides_with = "no_delta")]
    delta: bool,
    /// Compresses nothing against what it was: more is stored, and nothing is read from the repository
    #[arg(long, overrides_with = "delta")]
    no_delta: bool,
    /// Memory to get along with, as 96M; without it 64 MiB and 32 MiB for each worker thread; 1 MB for each GB that is new comes on top. Less makes it slower, and changes nothing else
    #[arg(long, value_name = "SIZE", value_parser = size::parse, help_heading = "Machine")]
    memory: Option<u64>,
    /// Command of --exec and its arguments; no shell is involved
    #[arg(last = true, value_name = "COMMAND", requires = "exec")]
    command: Vec<OsString>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    excludes: Excludes,
    #[command(flatten)]
    hooks: Hooks,
}

/// What else than paths is backed up, and how.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is backed up")]
struct Streams {
    /// Reads standard input and stores it as one file
    #[arg(long, group = "stream", requires = "name")]
    stdin: bool,
    /// Runs the command that follows after `--` and stores what it writes to standard output as one file, if it ends with exit code 0
    #[arg(long, group = "stream", requires = "name", requires = "command", conflicts_with = "stdin")]
    exec: bool,
    /// Name of the file that standard input, or what the command writes, is stored as; with --tar a name for people
    #[arg(long, value_name = "NAME", requires = "stream")]
    name: Option<String>,
    /// Takes what --stdin or --exec gives, or the one file PATH, as a tar archive, and stores what it holds
    #[arg(long, conflicts_with_all = ["files_from", "files_from0", "fixed"])]
    tar: bool,
    /// Pattern of files that are cut every 16 KiB instead of where their content says: images of disks (can be repeated). It is
    /// matched as that of --exclude. Devices always are
    #[arg(long, value_name = "PATTERN", conflicts_with = "stream")]
    fixed: Vec<String>,
}

/// What is backed up.
enum Source {
    Paths(Roots),
    /// A stream by its name.
    Stream(Stream, String),
}

/// Where a stream comes from.
enum Stream {
    Stdin,
    Exec,
    File,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    // What can be wrong with the request comes before a repository is made. Paths may be there only after --before.
    let files = args.excludes.options(&args.streams.fixed)?;
    let takes_paths = !(args.streams.stdin || args.streams.exec || args.streams.tar);
    if !takes_paths && files != SourceOptions::default() {
        return Err(usage("what is left out can only be said of paths, not of what comes as a stream"));
    }
    let paths = [args.paths.clone(), args.lists.read()?].concat();
    let early = if args.hooks.before.is_none() { Some(args.request(&paths, context)?) } else { None };

    let (repository, key, made) = context.open_or_make_default()?;
    if let Some(made) = &made {
        report::introduce(made, context);
    }
    let mut copies = args.also.open(repository, &key, context)?;
    let mut name = String::new();
    let (summary, has_ended_well) = args.hooks.around(context, || {
        let (source, options) = early.map_or_else(|| args.request(&paths, context), Ok)?;
        name.clone_from(&options.series);
        back_up_to_all(args, &source, &files, &options, &mut copies, context)
    })?;
    report::report(&summary, &name, copies.first(), context)?;
    copies.report(&context.output)?;
    let mut message = report::as_json(&summary, &name, copies.first(), made.as_ref());
    message["after_failed"] = (!has_ended_well).into();
    if let Some(said) = copies.as_json() {
        message["copies"] = said;
    }
    context.output.json("summary", message)?;
    Ok(if has_ended_well && copies.are_complete() { Outcome::of_items_failed(summary.files_failed) } else { Outcome::ItemsFailed })
}

/// Backs up once, and sees to it that the replicas have the snapshot.
fn back_up_to_all(
    args: &Args,
    source: &Source,
    files: &SourceOptions,
    options: &BackupOptions,
    copies: &mut Copies,
    context: &Context,
) -> anyhow::Result<BackupSummary> {
    let summary = loop {
        match back_up(args, source, files.clone(), options, copies, context) {
            // Paths can be read again; a stream is gone.
            Err(error) if matches!(source, Source::Paths(_)) && copies.go_on_without_first(&error, &context.output)? => {}
            summary => break summary?,
        }
    };
    if let Some(snapshot) = summary.snapshot {
        copies.acknowledge(snapshot, context)?;
    }
    Ok(summary)
}

fn back_up(
    args: &Args,
    source: &Source,
    mut files: SourceOptions,
    options: &BackupOptions,
    copies: &Copies,
    context: &Context,
) -> anyhow::Result<BackupSummary> {
    let repository = copies.first();
    let progress = context.progress()?;
    Ok(match source {
        Source::Paths(roots) => {
            leave_out_own_folders(roots, &copies.folders(), &mut files, context)?;
            warn_of_devices_in_use(roots, context);
            progress.count_ahead(roots, &files, &context.runtime());
            repository.backup(roots, &files, options, &progress)?
        }
        Source::Stream(stream, name) => {
            let (running, stream): (_, Box<dyn Read + Send>) = match stream {
                Stream::Stdin => (None, Box::new(Interruptible(io::stdin()))),
                Stream::File => (None, Box::new(Interruptible(File::open(name).with_context(|| format!("`{name}`"))?))),
                Stream::Exec => {
                    let (running, output) = exec::start(&args.command)?;
                    (Some(running), Box::new(output))
                }
            };
            let result = match args.streams.tar {
                true => repository.backup_tar(name, stream, options, &progress),
                false => repository.backup_stream(name, stream, options, &progress),
            };
            // Where the backup failed, it may still be at work.
            running.iter().for_each(Running::stop);
            result?
        }
    })
}

impl Args {
    /// What is backed up, and what it is called. Looks the paths up.
    fn request(&self, paths: &[PathBuf], context: &Context) -> anyhow::Result<(Source, BackupOptions)> {
        let source = match (&self.streams.name, paths) {
            (Some(name), _) => Source::Stream(if self.streams.exec { Stream::Exec } else { Stream::Stdin }, name.clone()),
            (None, [path]) if self.streams.tar => Source::Stream(Stream::File, archive(path)?),
            (None, _) if self.streams.tar => return Err(usage("--tar takes one archive at a time")),
            (None, _) => Source::Paths(Roots::resolve(paths)?),
        };
        let host = self.host.clone().unwrap_or_else(environment::host);
        let mut options = BackupOptions::new(self.series(&host, &source)?);
        options.host = host;
        options.tags.clone_from(&self.tag);
        options.time = self.time.map(|time| time.first);
        options.level = self.compression;
        options.read_all = self.read_all;
        options.ignore_device = self.ignore_device;
        // What is compared is read back first, which a store that is far away may charge more for than it saves.
        options.delta = self.delta || (!self.no_delta && context.place()?.folder().is_some());
        options.memory = self.memory;
        options.lock = self.lock;
        Ok((source, options))
    }

    /// The series that was named, otherwise host and paths. Of a list its own path counts, since what it names may change each time.
    fn series(&self, host: &str, source: &Source) -> anyhow::Result<String> {
        if let Some(series) = &self.series {
            return Ok(series.clone());
        }
        let lists = self.lists.names()?;
        let shown = |path: &PathBuf| std::path::absolute(path).map(|path| path.to_string_lossy().into_owned());
        let mut names = match source {
            Source::Paths(_) if !lists.is_empty() => self.paths.iter().map(shown).collect::<io::Result<Vec<_>>>()?,
            Source::Paths(roots) => roots.paths().iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect(),
            Source::Stream(_, name) => vec![name.clone()],
        };
        names.extend(lists);
        // The order in which they were given does not make another series.
        names.sort_unstable();
        let series = format!("{host}:{}", names.join(","));
        match series.len() > TEXT_MAX {
            true => Err(usage("host and paths are too long for the name of a series; name it with --series NAME")),
            false => Ok(series),
        }
    }
}

/// The absolute path of an archive, which is its name in the snapshot.
fn archive(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path)?;
    let path = path.to_str().ok_or_else(|| usage("the name of the archive is not UTF-8; give it with --stdin --name NAME"))?;
    // Before a repository is made.
    std::fs::metadata(path).with_context(|| format!("`{path}`"))?;
    Ok(path.to_owned())
}
