//! Objects as files in a folder of another machine, by SFTP over the `ssh` program.
//!
//! The program brings what people have set up: keys, agents, known hosts, jump hosts, names of machines. It must be able to log in without
//! asking anything. What is spoken over it is SFTP version 3 with OpenSSH's extensions ([`wire`]).
//!
//! The folder looks as that of the local backend does: objects at their names, files being written in `tmp/`, where a collection clears those that nobody finished. An object gets its name by a hard
//! link (`hardlink@openssh.com`), which never replaces anything, after its bytes were synced (`fsync@openssh.com`); then its folder is synced, and
//! once those above it, where the server opens folders. A server without these extensions does what it can, and [`super::trial`] finds out what that is.
//!
//! A connection that is lost is made anew; reading then goes on, an object that was being written has to be written again.

mod connection;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use super::retry::{Patience, Tries};
use super::store::{Remote, Request, StoreSettings, Traffic};
use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, SftpAddress};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Runtime;
use crate::runtime::channel::{Receiver, Sender, bounded};
use connection::{ANSWER_WITHIN, Asked, Connection, Trouble};
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use wire::{Attrs, PIECE, Reply};
use writer::SftpWriter;

/// Requests of one reader or writer that are under way at once: 2 MiB.
const WINDOW: usize = 64;
/// Where objects are written.
const TEMPORARY_FOLDER: &str = "tmp";
/// Names there begin so, and end with 32 hexadecimal digits.
const TEMPORARY_PREFIX: &str = "icecore-";

/// Keeps objects in a folder of another machine.
#[derive(Debug)]
pub struct SftpBackend {
    address: SftpAddress,
    command: Vec<String>,
    runtime: Runtime,
    traffic: Arc<Traffic>,
    patience: Patience,
    at_once: usize,
    live: Mutex<Option<Arc<Connection>>>,
    /// Folders whose entry was made durable through this handle, or was found to be. Bound: the folders that this handle wrote to.
    durable: Mutex<HashSet<String>>,
    /// Whoever has what is in here may connect.
    gate: (Sender<()>, Receiver<()>),
}

impl SftpBackend {
    /// Connects.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an option that it does not know, [`ErrorKind::Unavailable`] where the connection cannot be made.
    pub fn connect(address: &SftpAddress, settings: &StoreSettings) -> Result<Self> {
        let mut command = ssh(address);
        for (name, value) in &settings.options {
            match name.as_str() {
                // For servers that are reached by something else than ssh, and for tests.
                "sftp_command" => command = value.split_whitespace().map(str::to_owned).collect(),
                _ => return Err(Error::new(ErrorKind::Invalid, format!("{address}: sftp has no option `{name}`, only `sftp_command`"))),
            }
        }
        let gate = bounded(1);
        let _ = gate.0.send(());
        let backend = Self {
            address: address.clone(),
            command,
            runtime: settings.runtime.clone(),
            traffic: Arc::clone(&settings.traffic),
            patience: Patience::new(address.to_string(), settings),
            at_once: settings.connections.max(1),
            live: Mutex::default(),
            durable: Mutex::default(),
            gate,
        };
        // Who cannot log in now cannot do so later either.
        match backend.connection()? {
            Ok(_) => backend.patience.answered(),
            Err(trouble) => return Err(backend.error(address, trouble)),
        }
        Ok(backend)
    }

    /// Of an object or folder of the repository; of the root where `below` is empty.
    fn path(&self, below: &str) -> String {
        let root = &self.address.path;
        if below.is_empty() { root.clone() } else { format!("{root}/{below}") }
    }

    /// The connection, made anew where it was lost.
    fn connection(&self) -> Result<Asked<Arc<Connection>>> {
        let live = || self.live.lock().clone().filter(|connection| connection.is_alive());
        if let Some(connection) = live() {
            return Ok(Ok(connection));
        }
        // One at a time; the others find what it made.
        let _ = self.gate.1.recv();
        let made = match live() {
            Some(connection) => Ok(Ok(connection)),
            None => Connection::start(&self.command, &*self.runtime.executor, ANSWER_WITHIN).map(|made| made.map(Arc::new)),
        };
        if let Ok(Ok(connection)) = &made {
            *self.live.lock() = Some(Arc::clone(connection));
        }
        let _ = self.gate.0.send(());
        made
    }

    /// Does what may be done again after the connection was lost.
    fn ask<T>(&self, what: impl Display, act: impl Fn(&Connection) -> Asked<T>) -> Result<T> {
        let mut tries = Tries::default();
        loop {
            let why = match self.connection()?.and_then(|connection| act(&connection)) {
                Ok(value) => return Ok(value),
                Err(Trouble::Lost(why)) => why,
                Err(refused) => return Err(self.error(what, refused)),
            };
            self.patience.wait(&mut tries, &why).map_err(|message| Error::new(ErrorKind::Unavailable, format!("{what}: {message}")))?;
        }
    }

    fn error(&self, what: impl Display, trouble: Trouble) -> Error {
        let place = &self.address;
        let (kind, message) = match trouble {
            Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _) => (ErrorKind::NotFound, format!("{what}: no such object")),
            Trouble::Refused(wire::STATUS_PERMISSION_DENIED, _) => {
                (ErrorKind::Unavailable, format!("{what}: the user on {place} may not do that; change owner or mode of the folder there"))
            }
            Trouble::Refused(code, text) => {
                let hint = "see that the disk there has room, and that the folder can be written to";
                (ErrorKind::Unavailable, format!("{what}: {place} refuses with `{text}` (code {code}); {hint}"))
            }
            Trouble::Lost(why) => {
                let hint = "see that ssh logs in there without asking anything (`ssh -o BatchMode=yes`), and run it again: nothing is lost";
                (ErrorKind::Unavailable, format!("{what}: {why}; {hint}"))
            }
        };
        Error::new(kind, message)
    }

    fn gone(&self) -> Error {
        let message = format!("{}: the folder of the repository was removed, or its disk was unmounted", self.address);
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Makes a folder of the repository and those above it. Never the root: where that is missing, so is everything.
    fn make_below(&self, connection: &Connection, folder: &str) -> Asked<()> {
        folders(folder).for_each(|folder| _ = self.durable.lock().remove(folder));
        let paths: Vec<_> = folders(folder).map(|folder| self.path(folder)).collect();
        make_folders(connection, paths.iter().rev().map(String::as_str))
    }

    /// Makes what is in a folder of the repository durable, and that the folder itself is there: its entry in the one above, and so up to the root.
    fn sync_to(&self, connection: &Connection, folder: &str) -> Asked<()> {
        sync_folder(connection, &self.path(folder))?;
        for folder in folders(folder) {
            // One that was there already may have been made by somebody whose sync is still to come.
            if !self.durable.lock().contains(folder) {
                sync_folder(connection, &self.path(above(folder)))?;
                self.durable.lock().insert(folder.to_owned());
            }
        }
        Ok(())
    }

    fn list_folder(
        &self,
        kind: ObjectKind,
        folder: &str,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.traffic.request(Request::List, 0);
        let path = self.path(folder);
        let found = self.ask(folder, |connection| match entries(connection, &path) {
            // Without looking, everything in a root that is gone would merely seem to be missing.
            Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => look_into(connection, &self.address.path).map(|()| Vec::new()),
            other => other,
        });
        let found = found.map_err(|error| if error.kind() == ErrorKind::NotFound { self.gone() } else { error })?;
        for (name, attrs) in found {
            let full = format!("{folder}/{name}");
            match ObjectName::parse(&full) {
                _ if attrs.is_folder() && folder == kind.folder() && kind.has_folder(&name) => {
                    self.list_folder(kind, &full, visit, stranger)?
                }
                Ok(name) if attrs.is_file() && attrs.size.is_some() => visit(ObjectInfo { name, size: attrs.size.unwrap_or_default() })?,
                _ => stranger(&full)?,
            }
        }
        Ok(())
    }
}

impl Remote for SftpBackend {
    fn require_empty(&self) -> Result<()> {
        let found = self.ask(&self.address, |connection| match entries(connection, &self.address.path) {
            Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => Ok(Vec::new()),
            other => other,
        })?;
        match found.iter().map(|(name, _)| name.as_str()).find(|name| !matches!(*name, "keys" | TEMPORARY_FOLDER | "trial")) {
            None => Ok(()),
            Some("config" | "sessions") => {
                Err(Error::new(ErrorKind::AlreadyExists, format!("{}: there is a repository already", self.address)))
            }
            Some(name) => {
                let message = format!("{}: `{name}` is there; choose a folder that is missing or empty", self.address);
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }

    fn make(&self) -> Result<()> {
        let path = &self.address.path;
        let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
        let paths: Vec<&str> = ends.filter_map(|end| path.get(..end)).collect();
        let is_missing = |connection: &Connection, path: &str| match attrs(connection, path) {
            Err(lost @ Trouble::Lost(_)) => Err(lost),
            found => Ok(matches!(found, Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)))),
        };
        let there = self.ask(&self.address, |connection| {
            for (number, path) in paths.iter().enumerate() {
                if is_missing(connection, path)? {
                    return Ok(number);
                }
            }
            Ok(paths.len())
        })?;
        let missing = paths.get(there..).unwrap_or_default();
        self.ask(&self.address, |connection| {
            make_folders(connection, missing.iter().copied().chain([path.as_str()]))?;
            missing.iter().try_for_each(|path| sync_folder(connection, above_path(path)))
        })
    }

    fn require_repository(&self) -> Result<()> {
        for folder in [ObjectKind::Config, ObjectKind::Session].map(ObjectKind::folder) {
            let path = self.path(folder);
            match self.ask(&path, |connection| attrs(connection, &path)) {
                Ok(found) if found.is_folder() => return Ok(()),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let message =
            format!("{}: this is no repository (it has no folder `config`); correct the path, or create one there first", self.address);
        Err(Error::new(ErrorKind::NoRepository, message))
    }

    fn scratch(&self, settings: &StoreSettings) -> Result<Arc<dyn Remote>> {
        let number = u64::from_le_bytes(self.runtime.random());
        let below = format!("trial/{number:016x}");
        let address = SftpAddress { path: self.path(&below), ..self.address.clone() };
        let scratch = Self::connect(&address, settings)?;
        // The place of a repository that is to come may be missing.
        self.make()?;
        self.ask(&address, |connection| self.make_below(connection, &below))?;
        Ok(Arc::new(scratch))
    }

    fn clear_scratch(&self) {
        let folder = self.path("trial");
        let _ = self.ask(&folder, |connection| {
            for (trial, _) in entries(connection, &folder)? {
                let trial = format!("{folder}/{trial}");
                remove_folders(connection, &trial, 0)?;
            }
            connection.wait_done(&connection.send(wire::RMDIR, |packet| packet.string(folder.as_bytes())))
        });
    }
}

impl Backend for SftpBackend {
    fn clear_unfinished(&self, age: Duration) -> u64 {
        let folder = self.path(TEMPORARY_FOLDER);
        let limit = self.runtime.clock.now().seconds.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let is_old = |name: &str, attrs: &Attrs| {
            let is_ours = name.strip_prefix(TEMPORARY_PREFIX).is_some_and(|id| id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()));
            is_ours && attrs.is_file() && attrs.modified.is_some_and(|modified| i64::from(modified) <= limit)
        };
        let cleared = self.ask(&folder, |connection| {
            let old = entries(connection, &folder)?.into_iter().filter(|(name, attrs)| is_old(name, attrs));
            let remove = |name: String| connection.send(wire::REMOVE, |packet| packet.string(format!("{folder}/{name}").as_bytes()));
            let tickets: Vec<_> = old.map(|(name, _)| remove(name)).collect();
            Ok(tickets.iter().filter(|ticket| connection.wait_done(ticket).is_ok()).count() as u64)
        });
        cleared.unwrap_or(0)
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(SftpWriter::new(self, name, false)))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(SftpWriter::new(self, name, true)))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.checked_add(length as u64).filter(|_| length > 0);
        let short = |size: u64| Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes, expected {length} more from {offset}"));
        if end.is_none() {
            let size = self.size(name)?;
            return if length == 0 && offset <= size { Ok(Vec::new()) } else { Err(short(size)) };
        }
        self.traffic.request(Request::Get, 0);
        let path = self.path(&name.to_string());
        let bytes = self.ask(name, |connection| {
            let handle = open(connection, &path, wire::FLAG_READ)?;
            let read = read(connection, &handle, offset, length);
            close(connection, &handle);
            read
        })?;
        self.traffic.received(bytes.len());
        if bytes.len() == length { Ok(bytes) } else { Err(short(offset.saturating_add(bytes.len() as u64))) }
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.traffic.request(Request::Head, 0);
        let path = self.path(&name.to_string());
        let found = self.ask(name, |connection| attrs(connection, &path))?;
        let strange = || Error::new(ErrorKind::Damaged, format!("{name}: expected a regular file; icecore did not write what is there"));
        found.size.filter(|_| found.is_file()).ok_or_else(strange)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.list_folder(kind, kind.folder(), visit, stranger)
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = names.iter().map(ObjectName::to_string).collect();
        let wanted: BTreeSet<_> = names.iter().flat_map(|name| folders(above(name))).chain([""]).collect();
        let synced = self.ask(&self.address, |connection| {
            wanted.iter().try_for_each(|folder| match sync_folder(connection, &self.path(folder)) {
                // It is in none of those above, and that is durable.
                Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) if !folder.is_empty() => Ok(()),
                other => other,
            })
        });
        synced.map_err(|error| if error.kind() == ErrorKind::NotFound { self.gone() } else { error })
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.traffic.request(Request::Delete, 0);
        let full = name.to_string();
        let (path, folder) = (self.path(&full), self.path(above(&full)));
        let was_tried = Cell::new(false);
        self.ask(name, |connection| {
            let was_tried = was_tried.replace(true);
            let removed = connection.wait_done(&connection.send(wire::REMOVE, |packet| packet.string(path.as_bytes())));
            let is_missing = matches!(removed, Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)));
            if removed.is_ok() || is_missing {
                match sync_folder(connection, &folder) {
                    // It is gone as well.
                    Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => {}
                    synced => synced?,
                }
            }
            // An earlier try may have done it, whose answer was lost.
            if !(is_missing && was_tried) {
                removed?;
            }
            // Folders of packs are few and used for ever; each session would leave one behind. It stays where it is not empty.
            if matches!(name.kind(), ObjectKind::Beat | ObjectKind::Slot) {
                drop(connection.send(wire::RMDIR, |packet| packet.string(folder.as_bytes())));
            }
            Ok(())
        })
    }

    /// One connection carries many questions.
    fn at_once(&self) -> usize {
        self.at_once
    }

    fn describe(&self) -> String {
        self.address.to_string()
    }
}

/// The ssh program with what an address says.
fn ssh(address: &SftpAddress) -> Vec<String> {
    let options = [
        "ssh",
        "-x",
        "-a",
        "-T",
        "-oBatchMode=yes",
        "-oClearAllForwardings=yes",
        "-oPermitLocalCommand=no",
        "-oServerAliveInterval=15",
        "-oServerAliveCountMax=8",
    ];
    let mut command: Vec<String> = options.map(str::to_owned).into();
    for (option, value) in [("-p", address.port.map(|port| port.to_string())), ("-l", address.user.clone())] {
        command.extend(value.map(|value| [option.to_owned(), value]).into_iter().flatten());
    }
    command.extend(["-s", "--", &address.host, "sftp"].map(str::to_owned));
    command
}

fn attrs(connection: &Connection, path: &str) -> Asked<Attrs> {
    match connection.wait(&connection.send(wire::LSTAT, |packet| packet.string(path.as_bytes())))? {
        Reply::Attrs(attrs) => Ok(attrs),
        other => Err(connection.refusal(other)),
    }
}

fn open(connection: &Connection, path: &str, flags: u32) -> Asked<Vec<u8>> {
    // With the mode of a file for its owner only, which a server that opens an existing file passes over.
    let fill = |packet: wire::Packet| packet.string(path.as_bytes()).u32(flags).u32(4).u32(0o600);
    match connection.wait(&connection.send(wire::OPEN, fill))? {
        Reply::Handle(handle) => Ok(handle),
        other => Err(connection.refusal(other)),
    }
}

/// Nobody waits for it.
fn close(connection: &Connection, handle: &[u8]) {
    drop(connection.send(wire::CLOSE, |packet| packet.string(handle)));
}

/// At most `length` bytes, fewer where the file ends. Memory grows with what comes.
fn read(connection: &Connection, handle: &[u8], offset: u64, length: usize) -> Asked<Vec<u8>> {
    let ask = |at: u64, count: usize| connection.send(wire::READ, |packet| packet.string(handle).u64(at).u32(count as u32));
    let (mut bytes, mut asked) = (Vec::with_capacity(length.min(WINDOW * PIECE)), 0);
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < WINDOW && asked < length {
            let count = PIECE.min(length - asked);
            under_way.push_back((count, ask(offset + asked as u64, count)));
            asked += count;
        }
        let Some((count, ticket)) = under_way.pop_front() else { return Ok(bytes) };
        match connection.wait(&ticket)? {
            Reply::Data(data) if data.is_empty() || data.len() > count => {
                return Err(Trouble::Lost("the server sends other bytes than it was asked for".to_owned()));
            }
            Reply::Data(data) => {
                bytes.extend_from_slice(&data);
                if data.len() < count {
                    // The rest goes before everything that was asked for after it.
                    under_way.push_front((count - data.len(), ask(offset + bytes.len() as u64, count - data.len())));
                }
            }
            Reply::Status(wire::STATUS_EOF, _) => return Ok(bytes),
            other => return Err(connection.refusal(other)),
        }
    }
}

/// What is in a folder.
fn entries(connection: &Connection, path: &str) -> Asked<Vec<(String, Attrs)>> {
    let handle = open_folder(connection, path)?;
    let mut found = Vec::new();
    loop {
        match connection.wait(&connection.send(wire::READDIR, |packet| packet.string(&handle)))? {
            Reply::Names(names) if !names.is_empty() => found.extend(names.into_iter().filter(|(name, _)| name != "." && name != "..")),
            Reply::Status(wire::STATUS_EOF, _) => break,
            other => return Err(connection.refusal(other)),
        }
    }
    close(connection, &handle);
    Ok(found)
}

fn open_folder(connection: &Connection, path: &str) -> Asked<Vec<u8>> {
    match connection.wait(&connection.send(wire::OPENDIR, |packet| packet.string(path.as_bytes())))? {
        Reply::Handle(handle) => Ok(handle),
        other => Err(connection.refusal(other)),
    }
}

/// Fails where there is no folder, or none that can be listed.
fn look_into(connection: &Connection, path: &str) -> Asked<()> {
    open_folder(connection, path).map(|handle| close(connection, &handle))
}

/// Makes folders, one in the other. That some are there already is no failure; that the last one is there by then is made sure of.
fn make_folders<'a>(connection: &Connection, paths: impl Iterator<Item = &'a str>) -> Asked<()> {
    let make = |path: &'a str| (path, connection.send(wire::MKDIR, |packet| packet.string(path.as_bytes()).u32(4).u32(0o700)));
    let tickets: Vec<_> = paths.map(make).collect();
    for (_, ticket) in &tickets {
        match connection.wait_done(ticket) {
            Err(lost @ Trouble::Lost(_)) => return Err(lost),
            // Most likely it is there.
            Ok(()) | Err(Trouble::Refused(..)) => {}
        }
    }
    let Some((last, _)) = tickets.last() else { return Ok(()) };
    match attrs(connection, last)?.is_folder() {
        true => Ok(()),
        false => Err(Trouble::Refused(wire::STATUS_PERMISSION_DENIED, "not a folder".to_owned())),
    }
}

/// A folder of the repository and those above it, without the root.
fn folders(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| Some(above(folder))).take_while(|folder| !folder.is_empty())
}

/// The folder that something of the repository is in; empty for the root.
fn above(below: &str) -> &str {
    below.rsplit_once('/').map_or("", |(above, _)| above)
}

/// The folder that the one at `path` is in.
fn above_path(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((above, _)) => above,
        None => ".",
    }
}

/// Makes the entries of a folder durable, as far as the server knows how: not every one has a word for it, or opens folders.
fn sync_folder(connection: &Connection, path: &str) -> Asked<()> {
    if !connection.has("fsync@openssh.com") {
        return Ok(());
    }
    let handle = match open(connection, path, wire::FLAG_READ) {
        // One that can be listed is all right: this server does not open it as a file.
        Err(Trouble::Refused(code, _)) if code != wire::STATUS_NO_SUCH_FILE => return look_into(connection, path),
        other => other?,
    };
    let synced = sync(connection, &handle);
    close(connection, &handle);
    match synced {
        // The latter is OpenSSH's word where the file system has none for folders (as in SMB); those send changes of names at once.
        Err(Trouble::Refused(wire::STATUS_UNSUPPORTED | wire::STATUS_BAD_MESSAGE, _)) => Ok(()),
        other => other,
    }
}

fn sync(connection: &Connection, handle: &[u8]) -> Asked<()> {
    connection.wait_done(&connection.send(wire::EXTENDED, |packet| packet.string(b"fsync@openssh.com").string(handle)))
}

/// Removes a folder and the folders in it, as far as they are empty.
fn remove_folders(connection: &Connection, path: &str, depth: u32) -> Asked<()> {
    for (name, attrs) in entries(connection, path)? {
        if attrs.is_folder() && depth < 3 {
            remove_folders(connection, &format!("{path}/{name}"), depth + 1)?;
        }
    }
    match connection.wait_done(&connection.send(wire::RMDIR, |packet| packet.string(path.as_bytes()))) {
        Err(lost @ Trouble::Lost(_)) => Err(lost),
        _ => Ok(()),
    }
}
