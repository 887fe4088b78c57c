//! What the reader of tar streams makes of any bytes.

use crate::error::{Error, ErrorKind, Result};
use crate::source::tar::{Member, TarKind, TarReader};
use std::io::Read;
use std::ops::Range;

/// A member of a tar stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarFile {
    /// Where it stands: its components, joined by zero bytes.
    pub key: Vec<u8>,
    /// Size of a file, holes included; 0 of everything else.
    pub size: u64,
    /// Where a file's content lies.
    pub data: Vec<Range<u64>>,
    /// The other member of which it is another name.
    pub link: Option<Vec<u8>>,
}

/// Reads all of a tar stream, content included: what can be stored, and how many things were skipped or told.
///
/// # Errors
/// Where it is no tar stream, or ends early.
pub fn read_tar(stream: impl Read) -> Result<(Vec<TarFile>, usize)> {
    let mut reader = TarReader::new(stream);
    let (mut files, mut told) = (Vec::new(), 0);
    let mut buffer = vec![0; 4096];
    while let Some(member) = reader.next()? {
        let Member::Entry(entry) = member else {
            told += 1;
            continue;
        };
        let mut file = TarFile { key: entry.key, size: 0, data: Vec::new(), link: None };
        match entry.kind {
            TarKind::File { size, data } => (file.size, file.data) = (size, data),
            TarKind::HardLink(key) => file.link = Some(key),
            _ => {}
        }
        let mut left: u64 = file.data.iter().map(|range| range.end - range.start).sum();
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let length = reader.read_data(&mut buffer[..wanted])?;
            if length == 0 {
                return Err(Error::new(ErrorKind::Internal, "the content is shorter than its ranges"));
            }
            left -= length as u64;
        }
        files.push(file);
    }
    Ok((files, told))
}
