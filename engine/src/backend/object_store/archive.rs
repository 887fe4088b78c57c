//! Storage classes of S3, and thawing what lies in those that are archives.
//!
//! ```text
//! write ─▶ read back ─▶ copied in its place into the tier's class (freeze) ─▶ RestoreObject (thaw) ─▶ HEAD, now and then (frost)
//! ```
//! So what was not read back never freezes. A bucket with versions keeps the one before the copy until its own rules remove it.

use super::answer::Answer;
use super::signed::{Ask, Told};
use super::{ObjectStoreBackend, Shared};
use crate::backend::store::Request;
use crate::backend::{ArchiveClass, Frost, ObjectName, Thaw};
use crate::error::{Error, ErrorKind, Result};
use object_store::signer::Method;
use std::fmt::Write;

impl Shared {
    /// One request of our own making.
    pub(super) fn ask(&self, request: Request, ask: &Ask<'_>) -> std::result::Result<Told, Answer> {
        self.driver.ask(request, ask.body.len(), || self.signed.send(ask))
    }

    /// What the store says of an object.
    pub(super) fn head(&self, name: &ObjectName) -> Result<Told> {
        let ask = Ask { method: Method::HEAD, path: self.path(name), ..Ask::default() };
        self.ask(Request::Head, &ask).map_err(|answer| answer.error(name))
    }
}

impl Thaw for ObjectStoreBackend {
    fn frost(&self, name: &ObjectName) -> Result<Frost> {
        let told = self.shared.head(name)?;
        if told.header(CLASS).and_then(ArchiveClass::of).is_none() {
            return Ok(Frost::Warm);
        }
        Ok(match told.header("x-amz-restore") {
            None => Frost::Frozen,
            Some(text) if text.contains("ongoing-request=\"true\"") => Frost::Thawing,
            Some(_) => Frost::Thawed(None),
        })
    }

    fn freeze(&self, name: &ObjectName) -> Result<()> {
        let (shared, class) = (&self.shared, self.storage_class.as_str());
        if shared.head(name)?.header(CLASS) == Some(class) {
            return Ok(());
        }
        let path = shared.path(name);
        let source = escaped(&format!("/{}/{path}", shared.address.bucket));
        let headers = [("x-amz-copy-source", source.as_str()), (CLASS, class)];
        let ask = Ask { method: Method::PUT, path, headers: &headers, ..Ask::default() };
        let told = shared.ask(Request::Put, &ask).map_err(|answer| answer.error(format!("{name}: putting it into class {class}")))?;
        // The answer begins before the work is done, so that a failure can stand in it all the same.
        match told.text().contains("<Error>") {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, format!("{name}: the store did not put it into class {class}; run it again"))),
        }
    }

    fn thaw(&self, name: &ObjectName, class: &str, days: u32) -> Result<()> {
        let ways = ArchiveClass::of(&self.storage_class).map(|archive| archive.ways).unwrap_or_default();
        if !ways.iter().any(|(way, _)| *way == class) {
            return Err(Error::new(ErrorKind::Invalid, format!("class {} does not thaw by `{class}`", self.storage_class)));
        }
        // As S3 calls it: with a capital.
        let (first, rest) = class.split_at(1);
        let body = format!(
            "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{days}</Days>\
             <GlacierJobParameters><Tier>{}{rest}</Tier></GlacierJobParameters></RestoreRequest>",
            first.to_ascii_uppercase()
        );
        let (path, query) = (self.shared.path(name), [("restore", "")]);
        let ask = Ask { method: Method::POST, path, query: &query, body: body.as_bytes(), ..Ask::default() };
        match self.shared.ask(Request::Put, &ask) {
            Ok(_) => Ok(()),
            // Somebody else, or an earlier try, asked for it.
            Err(_) if self.frost(name)? != Frost::Frozen => Ok(()),
            Err(answer) => Err(answer.error(format!("{name}: asking for it by `{class}`"))),
        }
    }
}

const CLASS: &str = "x-amz-storage-class";

/// For a header that holds an address.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => escaped.push(char::from(byte)),
            // Writing into a string does not fail.
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
        escaped
    })
}
