//! Writing one object: into a file in `tmp/`, which then gets the object's name.

use super::connection::{Asked, Connection, Ticket, Trouble};
use super::wire::{self, PIECE};
use super::{SftpBackend, TEMPORARY_FOLDER, TEMPORARY_PREFIX, WINDOW, above, attrs, close, open, sync};
use crate::backend::store::Request;
use crate::backend::{ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::id::to_hex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Folders may be removed, being empty, each time before the object gets there; nobody is that unlucky this often.
const ATTEMPTS_MAX: u32 = 20;

/// An object on its way into the folder.
pub(super) struct SftpWriter<'a> {
    backend: &'a SftpBackend,
    name: ObjectName,
    replaces: bool,
    buffer: Vec<u8>,
    file: Option<File>,
    is_poisoned: bool,
}

/// A file in `tmp/`; it goes when this is dropped.
struct File {
    connection: Arc<Connection>,
    path: String,
    handle: Vec<u8>,
    at: u64,
    under_way: VecDeque<Ticket>,
}

impl<'a> SftpWriter<'a> {
    pub(super) fn new(backend: &'a SftpBackend, name: &ObjectName, replaces: bool) -> Self {
        Self { backend, name: *name, replaces, buffer: Vec::with_capacity(PIECE), file: None, is_poisoned: false }
    }

    fn check(&self) -> Result<()> {
        match self.is_poisoned {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, format!("{}: an earlier write failed; write the object anew", self.name))),
        }
    }

    fn failed(&self, trouble: Trouble) -> Error {
        failed(self.backend, &self.name, trouble)
    }

    fn send(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(self.backend, &self.name)?),
        };
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        file.write(&piece).map_err(|trouble| self.failed(trouble))
    }
}

/// Not as missing: nothing that is written was there before.
fn failed(backend: &SftpBackend, name: &ObjectName, trouble: Trouble) -> Error {
    let error = backend.error(name, trouble);
    if error.kind() == ErrorKind::NotFound { backend.gone().context(name) } else { error }
}

impl ObjectWriter for SftpWriter<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.check()?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PIECE
                && let Err(error) = self.send()
            {
                self.is_poisoned = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.check()?;
        self.send()?;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        self.backend.traffic.request(Request::Put, usize::try_from(file.at).unwrap_or(usize::MAX));
        let published = file.settle().and_then(|()| file.publish(self.backend, &self.name.to_string(), self.replaces));
        let is_new = published.map_err(|trouble| self.failed(trouble))?;
        match is_new {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::AlreadyExists, format!("{}: exists already", self.name))),
        }
    }
}

impl File {
    fn create(backend: &SftpBackend, object: &ObjectName) -> Result<Self> {
        let path = backend.path(&format!("{TEMPORARY_FOLDER}/{TEMPORARY_PREFIX}{}", to_hex(&backend.runtime.random::<16>())));
        for _ in 0..ATTEMPTS_MAX {
            // Made anew where it was lost.
            let connection = match backend.connection()? {
                Ok(connection) => connection,
                Err(trouble) => return Err(backend.error(object, trouble)),
            };
            match open(&connection, &path, wire::FLAGS_NEW) {
                Ok(handle) => return Ok(Self { connection, path, handle, at: 0, under_way: VecDeque::new() }),
                Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => {
                    backend.make_below(&connection, TEMPORARY_FOLDER).map_err(|trouble| failed(backend, object, trouble))?;
                }
                Err(trouble) => return Err(backend.error(object, trouble)),
            }
        }
        Err(failed(backend, object, removed_again_and_again(TEMPORARY_FOLDER)))
    }

    fn write(&mut self, piece: &[u8]) -> Asked<()> {
        if self.under_way.len() >= WINDOW
            && let Some(oldest) = self.under_way.pop_front()
        {
            self.connection.wait_done(&oldest)?;
        }
        if !piece.is_empty() {
            self.under_way.push_back(self.connection.send(wire::WRITE, |packet| packet.string(&self.handle).u64(self.at).string(piece)));
            self.at += piece.len() as u64;
        }
        Ok(())
    }

    /// Everything is there, and stays.
    fn settle(&mut self) -> Asked<()> {
        while let Some(oldest) = self.under_way.pop_front() {
            self.connection.wait_done(&oldest)?;
        }
        if self.connection.has("fsync@openssh.com") {
            sync(&self.connection, &self.handle)?;
        }
        Ok(())
    }

    /// Gives the file the object's name; whether that was free.
    fn publish(&mut self, backend: &SftpBackend, name: &str, replaces: bool) -> Asked<bool> {
        let (path, folder) = (&backend.path(name), above(name));
        for _ in 0..ATTEMPTS_MAX {
            let named = if replaces { self.replace(path) } else { self.link(path) };
            match named {
                Ok(()) => return backend.sync_to(&self.connection, folder).map(|()| true),
                Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => backend.make_below(&self.connection, folder)?,
                // Servers have no word for a name that is taken.
                Err(Trouble::Refused(code, text)) if !replaces => match attrs(&self.connection, path) {
                    // The other's sync may still be to come, and our caller relies on what exists.
                    Ok(_) => return backend.sync_to(&self.connection, folder).map(|()| false),
                    Err(Trouble::Refused(wire::STATUS_NO_SUCH_FILE, _)) => return Err(Trouble::Refused(code, text)),
                    Err(trouble) => return Err(trouble),
                },
                Err(trouble) => return Err(trouble),
            }
        }
        Err(removed_again_and_again(folder))
    }

    fn link(&self, path: &str) -> Asked<()> {
        let (from, to) = (self.path.as_bytes(), path.as_bytes());
        if self.connection.has("hardlink@openssh.com") {
            let fill = |packet: wire::Packet| packet.string(b"hardlink@openssh.com").string(from).string(to);
            return self.connection.wait_done(&self.connection.send(wire::EXTENDED, fill));
        }
        // By the draft it fails where the name is taken; not every server keeps to that.
        if attrs(&self.connection, path).is_ok() {
            return Err(Trouble::Refused(4, "the name is taken".to_owned()));
        }
        self.connection.wait_done(&self.connection.send(wire::RENAME, |packet| packet.string(from).string(to)))
    }

    fn replace(&self, path: &str) -> Asked<()> {
        let fill = |packet: wire::Packet| packet.string(b"posix-rename@openssh.com").string(self.path.as_bytes()).string(path.as_bytes());
        self.connection.wait_done(&self.connection.send(wire::EXTENDED, fill))
    }
}

fn removed_again_and_again(folder: &str) -> Trouble {
    Trouble::Lost(format!("{folder}: this folder is removed again and again by another process"))
}

impl Drop for File {
    fn drop(&mut self) {
        close(&self.connection, &self.handle);
        // After a rename there is nothing to remove; what cannot be removed now stays in `tmp/`, where it is no object, until it is cleared.
        drop(self.connection.send(wire::REMOVE, |packet| packet.string(self.path.as_bytes())));
    }
}
