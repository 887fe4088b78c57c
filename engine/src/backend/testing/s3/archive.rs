//! Storage classes, thawing and object lock of the small S3 server.

use super::{BUCKET, Message, Reply, State};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is in these must thaw.
const FROZEN: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

#[derive(Default)]
pub(super) struct Archive {
    objects: Mutex<BTreeMap<String, Archived>>,
    asked: Mutex<Vec<(String, String, u32)>>,
    has_lock: AtomicBool,
    /// Ends of retention, which are compared as texts of one form.
    retained: Mutex<BTreeMap<String, String>>,
    /// The versions that are retained.
    versions: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
}

struct Archived {
    class: String,
    thaw: Thaw,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Thaw {
    No,
    OnItsWay,
    Done,
}

impl Archived {
    fn is_frozen(&self) -> bool {
        FROZEN.contains(&self.class.as_str()) && self.thaw != Thaw::Done
    }
}

impl Archive {
    pub(super) fn pass_time(&self, objects: usize) -> usize {
        let mut known = self.objects.lock();
        let on_their_way = known.values_mut().filter(|object| object.thaw == Thaw::OnItsWay);
        let left = on_their_way.enumerate().map(|(at, object)| {
            if at < objects {
                object.thaw = Thaw::Done;
            }
            usize::from(at >= objects)
        });
        left.sum()
    }

    pub(super) fn asked(&self) -> Vec<(String, String, u32)> {
        self.asked.lock().clone()
    }

    pub(super) fn class_of(&self, key: &str) -> Option<String> {
        self.objects.lock().get(key).map(|object| object.class.clone())
    }

    pub(super) fn enable_lock(&self) {
        self.has_lock.store(true, Ordering::Relaxed);
    }

    pub(super) fn retained(&self) -> BTreeMap<String, String> {
        self.retained.lock().clone()
    }

    pub(super) fn versions(&self) -> BTreeMap<String, Arc<Vec<u8>>> {
        self.versions.lock().clone()
    }

    pub(super) fn forget(&self, key: &str) {
        self.objects.lock().remove(key);
    }

    /// What an answer about an object says besides.
    pub(super) fn headers(&self, key: &str) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(object) = self.objects.lock().get(key) {
            headers.push(("x-amz-storage-class", object.class.clone()));
            match object.thaw {
                Thaw::No => {}
                Thaw::OnItsWay => headers.push(("x-amz-restore", "ongoing-request=\"true\"".to_owned())),
                Thaw::Done => {
                    let text = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2040 00:00:00 GMT\"";
                    headers.push(("x-amz-restore", text.to_owned()));
                }
            }
        }
        if let Some(until) = self.retained.lock().get(key) {
            headers.push(("x-amz-object-lock-mode", "COMPLIANCE".to_owned()));
            headers.push(("x-amz-object-lock-retain-until-date", until.clone()));
        }
        headers
    }
}

/// Answers what is about classes and locks; `None` where the request is about neither.
pub(super) fn answer(state: &State, message: &Message, query: &HashMap<&str, String>) -> Option<Reply> {
    let Message { asked, headers, body } = message;
    let (archive, key) = (&state.archive, asked.key.as_str());
    let exists = || state.objects.lock().contains_key(key);
    Some(match asked.method.as_str() {
        "GET" if key.is_empty() && query.contains_key("object-lock") && archive.has_lock.load(Ordering::Relaxed) => {
            Reply::xml("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>".into())
        }
        "GET" if archive.objects.lock().get(key).is_some_and(Archived::is_frozen) => Reply::error(403, "InvalidObjectState"),
        "PUT" if headers.contains_key("x-amz-copy-source") => copy(state, key, headers),
        "POST" if query.contains_key("restore") && exists() => restore(archive, key, body),
        "PUT" if query.contains_key("retention") && exists() => retain(state, key, headers, body),
        "POST" | "PUT" if query.contains_key("restore") || query.contains_key("retention") => Reply::error(404, "NoSuchKey"),
        _ => return None,
    })
}

/// In its place, into another class; nothing else is copied.
fn copy(state: &State, key: &str, headers: &HashMap<String, String>) -> Reply {
    let source = headers.get("x-amz-copy-source").map(|source| super::unescape(source)).unwrap_or_default();
    let class = headers.get("x-amz-storage-class").cloned().unwrap_or_default();
    if source.trim_start_matches('/') != format!("{BUCKET}/{key}") || class.is_empty() {
        return Reply::error(400, "InvalidRequest");
    }
    if !state.objects.lock().contains_key(key) {
        return Reply::error(404, "NoSuchKey");
    }
    let mut known = state.archive.objects.lock();
    if known.get(key).is_some_and(Archived::is_frozen) {
        return Reply::error(403, "ObjectNotInActiveTierError");
    }
    known.insert(key.to_owned(), Archived { class, thaw: Thaw::No });
    Reply::xml("<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>".into())
}

fn restore(archive: &Archive, key: &str, body: &[u8]) -> Reply {
    let text = String::from_utf8_lossy(body);
    let (way, days) = (within(&text, "Tier"), within(&text, "Days").and_then(|days| days.parse().ok()));
    let (Some(way), Some(days)) = (way, days) else { return Reply::error(400, "MalformedXML") };
    let mut known = archive.objects.lock();
    match known.get_mut(key) {
        Some(object) if object.thaw == Thaw::OnItsWay => Reply::error(409, "RestoreAlreadyInProgress"),
        Some(object) if FROZEN.contains(&object.class.as_str()) => {
            let status = if object.thaw == Thaw::Done { 200 } else { 202 };
            if object.thaw == Thaw::No {
                object.thaw = Thaw::OnItsWay;
                archive.asked.lock().push((key.to_owned(), way.to_owned(), days));
            }
            Reply(status, Vec::new(), Vec::new())
        }
        _ => Reply::error(403, "InvalidObjectState"),
    }
}

fn retain(state: &State, key: &str, headers: &HashMap<String, String>, body: &[u8]) -> Reply {
    let archive = &state.archive;
    if !archive.has_lock.load(Ordering::Relaxed) || !["content-md5", "x-amz-checksum-sha256"].iter().any(|name| headers.contains_key(*name))
    {
        return Reply::error(400, "InvalidRequest");
    }
    let text = String::from_utf8_lossy(body);
    let (Some(until), Some("COMPLIANCE")) = (within(&text, "RetainUntilDate"), within(&text, "Mode")) else {
        return Reply::error(400, "MalformedXML");
    };
    let mut retained = archive.retained.lock();
    if retained.get(key).is_some_and(|before| before.as_str() > until) {
        return Reply::error(403, "AccessDenied");
    }
    retained.insert(key.to_owned(), until.to_owned());
    archive.versions.lock().extend(state.objects.lock().get(key).map(|bytes| (key.to_owned(), Arc::clone(bytes))));
    Reply(200, Vec::new(), Vec::new())
}

fn within<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    Some(text.split_once(&format!("<{tag}>"))?.1.split_once('<')?.0)
}
