//! Object lock of S3: what is kept until a date cannot be deleted before, whoever asks.

use super::signed::Ask;
use super::{Answer, ObjectStoreBackend};
use crate::backend::store::Request;
use crate::backend::{ObjectName, Retain};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use object_store::signer::Method;

impl Retain for ObjectStoreBackend {
    fn is_enabled(&self) -> Result<bool> {
        if let Some(known) = self.has_lock.get() {
            return Ok(*known);
        }
        let query = [("object-lock", "")];
        let has_lock = match self.shared.ask(Request::Get, &Ask { method: Method::GET, query: &query, ..Ask::default() }) {
            Ok(told) => told.text().contains("<ObjectLockEnabled>Enabled</ObjectLockEnabled>"),
            // Those that do not know the question have none.
            Err(Answer::Missing | Answer::NotImplemented(_)) => false,
            Err(Answer::Refused(why)) if why.contains("AccessDenied") => {
                let message = format!(
                    "whether the bucket has object lock, and would keep what is locked, is not to be known: {why}. Give these credentials the right \
                     to ask (s3:GetBucketObjectLockConfiguration) and to keep (s3:GetObjectRetention, s3:PutObjectRetention)"
                );
                return Err(Error::new(ErrorKind::Unauthorized, message));
            }
            Err(answer) => return Err(answer.error("asking whether the bucket has object lock")),
        };
        Ok(*self.has_lock.get_or_init(|| has_lock))
    }

    fn retain(&self, name: &ObjectName, until: Timestamp) -> Result<()> {
        let until = rfc3339(until);
        let told = self.shared.head(name)?;
        // All in one form, so they compare as text does.
        let is_compliance = told.header("x-amz-object-lock-mode") == Some("COMPLIANCE");
        if is_compliance && told.header("x-amz-object-lock-retain-until-date").is_some_and(|known| known.get(..19) >= until.get(..19)) {
            return Ok(());
        }
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
        let (query, headers) = ([("retention", "")], [("content-md5", digest.as_str())]);
        let path = self.shared.path(name);
        let ask = Ask { method: Method::PUT, path, query: &query, headers: &headers, body: body.as_bytes() };
        self.shared.ask(Request::Put, &ask).map(drop).map_err(|answer| answer.error(format!("{name}: keeping it until {until}")))
    }
}

/// As the store wants it, rounded up to whole seconds: `2026-11-28T22:55:39Z`.
fn rfc3339(time: Timestamp) -> String {
    let whole = Timestamp { seconds: time.seconds.saturating_add(i64::from(time.nanoseconds > 0)), nanoseconds: 0 };
    whole.to_string().replacen(' ', "T", 1).replacen(" UTC", "Z", 1)
}
