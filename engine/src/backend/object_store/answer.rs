//! What a store's answers mean: which may pass, which are final, and what people can do about those.
//!
//! The crate gives errors as text and a few kinds. Status and code (`<Code>SlowDown</Code>`) are taken from the text; the address of the
//! request, in which a signature may stand, is left out of messages.

use crate::error::{Error, ErrorKind};
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::fmt::Display;

/// Bytes of an answer that are shown to people.
const SHOWN_BYTES_MAX: usize = 300;

/// An answer that does not become another by asking again.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is no such object.
    Missing,
    /// There is such an object; after so many tries.
    Exists {
        /// One, if no earlier try can have made it.
        tries: u32,
    },
    /// The object ends before the range begins.
    OutOfRange,
    /// An upload in parts is not known (any more).
    NoUpload,
    /// The object lies in an archive class and has not thawed.
    Archived(String),
    /// The store does not know this kind of request.
    NotImplemented(String),
    /// Anything else; the message says what to do.
    Refused(String),
}

/// Whether asking again may help.
#[derive(Debug)]
pub(super) enum Verdict {
    /// No.
    Final(Answer),
    /// Yes.
    MayPass {
        /// What went wrong.
        why: String,
        /// It came from the store, not from the way there.
        is_answer: bool,
    },
}

/// Codes of what cannot be read before it has thawed.
const ARCHIVED: [&str; 2] = ["InvalidObjectState", "BlobArchived"];

/// What is done about codes of errors, which S3, Azure and Google have in common with those who copy them.
const ADVICE: [(&[&str], &str); 10] = [
    (
        &["InvalidAccessKeyId", "InvalidSecurity"],
        "the store does not know this access key; correct it (AWS_ACCESS_KEY_ID, or the profile in ~/.aws/credentials)",
    ),
    (
        &["SignatureDoesNotMatch", "AuthenticationFailed", "InvalidAuthenticationInfo"],
        "the secret key does not fit; correct it (AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY), and see that the region is right",
    ),
    (
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"],
        "the credentials have expired; get new ones and run it again: what was stored is found again, nothing is lost",
    ),
    (
        &["RequestTimeTooSkewed", "RequestInTheFuture"],
        "the clocks of this machine and of the store differ too much; set this machine's clock (see `timedatectl`) and run it again",
    ),
    (
        &["NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerBeingDeleted", "ContainerDisabled"],
        "there is no such bucket; correct its name or make it with the store's own tools",
    ),
    (
        &[
            "QuotaExceeded",
            "QuotaExceededException",
            "InsufficientStorage",
            "XMinioStorageFull",
            "StorageFull",
            "ServiceQuotaExceeded",
            "TooManyBuckets",
            "XMinioAdminBucketQuotaExceeded",
            "AccountQuotaExceeded",
            "BlobQuotaExceeded",
            "StorageLimitExceeded",
        ],
        "the store has no more room for this bucket; raise the quota or make room (`icecore forget`, then `icecore gc`), and run it again: \
         nothing is lost",
    ),
    (
        &["AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", "InvalidRegion"],
        "the bucket is in another region or at another endpoint; name it with --region or --endpoint",
    ),
    (
        &["AccessDenied", "AllAccessDisabled", "AccountProblem", "AuthorizationFailure", "AuthorizationPermissionMismatch", "Forbidden"],
        "these credentials may not do that; give them the right to list, read, write and delete below the repository's prefix",
    ),
    (&["GlacierExpeditedRetrievalNotAvailable"], "the store cannot thaw so fast now; take another way to thaw, or try it later"),
    (
        &["ObjectLocked", "InvalidRetention", "BlobImmutableDueToPolicy"],
        "the store keeps this object from being changed or deleted until its lock ends; run it again then",
    ),
];

impl Answer {
    /// As an error about `what`.
    pub(super) fn error(self, what: impl Display) -> Error {
        match self {
            Self::Missing => Error::new(ErrorKind::NotFound, format!("{what}: no such object")),
            Self::Exists { .. } => Error::new(ErrorKind::AlreadyExists, format!("{what}: exists already")),
            Self::OutOfRange => Error::new(ErrorKind::Damaged, format!("{what}: too short")),
            Self::NoUpload => {
                let message =
                    format!("{what}: the store gave up an upload that was under way, by a rule for unfinished ones perhaps; run it again");
                Error::new(ErrorKind::Unavailable, message)
            }
            Self::Archived(why) => {
                let advice = "it lies in an archive class of the store and must thaw first; what a lifecycle rule of the store moved there is \
                              brought back with the store's own tools, and the repository is left out of that rule";
                Error::new(ErrorKind::Frozen, format!("{what}: {why} ({advice})"))
            }
            Self::NotImplemented(why) => {
                let message = format!("{what}: {why} (the store does not know this kind of request; see that the endpoint is right)");
                Error::new(ErrorKind::Unavailable, message)
            }
            Self::Refused(why) => Error::new(ErrorKind::Unavailable, format!("{what}: {why}")),
        }
    }
}

impl Verdict {
    /// What an error of the crate means, after so many `tries`.
    pub(super) fn of(error: &object_store::Error, tries: u32) -> Self {
        use object_store::Error as E;
        let chain = chain(error);
        let text = chain.join(": ");
        let code = code(&text);
        if let Some(advice) = code.and_then(advice) {
            return Self::Final(Answer::Refused(format!("{} ({advice})", shown(&text))));
        }
        let may_pass = |is_answer| Self::MayPass { why: shown(&text), is_answer };
        match (error, code) {
            (_, Some(code)) if ARCHIVED.contains(&code) => return Self::Final(Answer::Archived(shown(&text))),
            (_, Some("NoSuchUpload" | "InvalidUploadId")) => return Self::Final(Answer::NoUpload),
            // Two clients wrote at once, and neither of them won; or the store is about to say so.
            (_, Some("ConditionalRequestConflict" | "OperationAborted" | "ConditionalRequestConflictException")) => return may_pass(true),
            (E::NotFound { .. }, _) => return Self::Final(Answer::Missing),
            (E::InvalidPath { .. }, _) => {
                let advice = "icecore writes no such key, and cannot list what is beside it; delete it with the store's own tools";
                return Self::Final(Answer::Refused(format!("{} ({advice})", shown(&text))));
            }
            (_, Some("NotImplemented" | "MethodNotAllowed")) => return Self::Final(Answer::NotImplemented(shown(&text))),
            (E::AlreadyExists { .. } | E::Precondition { .. }, _) => return Self::Final(Answer::Exists { tries }),
            (E::NotSupported { .. }, _) => return Self::Final(Answer::Refused(shown(&text))),
            (E::PermissionDenied { .. } | E::Unauthenticated { .. }, _) => {
                let advice = "see that the credentials are right, may use this bucket, and that this machine's clock is";
                return Self::Final(Answer::Refused(format!("{} ({advice})", shown(&text))));
            }
            _ => {}
        }
        let status = status(&text);
        match status {
            Some(416) => Self::Final(Answer::OutOfRange),
            Some(507) => {
                Self::Final(Answer::Refused(format!("{} (the store is full; make room and run it again: nothing is lost)", shown(&text))))
            }
            Some(501) => Self::Final(Answer::NotImplemented(shown(&text))),
            Some(408 | 425 | 429 | 500..) => may_pass(true),
            Some(_)
                if code.is_some_and(|code| {
                    matches!(code, "RequestTimeout" | "SlowDown" | "InternalError" | "ServerBusy" | "IncompleteBody" | "BadDigest")
                }) =>
            {
                may_pass(true)
            }
            Some(_) => Self::Final(Answer::Refused(shown(&text))),
            None => of_transport(error, &text),
        }
    }
}

/// What failed on the way.
fn of_transport(error: &object_store::Error, text: &str) -> Verdict {
    let refused = |advice: &str| Verdict::Final(Answer::Refused(format!("{} ({advice})", shown(text))));
    let lower = text.to_ascii_lowercase();
    if lower.contains("certificate") || lower.contains("unknownissuer") {
        return refused(
            "the store's certificate is not to be trusted: see that the endpoint and this machine's clock are right; \
             an authority of your own goes into the system's certificates, or into a file that SSL_CERT_FILE names",
        );
    }
    if lower.contains("corrupt message") || lower.contains("invalidcontenttype") {
        return refused("the endpoint does not speak TLS; write it with http:// if that is meant");
    }
    if text.contains("169.254.169.254") || lower.contains("metadata.google.internal") || text.contains("169.254.170.2") {
        return refused(
            "no credentials were given, and this machine has none of its own; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, \
             or what Azure and Google have instead",
        );
    }
    if text.contains(TOO_LATE) {
        return Verdict::MayPass { why: shown(text), is_answer: false };
    }
    if lower.contains("tls handshake eof") {
        // So does a store that is about to be started again.
        let why = format!("{} (if the endpoint speaks no TLS, write it with http://)", shown(text));
        return Verdict::MayPass { why, is_answer: false };
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(http) = at.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Decode => Verdict::MayPass { why: shown(text), is_answer: true },
                _ => Verdict::MayPass { why: shown(text), is_answer: false },
            };
        }
        cause = at.source();
    }
    match [CUT_SHORT, CONFLICT, "response"].iter().any(|sign| text.contains(sign)) {
        true => Verdict::MayPass { why: shown(text), is_answer: true },
        false => Verdict::Final(Answer::Refused(shown(text))),
    }
}

const CUT_SHORT: &str = "the answer was cut short";
/// As it is told.
pub(super) const TOO_LATE: &str = "it did not answer in time";
const CONFLICT: &str = "the store is at odds with another request";

/// The answer did not come, or did not go on.
pub(super) fn too_late() -> object_store::Error {
    object_store::Error::Generic { store: "store", source: TOO_LATE.into() }
}

/// Whether the store says that the name is taken.
pub(super) fn says_exists(error: &object_store::Error) -> bool {
    matches!(Verdict::of(error, 1), Verdict::Final(Answer::Exists { .. }))
}

/// What the store said of another conflict than that the name is taken: it may pass.
pub(super) fn conflict(error: &object_store::Error) -> object_store::Error {
    object_store::Error::Generic { store: "store", source: format!("{CONFLICT}: {}", shown(&chain(error).join(": "))).into() }
}

/// The answer ended before it should have.
pub(super) fn cut_short(found: u64, expected: u64) -> object_store::Error {
    object_store::Error::Generic { store: "store", source: format!("{CUT_SHORT}: {found} bytes of {expected}").into() }
}

/// The messages of an error and its causes, but for those that repeat what is below.
fn chain(error: &object_store::Error) -> Vec<String> {
    let mut messages = Vec::new();
    let mut at: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = at {
        messages.push(error.to_string());
        at = error.source();
    }
    // Each message has that of its cause at its end.
    (0..messages.len())
        .filter(|index| messages.get(index + 1).is_none_or(|below| !messages[*index].contains(below.as_str())))
        .map(|index| messages[index].clone())
        .collect()
}

/// The status of the answer.
fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The code of the answer: what stands in `<Code>`, or the reason in Google's JSON.
fn code(text: &str) -> Option<&str> {
    let within = |begin: &str, end: char| text.split_once(begin)?.1.split_once(end).map(|(code, _)| code);
    within("<Code>", '<').or_else(|| within("\"reason\": \"", '"')).filter(|code| code.bytes().all(|c| c.is_ascii_alphanumeric()))
}

fn advice(code: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(codes, _)| codes.contains(&code)).map(|(_, advice)| *advice)
}

/// What people see of an answer: status, code and message where it is one of XML, otherwise its beginning.
fn shown(text: &str) -> String {
    let within = |tag: &str| text.split_once(&format!("<{tag}>"))?.1.split_once('<').map(|(inner, _)| inner.trim());
    let told = match (status(text), code(text)) {
        (Some(status), Some(code)) => format!("the store answered {status} {code}: {}", within("Message").unwrap_or_default()),
        (Some(status), None) => format!("the store answered {status}"),
        (None, Some(code)) => format!("the store answered {code}: {}", within("Message").unwrap_or_default()),
        (None, None) => text.to_owned(),
    };
    // Addresses of requests may hold signatures, and answers come from outside.
    let words = told.split(' ').map(|word| word.split_once('?').filter(|_| word.contains("://")).map_or(word, |(before, _)| before));
    let clean: String = words.collect::<Vec<_>>().join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = clean.len().min(SHOWN_BYTES_MAX);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].trim_end_matches([' ', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: &str, body: &str) -> object_store::Error {
        let source = format!(
            "Error performing PUT http://h/b/k?X-Amz-Signature=secret in 3ms - Server returned non-2xx status code: {status}: {body}"
        );
        object_store::Error::Generic { store: "S3", source: source.into() }
    }

    fn body(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Please.</Message></Error>")
    }

    #[test]
    fn what_may_pass_is_told_from_what_is_final() {
        for (status, code) in [
            ("503 Service Unavailable", "SlowDown"),
            ("500 x", "InternalError"),
            ("400 x", "RequestTimeout"),
            ("409 x", "ConditionalRequestConflict"),
            ("429 x", "Unheard"),
        ] {
            assert!(matches!(Verdict::of(&answered(status, &body(code)), 1), Verdict::MayPass { is_answer: true, .. }), "{status} {code}");
        }
        for (status, code, hint) in [
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("400 Bad Request", "ExpiredToken", "expired"),
            ("403 Forbidden", "QuotaExceeded", "room"),
            ("404 Not Found", "NoSuchBucket", "no such bucket"),
            ("403 Forbidden", "InvalidAccessKeyId", "access key"),
            ("501 Not Implemented", "AccessDenied", "right to list"),
        ] {
            let Verdict::Final(Answer::Refused(message)) = Verdict::of(&answered(status, &body(code)), 1) else { panic!("{code}") };
            assert!(message.contains(hint) && message.contains(code), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn addresses_lose_their_signatures() {
        let text = "error sending request for url (https://a.blob/c/k?sig=secret&se=1) to it";
        assert_eq!(shown(text), "error sending request for url (https://a.blob/c/k to it");
    }
}
