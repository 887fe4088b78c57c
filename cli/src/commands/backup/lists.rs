//! `--files-from` and `--files-from0`: paths to back up, out of a file or standard input.

use crate::exit::usage;
use anyhow::Context as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A list longer than this is none.
const LIST_LENGTH_MAX: u64 = 1 << 30;

/// Options that name lists of paths.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is backed up")]
pub(super) struct Lists {
    /// File with a path in each line, `-` for standard input; the paths are backed up as if they were given here (can be repeated)
    #[arg(long, value_name = "FILE", conflicts_with = "stream")]
    files_from: Vec<PathBuf>,
    /// The same with a zero byte after each path, as `find -print0` writes it (can be repeated)
    #[arg(long, value_name = "FILE", conflicts_with = "stream")]
    files_from0: Vec<PathBuf>,
}

impl Lists {
    /// The paths of all lists.
    pub(super) fn read(&self) -> anyhow::Result<Vec<PathBuf>> {
        let is_stdin = |list: &&PathBuf| list.as_os_str() == "-";
        if self.files_from.iter().chain(&self.files_from0).filter(is_stdin).count() > 1 {
            return Err(usage("standard input can be the list of paths only once"));
        }
        let mut paths = Vec::new();
        for (lists, separator) in [(&self.files_from, b'\n'), (&self.files_from0, 0)] {
            for list in lists {
                let bytes = read_list(list).with_context(|| format!("the list of paths {}", list.display()))?;
                let lines = bytes.split(|byte| *byte == separator).filter(|line| !line.is_empty());
                paths.extend(lines.map(|line| PathBuf::from(OsString::from_vec(line.to_vec()))));
            }
        }
        Ok(paths)
    }

    /// What the lists are called.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let name = |list: &PathBuf| match list.as_os_str() == "-" {
            true => Ok("-".to_owned()),
            false => Ok(std::path::absolute(list)?.to_string_lossy().into_owned()),
        };
        self.files_from.iter().chain(&self.files_from0).map(name).collect()
    }
}

fn read_list(list: &Path) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> = if list.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(list)?) };
    let mut bytes = Vec::new();
    source.take(LIST_LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= LIST_LENGTH_MAX {
        true => Ok(bytes),
        false => Err(io::Error::other("it is longer than 1 GiB")),
    }
}
