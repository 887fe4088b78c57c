//! SFTP version 3 as bytes, as far as it is used: `draft-ietf-secsh-filexfer-02` and OpenSSH's extensions (its file `PROTOCOL`).

/// No packet is larger; servers send data in pieces of what was asked for.
pub(super) const PACKET_MAX: usize = 1 << 20;
/// Bytes of a file in one packet, which every server takes.
pub(super) const PIECE: usize = 32 << 10;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const RENAME: u8 = 18;
pub(super) const EXTENDED: u8 = 200;

const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;

pub(super) const FLAG_READ: u32 = 1;
/// Write, create, and fail where it exists.
pub(super) const FLAGS_NEW: u32 = 0x02 | 0x08 | 0x20;

pub(super) const STATUS_OK: u32 = 0;
pub(super) const STATUS_EOF: u32 = 1;
pub(super) const STATUS_NO_SUCH_FILE: u32 = 2;
pub(super) const STATUS_PERMISSION_DENIED: u32 = 3;
pub(super) const STATUS_BAD_MESSAGE: u32 = 5;
pub(super) const STATUS_UNSUPPORTED: u32 = 8;

/// A packet in the making, without its length.
pub(super) struct Packet(pub(super) Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8, id: u32) -> Self {
        Self(vec![kind]).u32(id)
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes with their length before them; never more than a packet may have.
    pub(super) fn string(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }
}

/// What stands in attributes of a file; `None` where the server does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
    /// When it was last changed, in seconds since 1970.
    pub(super) modified: Option<u32>,
}

impl Attrs {
    pub(super) fn is_folder(self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000)
    }

    pub(super) fn is_file(self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o100_000)
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(u32, String),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<(String, Attrs)>),
    Attrs(Attrs),
}

/// Fields one after the other; `None` where the bytes end before.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(length)?;
        self.0 = later;
        Some(now)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn attrs(&mut self) -> Option<Attrs> {
        let flags = self.u32()?;
        let size = if flags & 1 == 0 { None } else { Some(self.u64()?) };
        if flags & 2 != 0 {
            self.take(8)?;
        }
        let mode = if flags & 4 == 0 { None } else { Some(self.u32()?) };
        let mut modified = None;
        if flags & 8 != 0 {
            self.u32()?;
            modified = Some(self.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Some(Attrs { size, mode, modified })
    }
}

/// Reads an answer: the number of the request, and what it says. `None` where it is none.
pub(super) fn reply(bytes: &[u8]) -> Option<(u32, Reply)> {
    let mut fields = Fields(bytes);
    let (kind, id) = (fields.u8()?, fields.u32()?);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reply = match kind {
        STATUS => {
            let code = fields.u32()?;
            // Old servers leave the text out.
            Reply::Status(code, text(fields.string().unwrap_or_default()))
        }
        HANDLE => Reply::Handle(fields.string()?.to_vec()),
        DATA => Reply::Data(fields.string()?.to_vec()),
        NAME => {
            let mut names = Vec::new();
            for _ in 0..fields.u32()? {
                let name = text(fields.string()?);
                fields.string()?;
                names.push((name, fields.attrs()?));
            }
            Reply::Names(names)
        }
        ATTRS => Reply::Attrs(fields.attrs()?),
        _ => return None,
    };
    Some((id, reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_cut_off_is_none() {
        let attrs =
            |packet: Packet| packet.u32(0x8000_000f).u64(7).u32(1).u32(2).u32(0o100_644).u32(3).u32(4).u32(1).string(b"a").string(b"b");
        let whole = attrs(Packet::new(NAME, 9).u32(1).string(b"name").string(b"long name")).0;
        let expected = Attrs { size: Some(7), mode: Some(0o100_644), modified: Some(4) };
        assert_eq!(reply(&whole), Some((9, Reply::Names(vec![("name".into(), expected)]))));
        assert!(expected.is_file() && !expected.is_folder());
        assert!((0..whole.len()).all(|end| reply(&whole[..end]).is_none()));
        assert_eq!(reply(&Packet::new(STATUS, 1).u32(2).0), Some((1, Reply::Status(2, String::new()))));
        // A count that the bytes do not bear out takes no memory.
        assert_eq!(reply(&Packet::new(NAME, 1).u32(u32::MAX).0), None);
        assert_eq!(reply(&Packet::new(250, 1).0), None);
    }
}
