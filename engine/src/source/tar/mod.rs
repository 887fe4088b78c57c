//! A tar stream as a source: its members, one after the other, with their content as it comes.
//!
//! Reads what GNU tar, bsdtar, star, Python, Go and PostgreSQL write: V7, ustar, PAX (with global headers), GNU long names, large numbers in
//! base 256, attributes as `SCHILY.xattr`, sparse files in the old GNU form and PAX 0.0, 0.1 and 1.0.
//!
//! Nothing in an archive is believed: what it says of lengths meets a limit before memory is taken, names that lead out of the target or
//! cannot be kept are told and skipped. What is no tar stream, or ends in the middle of a member, is an error.
//!
//! Members come in any order and any number of times; making a tree of them is the caller's.

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

use crate::entry::{Key, Metadata, is_path_key};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{ATTRIBUTES_MAX, KEY_MAX, TARGET_MAX};
use header::{BLOCK, Header};
use pax::Pax;
use std::io::Read;
use std::ops::Range;

/// Bytes of a PAX header or a long name: a member's attributes and both of its names fit.
const EXTENSION_LENGTH_MAX: u64 = (ATTRIBUTES_MAX + KEY_MAX + TARGET_MAX) as u64 * 2;

/// One thing that an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Member {
    /// Something to store.
    Entry(TarEntry),
    /// Something that is skipped, or stored without a part of it.
    Failed {
        /// The name in the archive.
        path: Vec<u8>,
        /// Why.
        message: String,
    },
}

/// A member that can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TarEntry {
    /// Where it stands.
    pub(crate) key: Key,
    pub(crate) kind: TarKind,
    pub(crate) metadata: Metadata,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TarKind {
    /// A file of `size` bytes, of which those in `data` follow. The ranges ascend and do not touch.
    File {
        size: u64,
        data: Vec<Range<u64>>,
    },
    Folder,
    Symlink(Vec<u8>),
    /// Another name of the member with this key, which came before.
    HardLink(Key),
    Fifo,
    BlockDevice(u32, u32),
    CharDevice(u32, u32),
}

/// Reads a tar stream.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    stream: R,
    /// Bytes read so far.
    position: u64,
    /// Content of the current member that was not read yet, and what fills its last block.
    content_left: u64,
    padding: u64,
    globals: Pax,
    /// Told at the next call.
    waiting: Option<Member>,
    is_done: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, position: 0, content_left: 0, padding: 0, globals: Pax::default(), waiting: None, is_done: false }
    }

    /// The next member; what is left of the one before is skipped. `None` once the whole stream was read.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the stream is no tar stream, ends early, or cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        if let Some(member) = self.waiting.take() {
            return Ok(Some(member));
        }
        let mut local = Pax::default();
        let mut is_pax = false;
        let (mut long_name, mut long_target) = (None, None);
        while !self.is_done {
            self.skip(self.content_left.saturating_add(self.padding))?;
            (self.content_left, self.padding) = (0, 0);
            let Some(header) = self.read_header()? else {
                let is_promised = is_pax || long_name.is_some() || long_target.is_some();
                return if is_promised { Err(self.cut_off()) } else { self.end() };
            };
            match header.kind {
                b'L' => long_name = Some(self.read_text(&header)?),
                b'K' => long_target = Some(self.read_text(&header)?),
                b'x' | b'X' => {
                    local = Pax::read(&self.read_extension(&header)?).map_err(|why| self.broken(why))?;
                    is_pax = true;
                }
                b'g' => {
                    let bytes = self.read_extension(&header)?;
                    self.globals.update(Pax::read(&bytes).map_err(|why| self.broken(why))?).map_err(|why| self.broken(why))?;
                }
                // A label of the archive.
                b'V' => self.expect_content(header.size().map_err(|why| self.broken(why))?),
                _ => return self.member(&header, &self.globals.with(local), is_pax, long_name, long_target).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads content of the current member until `buffer` is full or there is none left; gives the number of bytes.
    ///
    /// # Errors
    /// As [`TarReader::next`].
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(buffer.len());
        self.fill(&mut buffer[..length])?;
        self.content_left -= length as u64;
        Ok(length)
    }

    fn member(
        &mut self,
        header: &Header,
        pax: &Pax,
        is_pax: bool,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Member> {
        let path = pax.path().map(<[u8]>::to_vec).or(long_name).unwrap_or_else(|| header.path());
        let target = pax.target().map(<[u8]>::to_vec).or(long_target).unwrap_or_else(|| header.target());
        let named = |why: String| format!("`{}`: {why}", String::from_utf8_lossy(&path));
        let size = pax.number("size").transpose().unwrap_or_else(|| header.size()).map_err(|why| self.broken(named(why)))?;
        // Other kinds may say a size and are not followed by anything.
        let has_content = match header.kind {
            b'1' => is_pax,
            kind => !matches!(kind, b'2'..=b'6'),
        };
        self.expect_content(if has_content { size } else { 0 });
        let failed = |message: String| Ok(Member::Failed { path: path.clone(), message });
        let is_folder = matches!(header.kind, b'5' | b'D') || matches!(header.kind, 0 | b'0') && path.ends_with(b"/");
        let kind = match header.kind {
            _ if is_folder => TarKind::Folder,
            0 | b'0' | b'7' | b'S' => {
                let (size, data) = self.map(header, pax, size).map_err(|error| error.context(named("its map of holes".into())))?;
                TarKind::File { size, data }
            }
            b'1' => match key_of(&target) {
                Ok(key) => TarKind::HardLink(key),
                Err(why) => return failed(format!("it is a link to `{}`, and {why}; skipped", String::from_utf8_lossy(&target))),
            },
            b'2' => TarKind::Symlink(target),
            b'3' | b'4' => match (header.device(), header.kind) {
                (Ok((major, minor)), b'3') => TarKind::CharDevice(major, minor),
                (Ok((major, minor)), _) => TarKind::BlockDevice(major, minor),
                (Err(why), _) => return failed(format!("{why}; skipped")),
            },
            b'6' => TarKind::Fifo,
            b'M' => return failed("it goes on from another volume, which cannot be put together; skipped".into()),
            kind => return failed(format!("it is of the kind `{}`, which this release does not know; skipped", kind.escape_ascii())),
        };
        let key = match key_of(&path) {
            Ok(key) => key,
            Err(why) => return failed(format!("{why}; skipped")),
        };
        let metadata = match metadata(header, pax) {
            Ok(metadata) => metadata,
            Err(why) => return failed(format!("{why}; skipped")),
        };
        if let Some(lost) = pax.lost() {
            self.waiting = Some(Member::Failed { path: path.clone(), message: format!("it is stored without its {lost}") });
        }
        Ok(Member::Entry(TarEntry { key, kind, metadata }))
    }

    /// The size of a file with its holes, and where its content lies.
    fn map(&mut self, header: &Header, pax: &Pax, stored: u64) -> Result<(u64, Vec<Range<u64>>)> {
        let (size, map) = match (header.kind, pax.sparse_version()) {
            (b'S', _) => {
                let mut map = header.sparse_map().map_err(|why| self.broken(why))?;
                let mut is_continued = header.is_map_continued();
                while is_continued {
                    let mut block = [0; BLOCK];
                    self.fill(&mut block)?;
                    is_continued = header::continue_map(&block, &mut map).map_err(|why| self.broken(why))?;
                    sparse::check_length(&map).map_err(|why| self.broken(why))?;
                }
                (header.real_size().map_err(|why| self.broken(why))?, map)
            }
            (_, Some((1, 0))) => {
                let size = pax.real_size().unwrap_or_else(|| Err("its size is missing".into())).map_err(|why| self.broken(why))?;
                (size, self.read_map()?)
            }
            (_, Some((0, _))) => {
                let size = pax.real_size().unwrap_or_else(|| Err("its size is missing".into())).map_err(|why| self.broken(why))?;
                (size, pax.sparse_map().map_err(|why| self.broken(why))?)
            }
            (_, Some((major, minor))) => return Err(self.broken(format!("version {major}.{minor} is not known"))),
            (_, None) => return Ok((stored, (stored > 0).then_some(0..stored).into_iter().collect())),
        };
        let data = sparse::ranges(&map, size).map_err(|why| self.broken(why))?;
        let length: u64 = data.iter().map(|range| range.end - range.start).sum();
        if length != self.content_left {
            return Err(self.broken(format!("it speaks of {length} bytes, {} follow", self.content_left)));
        }
        Ok((size, data))
    }

    /// The map of PAX 1.0: decimal numbers in lines before the content, filled up to a block.
    fn read_map(&mut self) -> Result<sparse::Map> {
        let mut lines = sparse::Lines::default();
        loop {
            let mut block = [0; BLOCK];
            let length = self.read_data(&mut block)?;
            if length < BLOCK {
                return Err(self.broken("it ends early".into()));
            }
            if let Some(map) = lines.add(&block).map_err(|why| self.broken(why))? {
                return Ok(map);
            }
        }
    }

    fn expect_content(&mut self, size: u64) {
        self.content_left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The whole content of a member that says something of the next one.
    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.size().map_err(|why| self.broken(why))?;
        if size > EXTENSION_LENGTH_MAX {
            return Err(self.broken(format!("a header of {size} bytes; at most {EXTENSION_LENGTH_MAX} are read")));
        }
        self.expect_content(size);
        let mut bytes = vec![0; size as usize];
        self.read_data(&mut bytes)?;
        Ok(bytes)
    }

    fn read_text(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut bytes = self.read_extension(header)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    /// The next header; `None` at the end of the archive.
    fn read_header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        match self.read_some(&mut block)? {
            0 if self.position == 0 => return Err(Error::new(ErrorKind::Unavailable, "the tar stream is empty")),
            0 => {
                self.warn_of_end("the archive has no end mark: it may have been cut off between two members");
                return Ok(None);
            }
            BLOCK => {}
            _ => return Err(self.cut_off()),
        }
        if block == [0; BLOCK] {
            return Ok(None);
        }
        Header::new(block).map(Some).map_err(|why| self.broken(why))
    }

    /// After the first block of zeros: reads the rest, so that whoever writes the stream can end.
    fn end(&mut self) -> Result<Option<Member>> {
        self.is_done = true;
        let mut buffer = vec![0; 128 << 10];
        let mut has_more = false;
        loop {
            let length = self.read_some(&mut buffer)?;
            has_more |= buffer[..length].iter().any(|byte| *byte != 0);
            if length < buffer.len() {
                break;
            }
        }
        if has_more {
            self.warn_of_end("something follows the archive's end; it is not stored");
        }
        Ok(self.waiting.take())
    }

    fn warn_of_end(&mut self, message: &str) {
        self.waiting = Some(Member::Failed { path: b"end of the archive".to_vec(), message: message.to_owned() });
    }

    fn skip(&mut self, mut length: u64) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(128 << 10)];
        while length > 0 {
            let part = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            self.fill(&mut buffer[..part])?;
            length -= part as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.read_some(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(self.cut_off()),
        }
    }

    /// Fills `buffer` as far as the stream goes.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.stream.read(&mut buffer[done..]) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("reading the tar stream", error).with_kind(ErrorKind::Unavailable)),
            }
        }
        self.position += done as u64;
        Ok(done)
    }

    fn cut_off(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("the tar stream ends early, after {} bytes, in the middle of a member", self.position))
    }

    fn broken(&self, why: String) -> Error {
        let before = self.position.saturating_sub(BLOCK as u64);
        Error::new(ErrorKind::Unavailable, format!("this is no tar stream, or a damaged one: near byte {before}: {why}"))
    }
}

/// Where a member stands; the reason where it cannot stand anywhere.
fn key_of(path: &[u8]) -> std::result::Result<Key, String> {
    if path.starts_with(b"/") {
        return Err("its name is absolute".into());
    }
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) {
        return Err("its name leads upwards".into());
    }
    if path.is_empty() || path.contains(&0) {
        return Err("its name is none".into());
    }
    let key = names.join(&0);
    match key.len() <= KEY_MAX && is_path_key(&key) {
        true => Ok(key),
        false => Err(format!("its name has {} bytes, at most {KEY_MAX} can be kept", key.len())),
    }
}

fn metadata(header: &Header, pax: &Pax) -> std::result::Result<Metadata, String> {
    let id = |name: &str, of_header: std::result::Result<i64, String>| {
        let id = match pax.number(name)? {
            Some(id) => id,
            None => u64::try_from(of_header?).map_err(|_| format!("its {name} is negative"))?,
        };
        u32::try_from(id).map_err(|_| format!("its {name} {id} is larger than Linux has"))
    };
    let xattrs = pax.xattrs();
    let bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ATTRIBUTES_MAX {
        return Err(format!("its attributes have {bytes} bytes, at most {ATTRIBUTES_MAX} can be kept"));
    }
    Ok(Metadata {
        mode: header.mode()?,
        uid: id("uid", header.uid())?,
        gid: id("gid", header.gid())?,
        user: pax.text("uname").map_or_else(|| header.user(), <[u8]>::to_vec),
        group: pax.text("gname").map_or_else(|| header.group(), <[u8]>::to_vec),
        modified: pax.modified().transpose()?.map_or_else(|| header.modified(), Ok)?,
        inode_flags: 0,
        xattrs,
    })
}
