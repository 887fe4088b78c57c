//! A small S3 server in this process, for tests: it keeps objects in memory, knows the requests that icecore makes, and fails as it is told.
//!
//! It looks at who signed a request, not at the signature.

mod archive;

use crate::runtime::{Clock, Executor, SystemExecutor};
use archive::Archive;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The only bucket.
pub const BUCKET: &str = "bucket";
/// The only access key; any secret goes with it.
pub const ACCESS_KEY: &str = "access";
/// The storage classes that it knows once it has extras.
const CLASSES: [&str; 2] = ["STANDARD_IA", "GLACIER_IR"];
/// Objects on one page of a listing that has tokens, at most.
const PAGE: usize = 7;

/// A request, as a plan for faults sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET` and the like.
    pub method: String,
    /// The key, empty for the bucket itself.
    pub key: String,
    /// What stands behind `?`.
    pub query: String,
    /// Counts all requests, from 0.
    pub number: u64,
}

/// What is done instead of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refuses with a status and a code.
    Refuse(u16, &'static str),
    /// Does it, and hangs up instead of answering.
    NoAnswer,
    /// Answers with half of the body, and hangs up.
    CutShort,
}

/// Says what goes wrong with a request.
pub type Plan = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    state: Arc<State>,
}

type Parts = BTreeMap<u32, Vec<u8>>;

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    lag: Mutex<Option<Lag>>,
    writing: Mutex<()>,
    /// By id, with the key.
    uploads: Mutex<BTreeMap<String, (String, Parts)>>,
    plan: Mutex<Option<Plan>>,
    requests: AtomicU64,
    ignores_conditions: AtomicBool,
    /// Whether listings go on at all, where they have no tokens.
    without_tokens: Mutex<Option<bool>>,
    /// Knows object locks and [`CLASSES`]; the class of each object that has one.
    has_extras: AtomicBool,
    classes: Mutex<HashMap<String, String>>,
    archive: Archive,
    is_over: AtomicBool,
}

/// Listings show what was there so long ago.
struct Lag {
    clock: Arc<dyn Clock>,
    lag_ns: u64,
    changes: VecDeque<Change>,
    listed: BTreeMap<String, Arc<Vec<u8>>>,
}

/// When it was, the key, and what is there since.
type Change = (u64, String, Option<Arc<Vec<u8>>>);

impl State {
    /// Puts an object there, or takes it away.
    fn change(&self, key: &str, bytes: Option<Arc<Vec<u8>>>) {
        let mut objects = self.objects.lock();
        if let Some(lag) = &mut *self.lag.lock() {
            lag.changes.push_back((lag.clock.monotonic_ns(), key.to_owned(), bytes.clone()));
        }
        apply(&mut objects, key.to_owned(), bytes);
    }

    /// What listings show.
    fn listed(&self) -> BTreeMap<String, Arc<Vec<u8>>> {
        let objects = self.objects.lock();
        let mut lag = self.lag.lock();
        let Some(lag) = &mut *lag else { return objects.clone() };
        let shown = lag.clock.monotonic_ns().checked_sub(lag.lag_ns);
        while let Some((_, key, bytes)) = lag.changes.pop_front_if(|(when, ..)| shown.is_some_and(|shown| *when <= shown)) {
            apply(&mut lag.listed, key, bytes);
        }
        lag.listed.clone()
    }
}

fn apply(objects: &mut BTreeMap<String, Arc<Vec<u8>>>, key: String, bytes: Option<Arc<Vec<u8>>>) {
    match bytes {
        Some(bytes) => objects.insert(key, bytes),
        None => objects.remove(&key),
    };
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl S3Server {
    /// Starts one with an empty bucket.
    ///
    /// # Panics
    /// Where there is no port to be had.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let of_thread = Arc::clone(&state);
        spawn(move || {
            for stream in listener.incoming() {
                if of_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (state, Ok(stream)) = (Arc::clone(&of_thread), stream) else { continue };
                // A client that hangs up is no failure.
                spawn(move || drop(serve(&state, &stream)));
            }
        });
        Self { address, state }
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `plan` is asked about every request.
    pub fn fail_by(&self, plan: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        *self.state.plan.lock() = Some(Box::new(plan));
    }

    /// From now on nothing goes wrong.
    pub fn fail_no_more(&self) {
        *self.state.plan.lock() = None;
    }

    /// From now on it takes no notice of `If-None-Match`, as some stores do.
    pub fn ignore_conditions(&self) {
        self.state.ignores_conditions.store(true, Ordering::Relaxed);
    }

    /// From now on pages of listings have no token, as if the way to list that has them were not known; only where `knows_start_after` they
    /// begin behind a key.
    pub fn list_without_tokens(&self, knows_start_after: bool) {
        *self.state.without_tokens.lock() = Some(knows_start_after);
    }

    /// From now on listings show only what was there so many nanoseconds before, by `clock`.
    pub fn lag_listings(&self, clock: Arc<dyn Clock>, lag_ns: u64) {
        let listed = self.state.objects.lock().clone();
        *self.state.lag.lock() = Some(Lag { clock, lag_ns, changes: VecDeque::new(), listed });
    }

    /// From now on it has object locks, with a retention by default, and the storage classes `STANDARD_IA` and `GLACIER_IR`.
    pub fn have_extras(&self) {
        self.state.has_extras.store(true, Ordering::Relaxed);
    }

    /// So many of the objects that are on their way have thawed now, in the order of their keys. Gives how many are still on their way.
    pub fn pass_time(&self, objects: usize) -> usize {
        self.state.archive.pass_time(objects)
    }

    /// What was asked for to thaw, in order: key, way, days.
    #[must_use]
    pub fn asked_to_thaw(&self) -> Vec<(String, String, u32)> {
        self.state.archive.asked()
    }

    /// The storage class of an object; `None` for the store's own.
    #[must_use]
    pub fn class_of(&self, key: &str) -> Option<String> {
        self.state.archive.class_of(key)
    }

    /// From now on the bucket has object lock.
    pub fn enable_object_lock(&self) {
        self.state.archive.enable_lock();
    }

    /// Until when objects are retained, as RFC 3339, by key.
    #[must_use]
    pub fn retained(&self) -> BTreeMap<String, String> {
        self.state.archive.retained()
    }

    /// Deletes all versions of an object, as whoever owns the account would; false where one is retained, which stays.
    #[must_use]
    pub fn delete_versions(&self, key: &str) -> bool {
        let is_retained = self.state.archive.versions().contains_key(key);
        if !is_retained {
            self.state.change(key, None);
        }
        !is_retained
    }

    /// Brings back what is retained, whatever was deleted or written over it since, as whoever owns the account can: a bucket with object lock keeps
    /// versions, and a delete without one only hides them.
    pub fn bring_back(&self) {
        self.state.archive.versions().into_iter().for_each(|(key, bytes)| self.state.change(&key, Some(bytes)));
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// All keys, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.state.objects.lock().keys().cloned().collect()
    }

    /// Uploads in parts that are neither completed nor taken back.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.state.uploads.lock().len()
    }

    /// Begins an upload in parts, as a client does that then dies. All uploads were begun in 1970.
    pub fn plant_upload(&self, key: &str) {
        let mut uploads = self.state.uploads.lock();
        let id = format!("planted{}", uploads.len());
        uploads.insert(id, (key.to_owned(), BTreeMap::new()));
    }

    /// Puts an object there, or takes it away, as somebody else would.
    pub fn plant(&self, key: &str, bytes: Option<&[u8]>) {
        self.state.change(key, bytes.map(|bytes| Arc::new(bytes.to_vec())));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    SystemExecutor::new(1).spawn("s3-server", Box::new(work)).expect("a thread");
}

struct Message {
    asked: Asked,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// A status, headers and a body.
struct Reply(u16, Vec<(&'static str, String)>, Vec<u8>);

impl Reply {
    fn error(status: u16, code: &str) -> Self {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>");
        Self(status, Vec::new(), body.into_bytes())
    }

    fn xml(body: String) -> Self {
        Self(200, Vec::new(), body.into_bytes())
    }
}

fn serve(state: &State, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(message) = read(state, &mut reader)? {
        let fault = state.plan.lock().as_mut().and_then(|plan| plan(&message.asked));
        let reply = match fault {
            Some(Fault::Refuse(status, code)) => Reply::error(status, code),
            _ => answer(state, &message),
        };
        if fault == Some(Fault::NoAnswer) {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        let Reply(status, headers, body) = reply;
        let is_head = message.asked.method == "HEAD";
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        if !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        match fault {
            Some(Fault::CutShort) => {
                stream.write_all(&body[..body.len() / 2])?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            _ if is_head => {}
            _ => stream.write_all(&body)?,
        }
    }
    Ok(())
}

fn read(state: &State, reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Message>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut path = unescape(path).trim_start_matches('/').to_owned();
    let is_bucket = path == BUCKET || path.starts_with(&format!("{BUCKET}/"));
    path = path.strip_prefix(BUCKET).unwrap_or(&path).trim_start_matches('/').to_owned();
    let query = if is_bucket { query.to_owned() } else { "no-such-bucket".to_owned() };
    let asked = Asked { method, key: path, query, number: state.requests.fetch_add(1, Ordering::Relaxed) };
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Message { asked, headers, body }))
}

fn answer(state: &State, message: &Message) -> Reply {
    let Message { asked, headers, body } = message;
    let signature = headers.get("authorization").unwrap_or(&asked.query);
    let signed_by = signature.split_once("Credential=").and_then(|(_, key)| key.split_once(['/', '%']));
    if asked.query == "no-such-bucket" {
        return Reply::error(404, "NoSuchBucket");
    }
    if signed_by.map(|(key, _)| key) != Some(ACCESS_KEY) {
        return Reply::error(403, "InvalidAccessKeyId");
    }
    let query: HashMap<&str, String> = asked
        .query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name, unescape(value)))
        .collect();
    if let Some(reply) = archive::answer(state, message, &query) {
        return reply;
    }
    let upload = query.get("uploadId");
    match (asked.method.as_str(), upload) {
        ("GET", _) if query.contains_key("object-lock") => lock(state),
        ("GET", _) if query.contains_key("uploads") => uploads(state, query.get("prefix").map_or("", String::as_str)),
        ("GET", _) if asked.key.is_empty() => list(state, &query),
        ("GET" | "HEAD", _) => {
            let Reply(status, mut found, body) = get(state, &asked.key, headers.get("range"));
            found.extend(state.classes.lock().get(&asked.key).map(|class| ("x-amz-storage-class", class.clone())));
            found.extend(state.archive.headers(&asked.key));
            Reply(status, found, body)
        }
        ("POST", None) => {
            let id = format!("upload{}", asked.number);
            state.uploads.lock().insert(id.clone(), (asked.key.clone(), BTreeMap::new()));
            Reply::xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        ("PUT", Some(id)) => match (state.uploads.lock().get_mut(id), query.get("partNumber").and_then(|number| number.parse().ok())) {
            (Some((_, parts)), Some(number)) => {
                parts.insert(number, body.clone());
                Reply(200, vec![("ETag", tag(body))], Vec::new())
            }
            _ => Reply::error(404, "NoSuchUpload"),
        },
        ("POST", Some(id)) => complete(state, &asked.key, id, body),
        ("DELETE", Some(id)) => match state.uploads.lock().remove(id) {
            Some(_) => Reply(204, Vec::new(), Vec::new()),
            None => Reply::error(404, "NoSuchUpload"),
        },
        ("PUT", None) => {
            // One after the other: of two writers at once one wins.
            let _turn = state.writing.lock();
            let is_conditional = headers.contains_key("if-none-match") && !state.ignores_conditions.load(Ordering::Relaxed);
            if is_conditional && state.objects.lock().contains_key(&asked.key) {
                return Reply::error(412, "PreconditionFailed");
            }
            if let Some(class) = headers.get("x-amz-storage-class").filter(|_| state.has_extras.load(Ordering::Relaxed)) {
                if !CLASSES.contains(&class.as_str()) {
                    return Reply::error(400, "InvalidStorageClass");
                }
                state.classes.lock().insert(asked.key.clone(), class.clone());
            }
            state.change(&asked.key, Some(Arc::new(body.clone())));
            state.archive.forget(&asked.key);
            Reply(200, vec![("ETag", tag(body))], Vec::new())
        }
        ("DELETE", None) => {
            let is_other = |bytes: &Arc<Vec<u8>>| headers.get("if-match").is_some_and(|wanted| *wanted != tag(bytes));
            let is_conditional = !state.ignores_conditions.load(Ordering::Relaxed);
            if is_conditional && state.objects.lock().get(&asked.key).is_some_and(is_other) {
                return Reply::error(412, "PreconditionFailed");
            }
            state.classes.lock().remove(&asked.key);
            state.change(&asked.key, None);
            state.archive.forget(&asked.key);
            Reply(204, Vec::new(), Vec::new())
        }
        _ => Reply::error(405, "MethodNotAllowed"),
    }
}

fn get(state: &State, key: &str, range: Option<&String>) -> Reply {
    let Some(bytes) = state.objects.lock().get(key).cloned() else { return Reply::error(404, "NoSuchKey") };
    let mut headers = vec![("ETag", tag(&bytes)), ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())];
    let Some(range) = range else {
        headers.push(("Content-Length", bytes.len().to_string()));
        return Reply(200, headers, bytes.to_vec());
    };
    let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let (Some(start), last) = ends.map_or((None, None), |(a, b)| (a.parse::<usize>().ok(), b.parse::<usize>().ok())) else {
        return Reply::error(400, "InvalidArgument");
    };
    let end = last.map_or(bytes.len(), |last| last.saturating_add(1).min(bytes.len()));
    match bytes.get(start..end).filter(|found| !found.is_empty()) {
        None => Reply::error(416, "InvalidRange"),
        Some(found) => {
            headers.push(("Content-Range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
            Reply(206, headers, found.to_vec())
        }
    }
}

fn uploads(state: &State, prefix: &str) -> Reply {
    let mut text = String::from("<ListMultipartUploadsResult>");
    for (id, (key, _)) in state.uploads.lock().iter().filter(|(_, (key, _))| key.starts_with(prefix)) {
        let begun = "<Initiated>1970-01-01T00:00:00.000Z</Initiated>";
        text.push_str(&format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId>{begun}</Upload>"));
    }
    Reply::xml(text + "</ListMultipartUploadsResult>")
}

fn lock(state: &State) -> Reply {
    if !state.has_extras.load(Ordering::Relaxed) {
        return Reply::error(404, "ObjectLockConfigurationNotFoundError");
    }
    let retention = "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule>";
    Reply::xml(format!("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{retention}</ObjectLockConfiguration>"))
}

fn list(state: &State, query: &HashMap<&str, String>) -> Reply {
    let nothing = String::new();
    let asked_max = query.get("max-keys").and_then(|keys| keys.parse().ok()).unwrap_or(1000);
    let (prefix, without_tokens) = (query.get("prefix").unwrap_or(&nothing), *state.without_tokens.lock());
    let (page, begins) = match without_tokens {
        None => (asked_max.min(PAGE), query.get("continuation-token").or(query.get("start-after"))),
        Some(knows_start_after) => (asked_max, query.get("start-after").filter(|_| knows_start_after)),
    };
    let after = begins.unwrap_or(&nothing);
    let objects = state.listed();
    let found: Vec<_> =
        objects.iter().filter(|(key, _)| key.starts_with(prefix.as_str()) && key.as_str() > after.as_str()).take(page + 1).collect();
    let mut text = String::from("<ListBucketResult>");
    for (key, bytes) in found.iter().take(page) {
        let (size, time) = (bytes.len(), "1970-01-01T00:00:00.000Z");
        let tag = tag(bytes).replace('"', "&quot;");
        text.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>"
        ));
    }
    if let Some((last, _)) = found.get(page - 1).filter(|_| found.len() > page) {
        text.push_str("<IsTruncated>true</IsTruncated>");
        if without_tokens.is_none() {
            text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
        }
    }
    // Some say so of what they do not have.
    let no_token = if without_tokens.is_none() && found.len() <= page { "<NextContinuationToken></NextContinuationToken>" } else { "" };
    Reply::xml(text + no_token + "</ListBucketResult>")
}

fn complete(state: &State, key: &str, id: &str, body: &[u8]) -> Reply {
    let Some((_, parts)) = state.uploads.lock().remove(id) else { return Reply::error(404, "NoSuchUpload") };
    let text = String::from_utf8_lossy(body);
    let named = text.matches("<PartNumber>").count();
    if named != parts.len() || !parts.values().all(|part| text.contains(tag(part).trim_matches('"'))) {
        return Reply::error(400, "InvalidPart");
    }
    let bytes: Vec<u8> = parts.into_values().flatten().collect();
    let tag = tag(&bytes).replace('"', "&quot;");
    state.change(key, Some(Arc::new(bytes)));
    Reply::xml(format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"))
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", blake3::hash(bytes).to_hex())
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
