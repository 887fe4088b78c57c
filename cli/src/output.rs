//! What the user sees: results on standard output, everything else on standard error; or JSON lines.
//!
//! With `--json` standard output holds JSON lines only, each with a `message_type`; the last one is the `summary`, or `exit_error`
//! where the command failed. Where standard output carries the content of files (`cat`, `restore --stdout`), the JSON lines go to
//! standard error instead. Fields are only ever added.

use crate::exit::{self, Outcome};
use crate::{interrupt, names, size};
use icecore::backend::{Request, Traffic};
use icecore::progress::Change;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const BUFFER_LENGTH: usize = 64 << 10;

/// Both outputs of this process.
#[derive(Debug)]
pub(crate) struct Output {
    is_json: bool,
    is_quiet: bool,
    is_verbose: bool,
    stdout: Mutex<io::BufWriter<io::Stdout>>,
    /// Standard output carries the content of files.
    has_data: AtomicBool,
    /// Whoever read standard output went away.
    is_broken: AtomicBool,
    /// What went to a store and came from it.
    traffic: Arc<Traffic>,
}

impl Output {
    pub(crate) fn new(is_json: bool, is_quiet: bool, is_verbose: bool) -> Self {
        Self {
            is_json,
            is_quiet,
            is_verbose,
            stdout: Mutex::new(io::BufWriter::with_capacity(BUFFER_LENGTH, io::stdout())),
            has_data: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            traffic: Arc::default(),
        }
    }

    /// Where what goes to a store is counted; told at the end.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Whether a person watches who wants to see progress.
    pub(crate) fn shows_progress(&self) -> bool {
        let shows_data = self.has_data.load(Ordering::Relaxed) && io::stdout().is_terminal();
        !self.is_json && !self.is_quiet && !shows_data && io::stderr().is_terminal()
    }

    /// Writes a line of the result. Nothing with `--json`.
    pub(crate) fn line(&self, line: impl Display) -> io::Result<()> {
        match self.is_json {
            true => Ok(()),
            false => self.write(|stdout| writeln!(stdout, "{line}")),
        }
    }

    /// Writes a line of a report that is not the reason why the command is run. Nothing with `--json` or `--quiet`.
    pub(crate) fn report(&self, line: impl Display) -> io::Result<()> {
        if self.is_quiet { Ok(()) } else { self.line(line) }
    }

    /// Writes what becomes of an item: deletions always, all else to those who ask for more.
    pub(crate) fn change(&self, item: &str, change: Change, bytes: u64) -> io::Result<()> {
        let (name, shown) = match change {
            Change::Created => ("created", "create"),
            Change::Deleted => ("deleted", "delete"),
            _ => ("changed", "change"),
        };
        if self.is_json {
            return self.json("change", json!({"item": item, "change": name, "bytes": bytes}));
        }
        match change == Change::Deleted || self.is_verbose {
            true => self.report(format_args!("  {shown}  {}", names::shown(item.as_bytes()))),
            false => Ok(()),
        }
    }

    /// Writes a JSON line. Nothing without `--json`.
    pub(crate) fn json(&self, message_type: &str, mut message: Value) -> io::Result<()> {
        if !self.is_json {
            return Ok(());
        }
        message["message_type"] = message_type.into();
        if message_type == "summary" && self.has_traffic() {
            let mut store = json!({"bytes_sent": self.traffic.sent_bytes(), "bytes_received": self.traffic.received_bytes()});
            for request in Request::ALL {
                store[format!("requests_{}", request.name())] = self.traffic.requests(request).into();
            }
            message["store"] = store;
        }
        match self.has_data.load(Ordering::Relaxed) {
            true => writeln!(io::stderr(), "{message}"),
            false => self.write(|stdout| writeln!(stdout, "{message}")),
        }
    }

    /// Says something that a person should know.
    pub(crate) fn note(&self, message: impl Display) {
        self.say(self.is_quiet && !self.is_json, "", message);
    }

    /// Says what only those want to know who ask for it.
    pub(crate) fn detail(&self, message: impl Display) {
        self.say(!self.is_verbose, "", message);
    }

    /// Warns of something that may be wrong.
    pub(crate) fn warn(&self, message: impl Display) {
        self.say(false, "warning: ", message);
    }

    fn say(&self, is_silent: bool, prefix: &str, message: impl Display) {
        // A message that cannot be written must not end a backup.
        if is_silent {
            return;
        }
        if self.is_json {
            let _ = self.json(if prefix.is_empty() { "notice" } else { "warning" }, json!({"message": message.to_string()}));
            let _ = self.flush();
        } else {
            let _ = writeln!(io::stderr(), "{prefix}{}", names::shown_lines(&message.to_string()));
        }
    }

    /// From now on standard output carries the content of files.
    pub(crate) fn begin_data(&self) -> Data<'_> {
        self.has_data.store(true, Ordering::Relaxed);
        Data(self)
    }

    fn has_traffic(&self) -> bool {
        Request::ALL.into_iter().any(|request| self.traffic.requests(request) > 0)
    }

    /// Tells how the command ended, and gives its exit code.
    pub(crate) fn end(&self, result: anyhow::Result<Outcome>) -> ExitCode {
        if self.has_traffic() && !self.is_json {
            let requests =
                Request::ALL.map(|request| format!("{} {}", size::count(self.traffic.requests(request)), request.name())).join(", ");
            let (sent, received) = (size::bytes(self.traffic.sent_bytes()), size::bytes(self.traffic.received_bytes()));
            self.detail(format_args!("requests to the store: {requests}; {sent} sent, {received} received"));
        }
        let result = result.and_then(|outcome| self.flush().map(|()| outcome).map_err(Into::into));
        ExitCode::from(match result {
            Ok(outcome) => outcome.code(),
            Err(_) if self.is_broken.load(Ordering::Relaxed) => 0,
            Err(_) if interrupt::is_interrupted() => self.fail(exit::INTERRUPTED, "cancelled", "interrupted", None),
            Err(error) => {
                let (code, kind, advice) = exit::of_error(&error);
                // The engine's messages contain their causes; those of others are chains.
                let message = if error.is::<icecore::Error>() { error.to_string() } else { format!("{error:#}") };
                self.fail(code, kind, &message, advice)
            }
        })
    }

    fn fail(&self, code: u8, kind: &str, message: &str, advice: Option<&str>) -> u8 {
        // People are told too, unless standard error carries the JSON lines. Nothing is left to do where that fails.
        if !(self.is_json && self.has_data.load(Ordering::Relaxed)) {
            let _ = writeln!(io::stderr(), "error: {}", names::shown_lines(message));
            let _ = advice.map_or(Ok(()), |advice| writeln!(io::stderr(), "{advice}"));
        }
        self.exit_error(code, kind, message);
        code
    }

    /// Writes the JSON line of a command that failed.
    pub(crate) fn exit_error(&self, code: u8, kind: &str, message: &str) {
        let _ = self.json("exit_error", json!({"code": code, "kind": kind, "message": message}));
        let _ = self.flush();
    }

    fn flush(&self) -> io::Result<()> {
        self.write(|stdout| stdout.flush())
    }

    fn write(&self, write: impl FnOnce(&mut io::BufWriter<io::Stdout>) -> io::Result<()>) -> io::Result<()> {
        let result = write(&mut self.lock());
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        result.map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))
    }

    fn lock(&self) -> MutexGuard<'_, io::BufWriter<io::Stdout>> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard output for the content of files.
#[derive(Debug)]
pub(crate) struct Data<'a>(&'a Output);

impl Write for Data<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(|stdout| stdout.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
