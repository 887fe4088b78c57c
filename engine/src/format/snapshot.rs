//! Snapshots (`format-spec/snapshot.md`).

use super::certificate::{Certificate, Trust};
use super::cursor::{Reader, Write};
use super::session::{SessionKind, SessionRecord};
use crate::crypto::{Secret, derive, keyed};
use crate::error::{Error, Result};
use crate::id::{ChunkId, RepositoryId, SnapshotId};
use crate::limits::{KEY_MAX, PATHS_MAX, TAGS_MAX, TEXT_MAX};
use crate::runtime::Timestamp;

/// A keyed token that stands for a series or a tag.
pub type Token = [u8; 16];

/// What a snapshot was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Files and folders.
    Files = 1,
    /// One stream.
    Stream = 2,
    /// Object storage.
    Objects = 3,
    /// A database.
    Database = 4,
}

/// What maintenance may know of a snapshot; sealed with the structure key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Stands for the series.
    pub series: Token,
    /// Number of the snapshot in this series by this signer, from 1.
    pub sequence: u64,
    /// The one before by the same signer.
    pub previous: Option<SnapshotId>,
    /// When, by the client.
    pub time: Timestamp,
    /// What it was made from.
    pub source_kind: SourceKind,
    /// Retention class; 0 for none.
    pub retention_class: u8,
    /// The newest epoch when the session began.
    pub epoch: u32,
    /// Root of the refs.
    pub refs_root: ChunkId,
    /// Entries of the tree.
    pub entries: u64,
    /// Sizes of all files, holes included.
    pub file_bytes: u64,
    /// Frames that the refs name.
    pub frames: u64,
    /// Sealed bytes of frames written for it.
    pub new_bytes: u64,
    /// Stand for the tags, ascending.
    pub tags: Vec<Token>,
    /// The session that made it.
    pub record: SessionRecord,
}

/// What only a restore credential may know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBody {
    /// Root of the tree.
    pub tree_root: ChunkId,
    /// Whether keys are paths (otherwise object keys).
    pub keys_are_paths: bool,
    /// Whether everything that was asked for is in it.
    pub whole: bool,
    /// When the backup began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Name of the series.
    pub series: String,
    /// Host that made it.
    pub host: String,
    /// Program that made it, with version.
    pub program: String,
    /// What was backed up, as bytes.
    pub paths: Vec<Vec<u8>>,
    /// Tags, ascending.
    pub tags: Vec<String>,
}

/// The token of a series.
pub(crate) fn series_token(token_key: &Secret, series: &str) -> Token {
    token("icecore 1 series token", token_key, series)
}

/// The token of a tag.
pub(crate) fn tag_token(token_key: &Secret, tag: &str) -> Token {
    token("icecore 1 tag token", token_key, tag)
}

fn token(context: &str, token_key: &Secret, text: &str) -> Token {
    let hash = keyed(derive(context, &[token_key.bytes()]).bytes(), text.as_bytes());
    let mut token = [0; 16];
    token.copy_from_slice(&hash[..16]);
    token
}

/// The two sealed pieces of a snapshot object's body: header and body (SNAP-1).
pub(crate) fn split(body: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut reader = Reader::new(body);
    let (header_length, body_length) = (reader.u32()? as usize, reader.u32()? as usize);
    if header_length.checked_add(body_length) != Some(reader.remaining()) {
        return Err(Error::rule("SNAP-1", format!("lengths {header_length} and {body_length} where {} bytes follow", reader.remaining())));
    }
    Ok((reader.bytes(header_length)?, reader.bytes(body_length)?))
}

/// The inverse of [`split`].
pub(crate) fn join(sealed_header: &[u8], sealed_body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u32(sealed_header.len() as u32);
    bytes.put_u32(sealed_body.len() as u32);
    bytes.put_bytes(sealed_header);
    bytes.put_bytes(sealed_body);
    bytes
}

impl SnapshotHeader {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&self.series);
        bytes.put_u64(self.sequence);
        bytes.put_bytes(&self.previous.map_or([0; 16], |id| id.0));
        bytes.put_time(self.time);
        bytes.put_u8(self.source_kind as u8);
        bytes.put_u8(self.retention_class);
        bytes.put_u16(0);
        bytes.put_u32(self.epoch);
        bytes.put_bytes(&self.refs_root.0);
        bytes.put_u64(self.entries);
        bytes.put_u64(self.file_bytes);
        bytes.put_u64(self.frames);
        bytes.put_u64(self.new_bytes);
        bytes.put_varint(self.tags.len() as u64);
        self.tags.iter().for_each(|tag| bytes.put_bytes(tag));
        bytes.put_blob(self.record.bytes());
        bytes
    }

    /// Whether the session record carries the certificate of the object (SNAP-7).
    ///
    /// # Errors
    /// SNAP-7.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<()> {
        match self.record.certificate() == certificate {
            true => Ok(()),
            false => Err(Error::rule("SNAP-7", "the session record is another credential's")),
        }
    }

    /// Reads it (SNAP-3 to SNAP-7, but that the record carries the object's certificate).
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unsupported`] for an unknown kind of source.
    pub fn decode(bytes: &[u8], repository: &RepositoryId, trust: &Trust) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let series = reader.array()?;
        let (sequence, previous) = (reader.u64()?, SnapshotId(reader.array()?));
        let first = previous.0 == [0; 16];
        if sequence == 0 || first != (sequence == 1) {
            return Err(Error::rule("SNAP-3", format!("sequence {sequence} after {previous}")));
        }
        let time = reader.time()?;
        let source_kind = match reader.u8()? {
            1 => SourceKind::Files,
            2 => SourceKind::Stream,
            3 => SourceKind::Objects,
            4 => SourceKind::Database,
            n => return Err(Error::unsupported("SNAP-4", format!("source kind {n} is not known here; a newer icecore reads it"))),
        };
        let retention_class = reader.u8()?;
        reader.reserved(2, "SNAP-5")?;
        let epoch = reader.u32()?;
        let refs_root = ChunkId(reader.array()?);
        let (entries, file_bytes, frames, new_bytes) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let count = reader.count_at_most(TAGS_MAX, 16, "SNAP-6")?;
        let tags = (0..count).map(|_| reader.array()).collect::<Result<Vec<Token>>>()?;
        if !tags.is_sorted_by(|a, b| a < b) {
            return Err(Error::rule("SNAP-6", "tag tokens are not ascending"));
        }
        let mut record_reader = Reader::new(reader.blob()?);
        let record = SessionRecord::decode(&mut record_reader, repository, trust)?;
        record_reader.end()?;
        if record.kind() != SessionKind::Writer {
            return Err(Error::rule("SNAP-7", "the session is no writer's"));
        }
        reader.end()?;
        Ok(Self {
            series,
            sequence,
            previous: (!first).then_some(previous),
            time,
            source_kind,
            retention_class,
            epoch,
            refs_root,
            entries,
            file_bytes,
            frames,
            new_bytes,
            tags,
            record,
        })
    }
}

impl SnapshotBody {
    /// The plaintext.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&self.tree_root.0);
        bytes.put_u8(if self.keys_are_paths { 1 } else { 2 });
        bytes.put_u8(u8::from(self.whole));
        bytes.put_u16(0);
        bytes.put_time(self.started);
        bytes.put_time(self.ended);
        bytes.put_blob(self.series.as_bytes());
        bytes.put_blob(self.host.as_bytes());
        bytes.put_blob(self.program.as_bytes());
        bytes.put_varint(self.paths.len() as u64);
        self.paths.iter().for_each(|path| bytes.put_blob(path));
        bytes.put_varint(self.tags.len() as u64);
        self.tags.iter().for_each(|tag| bytes.put_blob(tag.as_bytes()));
        bytes
    }

    /// Whether the tokens of the header are those of series and tags (SNAP-11).
    ///
    /// # Errors
    /// SNAP-11.
    pub(crate) fn check_tokens(&self, token_key: &Secret, series: &Token, tags: &[Token]) -> Result<()> {
        let mut own: Vec<_> = self.tags.iter().map(|tag| tag_token(token_key, tag)).collect();
        own.sort_unstable();
        match series_token(token_key, &self.series) == *series && own == tags {
            true => Ok(()),
            false => Err(Error::rule("SNAP-11", "series or tags are not those of the header")),
        }
    }

    /// Reads it (SNAP-9, SNAP-10).
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unsupported`] for an unknown kind of keys.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let tree_root = ChunkId(reader.array()?);
        let (key_kind, whole) = (reader.u8()?, reader.u8()?);
        if !(1..=2).contains(&key_kind) {
            return Err(Error::unsupported("SNAP-9", format!("key kind {key_kind} is not known here; a newer icecore reads it")));
        }
        reader.reserved(2, "SNAP-9")?;
        if whole > 1 {
            return Err(Error::rule("SNAP-9", format!("whole is {whole}")));
        }
        let (started, ended) = (reader.time()?, reader.time()?);
        let (series, host, program) = (text(&mut reader)?, text(&mut reader)?, text(&mut reader)?);
        let path_count = reader.count_at_most(PATHS_MAX, 1, "SNAP-10")?;
        let paths = (0..path_count).map(|_| reader.blob().map(<[u8]>::to_vec)).collect::<Result<Vec<_>>>()?;
        if paths.iter().any(|path| path.len() > KEY_MAX) {
            return Err(Error::rule("SNAP-10", "a path is too long"));
        }
        let tag_count = reader.count_at_most(TAGS_MAX, 1, "SNAP-10")?;
        let tags = (0..tag_count).map(|_| text(&mut reader)).collect::<Result<Vec<_>>>()?;
        if !tags.is_sorted_by(|a, b| a < b) || tags.iter().any(String::is_empty) {
            return Err(Error::rule("SNAP-10", "tags are not ascending, or empty"));
        }
        reader.end()?;
        Ok(Self { tree_root, keys_are_paths: key_kind == 1, whole: whole == 1, started, ended, series, host, program, paths, tags })
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String> {
    let bytes = reader.blob()?;
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= TEXT_MAX => Ok(text.to_owned()),
        _ => Err(Error::rule("SNAP-10", "a text is not UTF-8, or too long")),
    }
}
