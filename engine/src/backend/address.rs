//! Where a repository is, as people write it.
//!
//! ```text
//! /mnt/disk/backups              a folder
//! s3://bucket/prefix             S3, and what speaks it
//! az://container/prefix          Azure Blob Storage
//! gs://bucket/prefix             Google Cloud Storage
//! sftp://user@host:port/path     a folder of another machine; `/~/path` counts from the user's home folder
//! ```
//!
//! An address holds no secret, so it can be shown and logged.

use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How addresses begin that other backup tools know and this one does not: they are not taken for folders.
const FOREIGN: [&str; 8] = ["ssh:", "http:", "https:", "rest:", "b2:", "azure:", "rclone:", "file:"];

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket(BucketAddress),
    /// A folder of another machine, by SFTP.
    Sftp(SftpAddress),
}

/// Which protocol a bucket is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// S3, and what speaks it.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Google,
}

/// A part of a bucket (in Azure, of a container).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    /// The protocol.
    pub kind: BucketKind,
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

/// A folder of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpAddress {
    /// Who logs in; `None` for what the ssh configuration says.
    pub user: Option<String>,
    /// The machine, or its name in the ssh configuration.
    pub host: String,
    /// The port; `None` for what the ssh configuration says.
    pub port: Option<u16>,
    /// The folder; one that is not absolute counts from the user's home folder.
    pub path: String,
}

impl BucketKind {
    const ALL: [Self; 3] = [Self::S3, Self::Azure, Self::Google];

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
            Self::Google => "gs",
        }
    }
}

impl Address {
    /// Reads an address. What has no known scheme is a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for the address of a kind of store that icecore does not know, [`ErrorKind::Invalid`] where a part is
    /// missing, makes no sense, or is a secret.
    pub fn parse(text: &OsStr) -> Result<Self> {
        if let Some(scheme) = FOREIGN.into_iter().find(|scheme| text.as_bytes().starts_with(scheme.as_bytes())) {
            let text = text.display();
            let message = format!(
                "{text}: `{scheme}` is no kind of place that icecore knows; it knows folders, s3://, az://, gs:// and sftp:// \
                 (a folder of that name: `./{text}`)"
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if let Some((kind, rest)) = BucketKind::ALL.into_iter().find_map(|kind| Some((kind, after_scheme(text, kind.scheme())?))) {
            return BucketAddress::parse(kind, rest?).map(Self::Bucket);
        }
        match after_scheme(text, "sftp") {
            Some(rest) => SftpAddress::parse(rest?).map(Self::Sftp),
            None => Ok(Self::Folder(PathBuf::from(text))),
        }
    }

    /// Whether this is how the address of a store begins that is no folder, whatever follows.
    pub fn has_scheme(text: &OsStr) -> bool {
        let begins = |scheme: &str| text.as_bytes().strip_prefix(scheme.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
        let known = BucketKind::ALL.map(BucketKind::scheme);
        FOREIGN.iter().any(|scheme| text.as_bytes().starts_with(scheme.as_bytes())) || known.into_iter().chain(["sftp"]).any(begins)
    }

    /// The folder, where it is one of this machine.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(address) => address.fmt(f),
            Self::Sftp(address) => address.fmt(f),
        }
    }
}

impl BucketAddress {
    fn parse(kind: BucketKind, rest: &str) -> Result<Self> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        let refused = |why: &str| Err(invalid(format!("{}://{rest}: {why}", kind.scheme())));
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
        if bucket.is_empty() || !bucket.chars().all(is_letter) {
            return refused("name the bucket: letters, digits, `.`, `-` and `_`, then perhaps `/` and a prefix");
        }
        // Others read such keys as paths, and not all alike.
        if prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.contains("//") {
            return refused("a prefix has no empty parts and neither `.` nor `..`");
        }
        if prefix.chars().any(|c| !c.is_ascii_graphic() || r#"\{}^%`[]"<>~#|*?"#.contains(c)) {
            return refused(r##"a prefix has visible ASCII characters only, and none of \ { } ^ % ` [ ] " < > ~ # | * ?"##);
        }
        Ok(Self { kind, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl SftpAddress {
    fn parse(rest: &str) -> Result<Self> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, machine) = authority.rsplit_once('@').map_or((None, authority), |(user, machine)| (Some(user), machine));
        if user.is_some_and(|user| user.contains(':')) {
            // Without what follows, which may be a password.
            return Err(invalid("sftp://: an address holds no password; use a key or an ssh agent".to_owned()));
        }
        let refused = |why: &str| Err(invalid(format!("sftp://{rest}: {why}")));
        let (host, port) = match machine.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => machine.split_once(':').map_or((machine, None), |(host, port)| (host, Some(port))),
        };
        // What begins with a dash would be an option of ssh.
        let is_word = |text: &str| !text.is_empty() && !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic());
        if !is_word(host) || user.is_some_and(|user| !is_word(user)) {
            return refused("write it as sftp://user@host:port/path, where user and port may be left out");
        }
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return refused("a port is a number from 1 to 65535"),
        };
        let path = path.trim_end_matches('/');
        let path = path.strip_prefix("~/").map_or_else(|| format!("/{path}"), str::to_owned);
        if path.trim_matches('/').is_empty() || path == "/~" || path.contains('\0') {
            return refused("name a folder of that machine: sftp://host/srv/backups, or sftp://host/~/backups below the home folder");
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, path })
    }
}

impl fmt::Display for SftpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.path.starts_with('/') { f.write_str(&self.path) } else { write!(f, "/~/{}", self.path) }
    }
}

/// What follows `scheme://`; `None` where it does not begin with the scheme, an error where something else follows it.
fn after_scheme<'a>(text: &'a OsStr, scheme: &str) -> Option<Result<&'a str>> {
    let rest = text.as_bytes().strip_prefix(scheme.as_bytes())?.strip_prefix(b":")?;
    let rest = rest.strip_prefix(b"//").and_then(|rest| std::str::from_utf8(rest).ok());
    Some(rest.ok_or_else(|| {
        let text = text.display();
        invalid(format!("{text}: such an address begins with `{scheme}://` and is plain text (a folder of that name: `./{text}`)"))
    }))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address> {
        Address::parse(OsStr::new(text))
    }

    #[test]
    fn addresses_are_shown_as_they_were_written() {
        for text in [
            "/mnt/backup",
            "relative",
            "./s3:bucket",
            "s3",
            "s3://bucket",
            "s3://bucket/some/prefix",
            "az://container/prefix",
            "gs://bucket/prefix",
            "sftp://host/srv/backups",
            "sftp://me@host:2222/srv/backups",
            "sftp://me@[fe80::1]:22/~/backups",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
            assert_eq!(Address::has_scheme(OsStr::new(text)), text.contains("://"), "{text}");
        }
        assert_eq!(parse("s3://bucket/prefix/").unwrap(), parse("s3://bucket/prefix").unwrap());
        let expected = SftpAddress { user: Some("me".into()), host: "h".into(), port: Some(22), path: "/a b".into() };
        assert_eq!(parse("sftp://me@h:22/a b/").unwrap(), Address::Sftp(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "s3://",
            "s3:///prefix",
            "s3:bucket/prefix",
            "s3://key:secret@bucket/prefix",
            "s3://bucket/../other",
            "s3://bucket/a//b",
            "s3://bucket/a?b",
            "gs://bucket/ä",
            "sftp:host:/path",
            "sftp://host",
            "sftp://host/",
            "sftp://host:0/path",
            "sftp://-oProxyCommand=x/path",
            "sftp://-l@host/path",
        ] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
        for text in ["rest:https://host/", "b2:bucket", "rclone:remote:path"] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let message = parse("sftp://me:hunter2@host/path").unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
