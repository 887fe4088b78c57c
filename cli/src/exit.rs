//! Exit codes: one table from what happened to what the shell sees.

use icecore::ErrorKind;
use std::fmt;

/// Some request or argument makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Finished, but items were skipped or failed.
pub(crate) const ITEMS_FAILED: u8 = 3;
/// What is wanted has to thaw first, or its medium has to be plugged in.
pub(crate) const FROZEN: u8 = 15;
/// Damage was found.
pub(crate) const DAMAGE: u8 = 14;
/// Interrupted.
pub(crate) const INTERRUPTED: u8 = 130;
/// Anything else that failed.
const FAILED: u8 = 1;

/// Exit code and name in JSON of each kind of error, with what to do where messages do not say it themselves.
const KINDS: [(ErrorKind, u8, &str, Option<&str>); 13] = [
    (ErrorKind::NoRepository, 10, "no_repository", None),
    (ErrorKind::NotFound, FAILED, "not_found", None),
    (ErrorKind::AlreadyExists, FAILED, "already_exists", None),
    (ErrorKind::Invalid, USAGE, "invalid", None),
    (ErrorKind::Unauthorized, 12, "unauthorized", None),
    (ErrorKind::Busy, FAILED, "busy", None),
    (ErrorKind::Frozen, FROZEN, "frozen", None),
    (ErrorKind::Held, 13, "held", None),
    (ErrorKind::Unavailable, FAILED, "unavailable", None),
    (ErrorKind::Damaged, DAMAGE, "damaged", Some(DAMAGED)),
    (ErrorKind::Unsupported, FAILED, "unsupported", None),
    (ErrorKind::Cancelled, INTERRUPTED, "cancelled", None),
    (ErrorKind::Internal, FAILED, "internal", Some("this is a fault of icecore; please report it with the command that you ran")),
];

/// What to do about damage.
pub(crate) const DAMAGED: &str = "`icecore check` and `icecore scrub` (with --keyless where nothing can be opened) list what is damaged and which \
                                  files it concerns, `icecore repair` what can be done";

/// How a command ended that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it worked.
    Done,
    /// Items were skipped or failed.
    ItemsFailed,
    /// Some of it has to thaw first, or its medium has to be plugged in.
    Frozen,
    /// Damage was found.
    DamageFound,
}

impl Outcome {
    /// [`Outcome::ItemsFailed`] where there are such items.
    pub(crate) fn of_items_failed(count: u64) -> Self {
        if count == 0 { Self::Done } else { Self::ItemsFailed }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::ItemsFailed => ITEMS_FAILED,
            Self::Frozen => FROZEN,
            Self::DamageFound => DAMAGE,
        }
    }
}

/// A request that makes no sense, found after the arguments were parsed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Makes a usage error.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Exit code, name of the kind in JSON, and what to do.
pub(crate) fn of_error(error: &anyhow::Error) -> (u8, &'static str, Option<&'static str>) {
    if error.downcast_ref::<Usage>().is_some() {
        return (USAGE, "usage", None);
    }
    let kind = error.downcast_ref::<icecore::Error>().map(icecore::Error::kind);
    let known = KINDS.iter().find(|(of, ..)| Some(*of) == kind);
    known.map_or((FAILED, "failed", None), |(_, code, name, advice)| (*code, name, *advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let source = include_str!("../../engine/src/error.rs");
        let kinds = source.split_once("pub enum ErrorKind {").and_then(|(_, rest)| rest.split_once('}')).map(|(kinds, _)| kinds).unwrap();
        let names: Vec<_> = kinds.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
        assert_eq!(names, KINDS.map(|(kind, ..)| format!("{kind:?}")));
    }

    #[test]
    fn the_contract_holds() {
        let code = |kind| of_error(&icecore::Error::new(kind, "").into()).0;
        let kinds =
            [ErrorKind::NoRepository, ErrorKind::Unauthorized, ErrorKind::Damaged, ErrorKind::Cancelled, ErrorKind::Busy, ErrorKind::Held];
        assert_eq!(kinds.map(code), [10, 12, 14, 130, 1, 13]);
        assert_eq!(of_error(&usage("")).0, 2);
        assert_eq!(of_error(&anyhow::anyhow!("something else")).0, 1);
    }
}
