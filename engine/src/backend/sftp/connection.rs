//! One connection to a server: the ssh program, and threads that write to it and read from it. Requests of many threads are under way at once;
//! answers find whoever asked by the request's number.
//!
//! It ends where nothing at all was answered for [`ANSWER_WITHIN`], and then the program is killed: whoever waits for it, to read or to write, goes on.

use super::wire::{self, Fields, PACKET_MAX, Packet, Reply};
use crate::error::Result;
use crate::runtime::Executor;
use crate::runtime::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A server that says nothing to anybody for so long is gone.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// It answers others, and has forgotten this one: after so many times as long.
const LATE_MAX: u32 = 30;
/// Bytes of what ssh says that are kept for people.
const SAID_MAX: usize = 600;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server refused, with a code and perhaps a word.
    Refused(u32, String),
    /// The connection is gone; ssh may have said why.
    Lost(String),
}

pub(super) type Asked<T> = std::result::Result<T, Trouble>;

/// See the module.
pub(super) struct Connection {
    /// Without a bound, so that nobody waits where the server takes nothing any more. Bound: what is under way, see [`super::WINDOW`].
    to_writer: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    next: AtomicU32,
    answer_within: Duration,
    /// What the server can do beyond version 3.
    extensions: HashSet<String>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Ticket(Receiver<Reply>);

#[derive(Default)]
struct Shared {
    /// Who waits for what; `None` once the connection is gone.
    waiting: Mutex<Option<HashMap<u32, Sender<Reply>>>>,
    /// Counts answers, whoever they are for.
    heard: AtomicU64,
    /// Why it is gone.
    said: Mutex<String>,
    /// The program, until it has ended.
    child: Mutex<Option<Child>>,
}

impl Shared {
    /// All who wait learn that nothing comes any more. The program goes, with what it started: it may hang, and a thread would write to it for ever.
    fn end(&self) {
        drop(self.waiting.lock().take());
        if let Some(child) = &*self.child.lock()
            && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            // It is in a group of its own, and its number is nobody else's before it was waited for. It may have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for the program's end.
    fn reap(&self) {
        let child = self.child.lock().take();
        if let Some(mut child) = child {
            // Whoever ends it from now on finds nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Connection {
    /// Starts `command` and greets the server, which is gone once it says nothing for `answer_within`.
    pub(super) fn start(command: &[String], executor: &dyn Executor, answer_within: Duration) -> Result<Asked<Self>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(Err(Trouble::Lost("no command".to_owned()))) };
        // A process group of its own: Ctrl-C asks this program to end in order, for which it needs the connection.
        let spawned = Command::new(program)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Ok(Err(Trouble::Lost(format!("the program `{program}` cannot be started: {error}")))),
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Ok(Err(Trouble::Lost("ssh has no pipes".to_owned())));
        };
        let (waiting, child) = (Mutex::new(Some(HashMap::new())), Mutex::new(Some(child)));
        let shared = Arc::new(Shared { waiting, child, ..Shared::default() });
        let (to_writer, packets) = unbounded();
        let (greeting, greeted) = bounded(1);
        let (told, all_said) = bounded(1);
        let of_listener = Arc::clone(&shared);
        let listen = move || {
            listen(&of_listener, stderr);
            drop(told);
        };
        executor.spawn("icecore-ssh-says", Box::new(listen))?;
        let of_writer = Arc::clone(&shared);
        executor.spawn("icecore-sftp-write", Box::new(move || write(&of_writer, stdin, &packets)))?;
        let of_reader = Arc::clone(&shared);
        let read = move || {
            // Ends with the connection, and whatever ends it is told by whoever misses an answer.
            let _ = read(&of_reader, stdout, &greeting);
            let _: std::result::Result<(), _> = all_said.recv_timeout(Duration::from_secs(2));
            drop(greeting);
            of_reader.end();
            of_reader.reap();
        };
        executor.spawn("icecore-sftp-read", Box::new(read))?;
        let mut connection = Self { to_writer, shared, next: AtomicU32::new(1), answer_within, extensions: HashSet::new() };
        connection.write(&Packet(vec![wire::INIT]).u32(3).0);
        match greeted.recv_timeout(answer_within) {
            Ok(extensions) => connection.extensions = extensions,
            Err(_) => {
                connection.shared.end();
                return Ok(Err(connection.lost()));
            }
        }
        Ok(Ok(connection))
    }

    /// Whether the server has an extension of this name.
    pub(super) fn has(&self, extension: &str) -> bool {
        self.extensions.contains(extension)
    }

    /// Whether answers may still come.
    pub(super) fn is_alive(&self) -> bool {
        self.shared.waiting.lock().is_some()
    }

    /// Sends a request; what it says follows its number.
    pub(super) fn send(&self, kind: u8, fill: impl FnOnce(Packet) -> Packet) -> Ticket {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, ticket) = bounded(1);
        let is_alive = match &mut *self.shared.waiting.lock() {
            Some(waiting) => {
                waiting.insert(id, answer);
                true
            }
            None => false,
        };
        if is_alive {
            self.write(&fill(Packet::new(kind, id)).0);
        }
        Ticket(ticket)
    }

    fn write(&self, packet: &[u8]) {
        let mut framed = Vec::with_capacity(packet.len() + 4);
        framed.extend_from_slice(&(packet.len() as u32).to_be_bytes());
        framed.extend_from_slice(packet);
        // Where the writer is gone no answer comes either.
        let _ = self.to_writer.send(framed);
    }

    /// Waits for the answer.
    pub(super) fn wait(&self, ticket: &Ticket) -> Asked<Reply> {
        for _ in 0..LATE_MAX {
            let heard = self.shared.heard.load(Ordering::Relaxed);
            match ticket.0.recv_timeout(self.answer_within) {
                Ok(reply) => return Ok(reply),
                // Others had answers meanwhile: there is much to do, or the way is slow.
                Err(RecvTimeoutError::Timeout) if self.shared.heard.load(Ordering::Relaxed) != heard => {}
                Err(_) => break,
            }
        }
        self.shared.end();
        Err(self.lost())
    }

    /// Waits for the word that it is done.
    pub(super) fn wait_done(&self, ticket: &Ticket) -> Asked<()> {
        match self.wait(ticket)? {
            Reply::Status(wire::STATUS_OK, _) => Ok(()),
            other => Err(self.refusal(other)),
        }
    }

    /// What an answer means that is not the one that was hoped for.
    pub(super) fn refusal(&self, reply: Reply) -> Trouble {
        match reply {
            Reply::Status(code, text) => Trouble::Refused(code, text),
            _ => Trouble::Lost("the server answers something else than it was asked".to_owned()),
        }
    }

    fn lost(&self) -> Trouble {
        let said = self.shared.said.lock().trim().replace(['\n', '\r'], " ");
        Trouble::Lost(if said.is_empty() { "the connection was lost".to_owned() } else { format!("ssh says: {said}") })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("is_alive", &self.is_alive()).finish_non_exhaustive()
    }
}

fn write(shared: &Shared, mut stdin: ChildStdin, packets: &Receiver<Vec<u8>>) {
    for packet in packets.iter() {
        if stdin.write_all(&packet).is_err() {
            shared.end();
            return;
        }
    }
}

fn read(shared: &Shared, stdout: impl Read, greeting: &Sender<HashSet<String>>) -> io::Result<()> {
    let mut stdout = BufReader::with_capacity(64 << 10, stdout);
    let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
    loop {
        let mut length = [0; 4];
        stdout.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > PACKET_MAX {
            // A login script that prints something stands here most of the time.
            *shared.said.lock() = "something that is no SFTP came from the server; see that its login scripts print nothing".to_owned();
            return Err(nonsense());
        }
        let mut packet = vec![0; length];
        stdout.read_exact(&mut packet)?;
        if packet.first() == Some(&wire::VERSION) {
            let mut fields = Fields(packet.get(5..).unwrap_or_default());
            let mut extensions = HashSet::new();
            while let (Some(name), Some(_)) = (fields.string(), fields.string()) {
                extensions.insert(String::from_utf8_lossy(name).into_owned());
            }
            let _ = greeting.send(extensions);
            continue;
        }
        let (id, reply) = wire::reply(&packet).ok_or_else(nonsense)?;
        shared.heard.fetch_add(1, Ordering::Relaxed);
        let answer = shared.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&id));
        if let Some(answer) = answer {
            // Nobody may be interested any more.
            let _ = answer.send(reply);
        }
    }
}

/// Keeps the last that ssh says.
fn listen(shared: &Shared, mut stderr: ChildStderr) {
    let mut bytes = [0; 512];
    while let Ok(count @ 1..) = stderr.read(&mut bytes) {
        let mut said = shared.said.lock();
        said.push_str(&String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()));
        while said.len() > SAID_MAX {
            said.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Clock, SystemClock};

    #[test]
    fn an_answer_that_is_late_ends_nothing_while_others_come() {
        let shared = Arc::new(Shared { waiting: Mutex::new(Some(HashMap::new())), ..Shared::default() });
        let (to_writer, _packets) = unbounded();
        let answer_within = Duration::from_millis(100);
        let connection =
            Connection { to_writer, shared: Arc::clone(&shared), next: AtomicU32::new(1), answer_within, extensions: HashSet::new() };
        let ticket = connection.send(wire::LSTAT, |packet| packet);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let until_ns = SystemClock.monotonic_ns() + 300_000_000;
                while SystemClock.monotonic_ns() < until_ns {
                    shared.heard.fetch_add(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
                let waiter = shared.waiting.lock().as_mut().and_then(|waiting| waiting.remove(&1));
                waiter.unwrap().send(Reply::Status(wire::STATUS_OK, String::new())).unwrap();
            });
            connection.wait_done(&ticket).unwrap();
        });
        assert!(connection.is_alive());
    }
}
