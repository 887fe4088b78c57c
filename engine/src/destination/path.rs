//! Keys as paths: which ones are allowed, and how people read them.

use crate::error::{Error, ErrorKind, Result};

/// Refuses keys that could mean anything but a place below the target: empty components, `.`, `..`, and slashes.
/// A component cannot hold a zero byte, since that is what parts components.
pub(super) fn check(key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Ok(());
    }
    for component in key.split(|&byte| byte == 0) {
        let wrong = match component {
            b"" => "an empty component",
            b"." | b".." => "a component that is no name",
            _ if component.contains(&b'/') => "a component with a slash",
            _ => continue,
        };
        return Err(Error::new(ErrorKind::Damaged, format!("this key has {wrong}; it is not restored")));
    }
    Ok(())
}

/// Splits a key into the folder's key and the name in it; `None` for the root.
pub(super) fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    match key.iter().rposition(|&byte| byte == 0) {
        _ if key.is_empty() => None,
        None => Some((&[], key)),
        Some(at) => Some((&key[..at], &key[at + 1..])),
    }
}

/// A key for messages: components joined by slashes, bytes that are not UTF-8 replaced.
pub(super) fn shown(key: &[u8]) -> String {
    match key {
        b"" => ".".to_owned(),
        _ => String::from_utf8_lossy(key).replace('\0', "/"),
    }
}
