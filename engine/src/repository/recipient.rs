//! Recipients: the public half of a key file, as text. Who has only this can be given a way in, and gives away nothing by sending it.

use super::Key;
use super::key::recipient_seed;
use crate::crypto::{PUBLIC_KEY_LENGTH, derive, public_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{from_hex, to_hex};
use std::fmt;

const PREFIX: &str = "icecore-recipient-1:";
const CHECK_DIGITS: usize = 8;

/// Somebody to whom a credential can be sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(pub(crate) Box<[u8; PUBLIC_KEY_LENGTH]>);

impl Recipient {
    /// The recipient who opens slots with this key; `None` for a passphrase or command.
    pub fn of_key(key: &Key) -> Option<Self> {
        match key {
            Key::KeyFile(seed) => Some(Self(public_key_of(&recipient_seed(seed)))),
            Key::Passphrase(_) | Key::Command(_) => None,
        }
    }

    /// From text, white space around it ignored.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is none, or was copied wrongly.
    pub fn parse(text: &str) -> Result<Self> {
        let parse = || {
            let (key, check) = text.trim().strip_prefix(PREFIX)?.split_once(':')?;
            let recipient = Self(Box::new(from_hex(key)?.try_into().ok()?));
            (recipient.check_digits() == check).then_some(recipient)
        };
        let message = "this is no icecore recipient, or it was copied wrongly (a line `icecore-recipient-1:...` is expected)";
        parse().ok_or_else(|| Error::new(ErrorKind::Invalid, message))
    }

    /// Whether `text` is meant to be one.
    pub fn is_meant_by(text: &str) -> bool {
        text.trim_start().starts_with(PREFIX)
    }

    fn check_digits(&self) -> String {
        to_hex(derive("icecore 1 recipient", &[&self.0[..]]).bytes())[..CHECK_DIGITS].to_owned()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{}", to_hex(&self.0[..]), self.check_digits())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.check_digits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;

    #[test]
    fn text_reads_back_and_notices_a_wrong_digit() {
        let recipient = Recipient::of_key(&Key::KeyFile(Secret::new([7; 32]))).unwrap();
        let text = recipient.to_string();
        assert_eq!(Recipient::parse(&format!(" {text}\r\n")).unwrap(), recipient);
        let digit = text.len() - 100;
        let other = if &text[digit..=digit] == "0" { "1" } else { "0" };
        assert!(Recipient::parse(&[&text[..digit], other, &text[digit + 1..]].concat()).is_err());
        assert!(Recipient::parse("icecore-key-1:").is_err());
        assert!(Recipient::of_key(&Key::passphrase("x").unwrap()).is_none());
    }
}
