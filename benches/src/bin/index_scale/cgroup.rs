//! A limit of memory for a process: control groups of Linux, of either version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group, removed at the end.
#[derive(Debug)]
pub(crate) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A group below our own, whose processes may have so many bytes together: their own and those of files that they read.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        let path_of = |controllers: &str| {
            ours.lines()
                .find_map(|line| line.split_once(':')?.1.split_once(':').filter(|(names, _)| *names == controllers))
                .map(|(_, path)| path)
        };
        let is_second = Path::new(ROOT).join("cgroup.controllers").exists();
        let (parent, limit) = match is_second {
            true => (path_of("").map(|path| format!("{ROOT}{path}")), "memory.max"),
            false => (path_of("memory").map(|path| format!("{ROOT}/memory{path}")), "memory.limit_in_bytes"),
        };
        let parent = parent.ok_or_else(|| io::Error::other("this process is in no group for memory"))?;
        let group = Self(Path::new(&parent).join(format!("index-scale-{}", std::process::id())));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was in it has ended; what remains is an empty folder.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Moves this process into the group.
pub(crate) fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}
