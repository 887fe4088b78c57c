//! `--exec`: what a program writes to standard output is what is backed up. Its exit code decides whether there is a snapshot.

use crate::child::{Running, describe};
use crate::interrupt::Interruptible;
use anyhow::Context as _;
use std::ffi::OsString;
use std::io::{self, Read};
use std::process::{ChildStdout, Command, Stdio};

/// Starts `command`. Gives what stops it when dropped, and what it writes.
pub(super) fn start(command: &[OsString]) -> anyhow::Result<(Running, Output)> {
    let [program, arguments @ ..] = command else { anyhow::bail!("--exec needs a command after --") };
    let name = program.to_string_lossy().into_owned();
    let running = Running::start(Command::new(program).args(arguments).stdout(Stdio::piped()))
        .with_context(|| format!("`{name}` cannot be started"))?;
    let stdout = running.take_stdout().map(Interruptible);
    Ok((running.clone(), Output { running, stdout, name }))
}

/// What the program writes. It ends well only if the program does.
#[derive(Debug)]
pub(super) struct Output {
    running: Running,
    /// `None` once all of it was read.
    stdout: Option<Interruptible<ChildStdout>>,
    name: String,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        let length = stdout.read(buffer)?;
        if length == 0 && !buffer.is_empty() {
            self.stdout = None;
            let status = self.running.wait(true)?;
            if !status.success() {
                return Err(io::Error::other(format!("`{}` {}, so no snapshot was made", self.name, describe(status))));
            }
        }
        Ok(length)
    }
}
