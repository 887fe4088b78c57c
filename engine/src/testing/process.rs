//! Programs under a limit of memory, and how much memory they took.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// A control group of Linux, of either version, that limits memory; removed at the end.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A group below our own, whose processes may have so many bytes together: their own and those of files that they read.
    ///
    /// # Errors
    /// What the operating system says: often that this user may not.
    pub fn new(bytes: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
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
        let name = format!("icecore-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let group = Self(Path::new(&parent).join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(limit), bytes.to_string())?;
        Ok(group)
    }

    /// Runs `program` as a process of this group.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was in it has ended; what remains is an empty folder.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Waits for a process; gives the most memory that it ever had, in bytes, pages of mapped files included, as was seen a few milliseconds before it
/// ended.
///
/// # Errors
/// What the operating system says.
pub fn wait_for_peak(child: &mut Child) -> io::Result<(ExitStatus, u64)> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        peak = peak.max(kibibytes.unwrap_or(0) << 10);
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
