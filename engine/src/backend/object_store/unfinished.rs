//! Uploads in parts that nobody will finish: those of a client that was killed. Their parts are in no listing of objects, and are paid for.
//!
//! A pack that was not finished is never gone on with: its frames are sealed anew by the next backup, under another name.

use super::Shared;
use super::signed::Ask;
use crate::backend::store::Request;
use crate::backend::{BucketKind, ObjectName};
use crate::runtime::Timestamp;
use std::time::Duration;

/// Takes back those that were begun at least `age` ago, a page of them at most; the next call finds the others.
pub(super) fn clear(shared: &Shared, age: Duration) -> u64 {
    // Azure forgets parts after a week, and lists none.
    if shared.address.kind == BucketKind::Azure {
        return 0;
    }
    let prefix = match shared.address.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let ask = Ask { query: &[("uploads", ""), ("prefix", &prefix)], ..Ask::default() };
    let Some(told) = shared.driver.ask_once(Request::List, shared.signed.send(&ask)) else { return 0 };
    let now = shared.driver.runtime.clock.now();
    let seconds = now.seconds.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let limit = Timestamp { seconds, ..now };
    let old = begun_before(&told.text(), limit).into_iter().filter_map(|(key, id)| {
        let name = ObjectName::parse(key.strip_prefix(&prefix)?).ok()?;
        Some((shared.path(&name), id))
    });
    let cleared = old.filter(|(path, id)| {
        let abort = async { shared.store.abort_multipart(path, id).await };
        shared.driver.ask_once(Request::Delete, abort).is_some()
    });
    cleared.count() as u64
}

/// Key and id of each upload of a listing that was begun before.
fn begun_before(listing: &str, limit: Timestamp) -> Vec<(String, String)> {
    // `2026-11-28 22:55:39 UTC`, and in listings `2026-11-28T22:55:39.000Z`: to the second they are ordered as text is.
    let limit = limit.to_string().replacen(' ', "T", 1);
    let uploads = listing.split("<Upload>").skip(1).filter_map(|upload| {
        let within = |name: &str| upload.split_once(&format!("<{name}>"))?.1.split_once('<').map(|(text, _)| text);
        let begun = within("Initiated")?;
        let is_old = begun.get(..19)? <= limit.get(..19)?;
        is_old.then_some((within("Key")?.replace("&amp;", "&"), within("UploadId")?.replace("&amp;", "&")))
    });
    uploads.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_ones_are_taken() {
        let upload = |key, begun| format!("<Upload><Initiated>{begun}</Initiated><Key>{key}</Key><UploadId>of-{key}</UploadId></Upload>");
        let listing =
            [("old", "1970-01-01T23:59:59.000Z"), ("same", "1970-01-02T00:00:00Z"), ("new", "1970-01-02T00:00:01.000Z"), ("odd", "?")]
                .map(|(key, begun)| upload(key, begun))
                .concat();
        let found = begun_before(&listing, Timestamp { seconds: 86_400, nanoseconds: 0 });
        assert_eq!(found, [("old".to_owned(), "of-old".to_owned()), ("same".to_owned(), "of-same".to_owned())]);
    }
}
