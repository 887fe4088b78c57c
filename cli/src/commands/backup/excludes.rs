//! What a backup leaves out: what the options say, and icecore's own folders.

use crate::context::Context;
use crate::exit::usage;
use crate::names::shown;
use crate::size;
use anyhow::Context as _;
use icecore::source::{Roots, SourceOptions};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What is left out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is left out")]
pub(super) struct Excludes {
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

impl Excludes {
    /// The options in the engine's form.
    pub(super) fn options(&self, fixed: &[String]) -> anyhow::Result<SourceOptions> {
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
            fixed: fixed.to_vec(),
        })
    }
}

/// Leaves out the repositories and the caches where they lie in what is backed up: they change while it is read.
pub(super) fn leave_out_own_folders(
    roots: &Roots,
    replicas: &[PathBuf],
    source: &mut SourceOptions,
    context: &Context,
) -> anyhow::Result<()> {
    let repository = context.place()?.folder().map(ToOwned::to_owned);
    let replicas = replicas.iter().map(|replica| (Some(replica.clone()), "a replica"));
    for (folder, what) in [(repository, "the repository"), (context.cache_folder(), "the cache")].into_iter().chain(replicas) {
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

/// A file system that is mounted changes while its device is read, in a way that nothing shows afterwards.
pub(super) fn warn_of_devices_in_use(roots: &Roots, context: &Context) {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for root in roots.paths() {
        let path = Path::new(OsStr::from_bytes(root));
        let is_device = path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
        if is_device && matches!(open(path, flags, Mode::empty()), Err(Errno::BUSY)) {
            let shown = shown(root);
            context
                .output
                .warn(format_args!("{shown} is in use: if it is mounted for writing, the copy may be of no use; take one of a snapshot"));
        }
    }
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
