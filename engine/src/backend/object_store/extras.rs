//! What a bucket can do that icecore does without, and that is good to know: tried out in a scratch place, as everything else is.

use super::Shared;
use super::answer::Answer;
use super::signed::{Ask, Told};
use crate::backend::store::Request;
use crate::backend::{Ability, BucketKind, Found, Need, ObjectName};
use crate::error::Result;
use object_store::signer::Method;
use object_store::{ObjectStoreExt, PutPayload};

/// How one kind of store names what objects cost.
struct Classes {
    /// The header that says it, both ways.
    header: &'static str,
    /// Those that objects can be written to and deleted from at once, cheaper than usual.
    names: &'static [&'static str],
}

const S3_CLASSES: Classes = Classes {
    header: "x-amz-storage-class",
    names: &["STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"],
};
const AZURE_CLASSES: Classes = Classes { header: "x-ms-access-tier", names: &["Cool", "Cold", "Archive"] };
const GOOGLE_CLASSES: Classes = Classes { header: "x-goog-storage-class", names: &["NEARLINE", "COLDLINE", "ARCHIVE"] };

impl Shared {
    /// Tries it out with an object of this name, which nobody has, and which is deleted again.
    pub(super) fn extras(&self, name: &ObjectName) -> Vec<Ability> {
        // Nothing needs these: where one of them cannot be found out, that is all there is to say.
        let tell = |name, purpose, found: Result<Found>| {
            let found = found.unwrap_or_else(|error| Found::Unknown(error.to_string()));
            Ability { name, purpose, need: Need::May, found }
        };
        vec![
            tell(
                "conditional delete",
                "an object is deleted only if it is still the same; icecore's objects never change",
                self.conditional_delete(name),
            ),
            tell("object lock", "the store keeps objects from being deleted before their time", Ok(self.object_lock())),
            tell("storage classes", "what is seldom read costs less", self.storage_classes(name)),
        ]
    }

    fn tell(&self, request: Request, ask: &Ask<'_>) -> std::result::Result<Told, Answer> {
        self.driver.ask(request, ask.body.len(), || self.signed.send(ask))
    }

    fn conditional_delete(&self, name: &ObjectName) -> Result<Found> {
        self.put(name, &PutPayload::from_static(b"not to be deleted"), true)?;
        // Of no object.
        let condition = match self.address.kind {
            BucketKind::S3 | BucketKind::Azure => ("if-match", "\"1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c\""),
            BucketKind::Google => ("x-goog-if-generation-match", "1"),
        };
        let told =
            self.tell(Request::Delete, &Ask { method: Method::DELETE, path: self.path(name), headers: &[condition], ..Ask::default() });
        let is_there = self.find(name)?.is_some();
        Ok(match told {
            Err(Answer::Exists { .. }) if is_there => Found::Yes(None),
            Ok(_) | Err(Answer::Exists { .. }) => Found::No("the condition is passed over".to_owned()),
            Err(answer) => of_refusal(answer),
        })
    }

    fn object_lock(&self) -> Found {
        if self.address.kind != BucketKind::S3 {
            return Found::Unknown("icecore finds it out of S3 only; look at the properties of the bucket".to_owned());
        }
        let told = self.tell(Request::Get, &Ask { query: &[("object-lock", "")], ..Ask::default() });
        match told.map(|told| told.text()) {
            Ok(text) if within(&text, "ObjectLockEnabled") == Some("Enabled") => Found::Yes(Some(match within(&text, "Mode") {
                None => "no retention by default".to_owned(),
                Some(mode) => match (within(&text, "Days"), within(&text, "Years")) {
                    (Some(days), _) => format!("{mode} for {days} days by default"),
                    (None, years) => format!("{mode} for {} years by default", years.unwrap_or("some")),
                },
            })),
            Ok(_) | Err(Answer::Missing) => Found::No("it is not switched on for this bucket".to_owned()),
            Err(answer) => of_refusal(answer),
        }
    }

    fn storage_classes(&self, name: &ObjectName) -> Result<Found> {
        let classes = match self.address.kind {
            BucketKind::S3 => S3_CLASSES,
            BucketKind::Azure => AZURE_CLASSES,
            BucketKind::Google => GOOGLE_CLASSES,
        };
        let (path, mut accepted, mut refusal) = (self.path(name), Vec::new(), None);
        for class in classes.names {
            let mut headers = vec![(classes.header, *class)];
            if self.address.kind == BucketKind::Azure {
                headers.push(("x-ms-blob-type", "BlockBlob"));
            }
            let put = Ask { method: Method::PUT, path: path.clone(), headers: &headers, body: b"cold", ..Ask::default() };
            match self.tell(Request::Put, &put) {
                Ok(_) => {
                    let head = Ask { method: Method::HEAD, path: path.clone(), ..Ask::default() };
                    let told = self.tell(Request::Head, &head).map_err(|answer| answer.error(name))?;
                    // Others take it, and no notice of it.
                    accepted.extend((told.header(classes.header) == Some(*class)).then_some(*class));
                    let deleted = self.driver.ask(Request::Delete, 0, || async { self.store.delete(&path).await });
                    deleted.map_err(|answer| answer.error(name))?;
                }
                Err(answer) => refusal = Some(answer),
            }
        }
        Ok(match (accepted.is_empty(), refusal) {
            (false, _) => Found::Yes(Some(accepted.join(", "))),
            (true, None) => Found::No("the store has only its usual one".to_owned()),
            (true, Some(answer)) => of_refusal(answer),
        })
    }
}

fn of_refusal(answer: Answer) -> Found {
    match answer {
        Answer::NotImplemented(_) => Found::No("the store does not know it".to_owned()),
        Answer::Refused(why) => Found::Unknown(why),
        other => Found::Unknown(format!("{other:?}")),
    }
}

/// What stands in the first element of this name.
fn within<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(&format!("<{name}>"))?.1.split_once('<').map(|(inner, _)| inner)
}
