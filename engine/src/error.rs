//! The one public error type.
//!
//! A kind says what the caller should do; the message says what happened, with names, expected and found.
//! Messages are for people and are not API. Modules below may use narrower errors of their own; they become
//! [`Error`] at the first public function on the way out.

use std::fmt;
use std::sync::Arc;

/// Shorthand for a result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository here: create one, or correct the place.
    NoRepository,
    /// A named thing (object, snapshot, path) does not exist: correct the name.
    NotFound,
    /// Something of this name exists already: choose another name.
    AlreadyExists,
    /// The request or a setting makes no sense: correct it.
    Invalid,
    /// Wrong passphrase or key, or a credential that may not do this: use another credential.
    Unauthorized,
    /// Another session has to end first: try again later.
    Busy,
    /// What is wanted lies where it cannot be read at once: thaw it, or plug in the medium that the message names.
    Frozen,
    /// A snapshot is held, so it must not go: leave it, wait for the end of its lock, or release its legal hold.
    Held,
    /// The backend or the file system did not answer or refused: try again, or mend the machine.
    Unavailable,
    /// Stored bytes do not match their hash, seal, signature or rules: run check and scrub.
    Damaged,
    /// Written by a newer release or with a feature that this one lacks: upgrade.
    Unsupported,
    /// The caller asked to stop.
    Cancelled,
    /// A fault of this program: please report it.
    Internal,
}

/// A tier from which nothing can be read at the moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TierWait {
    /// Its name.
    pub tier: String,
    /// What to do, as a sentence.
    pub advice: String,
}

/// An error with its [`ErrorKind`], a message for people, and where the format is concerned the rule that was broken.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    rule: Option<&'static str>,
    tier: Option<Arc<TierWait>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), rule: None, tier: None, source: None }
    }

    /// Makes a [`ErrorKind::Damaged`] error that names the rule of the format specification that is broken.
    pub fn rule(rule: &'static str, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Damaged, message: message.into(), rule: Some(rule), tier: None, source: None }
    }

    /// Makes a [`ErrorKind::Unsupported`] error that names the rule which refused the unknown feature.
    pub fn unsupported(rule: &'static str, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unsupported, message: message.into(), rule: Some(rule), tier: None, source: None }
    }

    /// Makes an [`ErrorKind::Unavailable`] (or `NotFound`, `AlreadyExists`) error from an I/O error.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            _ => ErrorKind::Unavailable,
        };
        Self { kind, message: format!("{what}: {source}"), rule: None, tier: None, source: Some(Box::new(source)) }
    }

    /// Puts `context` (an object name, a path) before the message, unless it begins with that already.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        let context = format!("{context}: ");
        if !self.message.starts_with(&context) {
            self.message.insert_str(0, &context);
        }
        self
    }

    /// Changes the kind, keeping message and source.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Says for which tier it has to be waited.
    #[must_use]
    pub(crate) fn in_tier(mut self, wait: TierWait) -> Self {
        self.tier = Some(Arc::new(wait));
        self
    }

    /// Of [`ErrorKind::Frozen`], for which tier it has to be waited, where it is one.
    pub fn tier(&self) -> Option<&Arc<TierWait>> {
        self.tier.as_ref()
    }

    /// The kind: what to do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a file system, or a quota on it, is full.
    pub(crate) fn is_full(&self) -> bool {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|error| matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }

    /// Whether an object was refused for who wrote it, although its bytes are whole: it is ignored as if it were not there.
    pub(crate) fn is_refusal(&self) -> bool {
        self.rule.is_some_and(|rule| rule.starts_with("CERT-") || matches!(rule, "OBJ-9" | "OBJ-10"))
    }

    /// The rule of the format specification that the bytes break, for example `PACK-3`.
    pub fn broken_rule(&self) -> Option<&'static str> {
        self.rule
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.rule {
            Some(rule) => write!(f, " (format rule {rule})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_put_before_a_message_once() {
        let error = Error::new(ErrorKind::Unavailable, "it may not be read").context("packs/ab").context("packs/ab");
        assert_eq!(error.to_string(), "packs/ab: it may not be read");
        assert_eq!(error.context("check").to_string(), "check: packs/ab: it may not be read");
    }
}
