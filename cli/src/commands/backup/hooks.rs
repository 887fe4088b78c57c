//! `--before` and `--after`: commands around a backup, such as those that make and remove a snapshot of a volume.

use crate::child::{Running, describe};
use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::interrupt;
use anyhow::Context as _;
use icecore::backup::BackupSummary;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// Commands around the backup.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Commands around the backup")]
pub(super) struct Hooks {
    /// Command that `/bin/sh -c` runs before paths are looked up; if it fails, there is no backup
    #[arg(long, value_name = "COMMAND")]
    pub(super) before: Option<String>,
    /// Command that `/bin/sh -c` runs at the end, also when --before or the backup failed; ICECORE_OUTCOME tells it how that went
    #[arg(long, value_name = "COMMAND")]
    after: Option<String>,
}

impl Hooks {
    /// Runs `work` between the two. Gives what it gave, and whether the command after it worked.
    pub(super) fn around(
        &self,
        context: &Context,
        work: impl FnOnce() -> anyhow::Result<BackupSummary>,
    ) -> anyhow::Result<(BackupSummary, bool)> {
        interrupt::catch()?;
        let result = self.run_before().and_then(|()| work());
        let has_worked = match self.run_after(&result) {
            Ok(()) => true,
            Err(error) => {
                context.output.warn(format_args!("{error:#}"));
                false
            }
        };
        Ok((result?, has_worked))
    }

    fn run_before(&self) -> anyhow::Result<()> {
        let Some(line) = &self.before else { return Ok(()) };
        let running = start("--before", line, [])?;
        let status = running.wait(true)?;
        anyhow::ensure!(status.success(), "the command of --before {}, so nothing was backed up", describe(status));
        Ok(())
    }

    /// Not ended by an interrupt: it has to clean up then too.
    fn run_after(&self, result: &anyhow::Result<BackupSummary>) -> anyhow::Result<()> {
        let Some(line) = &self.after else { return Ok(()) };
        let (outcome, code) = match result {
            Ok(summary) if summary.files_failed == 0 => ("done", Outcome::Done.code()),
            Ok(_) => ("incomplete", Outcome::ItemsFailed.code()),
            Err(_) if interrupt::is_interrupted() => ("interrupted", exit::INTERRUPTED),
            Err(error) => ("failed", exit::of_error(error).0),
        };
        let snapshot = result.as_ref().ok().and_then(|summary| summary.snapshot).map(|id| id.to_string()).unwrap_or_default();
        let code = code.to_string();
        let variables = [("ICECORE_OUTCOME", outcome), ("ICECORE_EXIT_CODE", code.as_str()), ("ICECORE_SNAPSHOT", snapshot.as_str())];
        let status = start("--after", line, variables)?.wait(false)?;
        anyhow::ensure!(status.success(), "the command of --after {}", describe(status));
        Ok(())
    }
}

/// Starts a line of shell. Standard output is icecore's result, so what the line prints goes to standard error.
fn start<'a>(option: &str, line: &str, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> anyhow::Result<Running> {
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(OsStr::new(line)).envs(variables).stdin(Stdio::null()).stdout(stderr);
    Running::start(&mut command).with_context(|| format!("the command of {option} cannot be started"))
}
