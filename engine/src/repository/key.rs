//! What a person opens a repository with: a passphrase, a key file, or what an external command says.

use crate::crypto::{PassphraseCost, Secret, derive, seed_from_passphrase};
use crate::error::{Error, ErrorKind, Result};
use crate::format::slot::SlotKind;
use crate::id::{from_hex, to_hex};
use crate::runtime::{Pool, Runtime};
use std::fmt;
use zeroize::Zeroizing;

const KEY_FILE_PREFIX: &str = "icecore-key-1:";
const CHECK_DIGITS: usize = 8;

/// A passphrase, a key file, or what an external command says.
#[derive(Clone)]
pub enum Key {
    /// A passphrase, stretched by Argon2id when used.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The seed from a key file; it opens a recipient's slots too.
    KeyFile(Secret),
    /// The seed that an external command prints, say after asking a key service to decrypt it.
    Command(Secret),
}

impl Key {
    /// From passphrase bytes as they were typed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty one.
    pub fn passphrase(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = Zeroizing::new(bytes.into());
        match bytes.is_empty() {
            true => Err(Error::new(ErrorKind::Invalid, "the passphrase is empty")),
            false => Ok(Self::Passphrase(bytes)),
        }
    }

    /// From the content of a passphrase file: all of it but one line end at its end.
    ///
    /// # Errors
    /// As [`Key::passphrase`].
    pub fn passphrase_from_file(content: &[u8]) -> Result<Self> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        Self::passphrase(content.strip_suffix(b"\r").unwrap_or(content))
    }

    /// From the text of a key file.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is none, or was copied wrongly.
    pub fn from_key_file(text: &str) -> Result<Self> {
        seed_of_line(text).map(Self::KeyFile).ok_or_else(|| {
            let message = match is_line_of_key(text) {
                true => {
                    "the line is that of a key file, and a digit of it is wrong: the last eight, which check the others, differ; compare it with the copy"
                }
                false => "this is no icecore key file, or it was copied wrongly (a line `icecore-key-1:...` of 87 characters is expected)",
            };
            Error::new(ErrorKind::Invalid, message)
        })
    }

    /// From what an external command printed: the line of a key file, or 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is neither.
    pub fn from_command_output(text: &str) -> Result<Self> {
        seed_of_line(text).or_else(|| seed_of_digits(text.trim())).map(Self::Command).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "the command printed no key (a line `icecore-key-1:...` or 64 lower-case hex digits are expected)",
            )
        })
    }

    /// A new random key file's seed.
    pub fn generate(runtime: &Runtime) -> Self {
        Self::KeyFile(Secret::new(runtime.random()))
    }

    /// The text of a key file; `None` for everything else.
    pub fn to_key_file(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Passphrase(_) | Self::Command(_) => None,
            Self::KeyFile(seed) => {
                let digits = Zeroizing::new(to_hex(seed.bytes()));
                let pieces = [KEY_FILE_PREFIX, &digits, ":", &check_digits(seed), "\n"];
                Some(Zeroizing::new(pieces.concat()))
            }
        }
    }

    /// The kind of slot that this opens, with a fresh salt.
    pub(crate) fn slot_kind(&self, cost: PassphraseCost, runtime: &Runtime) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase { salt: runtime.random(), cost },
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::Command(_) => SlotKind::Command,
        }
    }

    /// The seed for a slot of this kind; `None` where the kinds differ.
    pub(crate) fn seed_for(&self, kind: &SlotKind, runtime: &Runtime) -> Result<Option<Secret>> {
        match (self, kind) {
            (Self::Passphrase(passphrase), SlotKind::Passphrase { salt, cost }) => {
                // Each lane is work for one thread.
                let workers = Pool::start_with(&runtime.executor, runtime.executor.threads().min(cost.lanes as usize))?;
                workers.run(|| seed_from_passphrase(passphrase, salt, *cost)).map(Some)
            }
            (Self::KeyFile(seed), SlotKind::KeyFile) | (Self::Command(seed), SlotKind::Command) => Ok(Some(seed.clone())),
            (Self::KeyFile(seed), SlotKind::Recipient) => Ok(Some(recipient_seed(seed))),
            _ => Ok(None),
        }
    }
}

/// The seed of a key file's recipient. Another one than the key file's own: the public key in a slot for the key file, which proves who made it, is
/// seen by everybody, and must not open a slot that proves nothing.
pub(super) fn recipient_seed(seed: &Secret) -> Secret {
    derive("icecore 1 recipient seed", &[seed.bytes()])
}

fn seed_of_line(text: &str) -> Option<Secret> {
    let (seed, check) = text.trim().strip_prefix(KEY_FILE_PREFIX)?.split_once(':')?;
    let seed = seed_of_digits(seed)?;
    (check_digits(&seed) == check).then_some(seed)
}

fn seed_of_digits(digits: &str) -> Option<Secret> {
    Secret::from_slice(&Zeroizing::new(from_hex(digits)?))
}

/// Whether a text has the form of a key file's line, whatever its check digits say.
fn is_line_of_key(text: &str) -> bool {
    let parts = text.trim().strip_prefix(KEY_FILE_PREFIX).and_then(|rest| rest.split_once(':'));
    parts.is_some_and(|(seed, check)| seed_of_digits(seed).is_some() && check.len() == CHECK_DIGITS && from_hex(check).is_some())
}

fn check_digits(seed: &Secret) -> String {
    to_hex(derive("icecore 1 key file", &[seed.bytes()]).bytes())[..CHECK_DIGITS].to_owned()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Key::Passphrase",
            Self::KeyFile(_) => "Key::KeyFile",
            Self::Command(_) => "Key::Command",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_read_back_and_notice_a_wrong_digit() {
        let text = Key::KeyFile(Secret::new([7; 32])).to_key_file().unwrap();
        assert!(matches!(Key::from_key_file(&format!("  {}\r\n", text.trim())), Ok(Key::KeyFile(seed)) if seed.bytes() == &[7; 32]));
        for wrong in [text.replacen("0707", "0708", 1), text.trim().replacen(&text.trim()[79..], "00000000", 1)] {
            assert!(Key::from_key_file(&wrong).unwrap_err().to_string().contains("check the others"), "{wrong}");
        }
        assert!(!Key::from_key_file(&text[..60]).unwrap_err().to_string().contains("check the others"));
        assert!(Key::from_key_file("secret").is_err());
    }

    #[test]
    fn one_line_end_is_no_part_of_a_passphrase() {
        for (content, passphrase) in [(&b"ab\n"[..], &b"ab"[..]), (b"ab\r\n", b"ab"), (b"ab\n\n", b"ab\n"), (b"ab ", b"ab ")] {
            assert!(matches!(Key::passphrase_from_file(content).unwrap(), Key::Passphrase(p) if p[..] == *passphrase));
        }
        assert!(Key::passphrase_from_file(b"\n").is_err());
    }
}
