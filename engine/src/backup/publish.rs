//! The end of a backup: refs, packs, index object, snapshot. In this order, each durable before the next.

use super::BackupSummary;
use super::assembler::Assembler;
use super::stat_cache::StatCacheBuilder;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::crypto::derive;
use crate::error::{Error, ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::session::snapshot_sealer;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, Token, join, series_token, tag_token};
use crate::format::{
    ContentsTable,
    refs::{FrameUse, Usage},
};
use crate::id::{ChunkId, FrameClass, IndexId, PackId, SnapshotId};
use crate::progress::Event;
use crate::repository::{NodeStore, RefsCollector, Repository, Session, Writer};
use crate::tree::RefsBuilder;

/// A session that wrote at least this many packs publishes their contents tables as one index object.
const INDEXED_PACKS_MIN: usize = 8;

impl Assembler<'_> {
    /// Publishes the snapshot; gives the summary and what the stat cache is to hold once the session is closed.
    pub(super) fn publish(mut self, session: &Session<'_>, paths: &[Vec<u8>]) -> Result<(BackupSummary, Option<StatCacheBuilder>)> {
        self.progress.event(Event::Phase { name: "finish", bytes_total: None, items_total: None });
        let tree = self.tree.finish(&mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
        let frames = self.refs.len() as u64;
        let refs_root = build_refs(&mut self.writer, std::mem::take(&mut self.refs), &self.repository.credential.token_key)?;
        let written = self.writer.finish()?;
        let new_bytes =
            written.packs.iter().flat_map(|(_, _, contents)| &contents.frames).map(|frame| u64::from(frame.sealed_length)).sum();
        self.summary.bytes_unique = written.data_bytes_new;
        self.summary.bytes_stored = written.bytes_stored;
        self.summary.bytes_total = tree.file_bytes;
        if written.packs.len() >= INDEXED_PACKS_MIN {
            self.summary.bytes_stored += publish_index(self.repository, session, written.packs)?;
        }

        // Before the snapshots of others are read too: those who have newer keys seal with them.
        self.repository.require_newest_config()?;
        let id = SnapshotId(self.repository.runtime.random());
        let token_key = &self.repository.credential.token_key;
        let series = series_token(token_key, &self.options.series);
        let (sequence, previous) = last_of_series(self.repository, session, &series)?;
        let mut tags = self.options.tags.clone();
        tags.sort_unstable();
        tags.dedup();
        let mut tag_tokens: Vec<_> = tags.iter().map(|tag| tag_token(token_key, tag)).collect();
        tag_tokens.sort_unstable();
        let header = SnapshotHeader {
            series,
            sequence: sequence + 1,
            previous,
            time: self.options.time.unwrap_or(self.started),
            source_kind: self.source_kind,
            retention_class: 0,
            epoch: session.epoch(),
            refs_root,
            entries: tree.entries,
            file_bytes: tree.file_bytes,
            frames,
            new_bytes,
            tags: tag_tokens,
            record: (**session.record()).clone(),
        };
        let body = SnapshotBody {
            tree_root: tree.id,
            keys_are_paths: true,
            whole: self.summary.files_failed == 0,
            started: self.started,
            ended: self.repository.runtime.clock.now(),
            series: self.options.series.clone(),
            host: self.options.host.clone(),
            program: self.options.program.clone(),
            paths: paths.to_vec(),
            tags,
        };
        self.repository.require_newest_config()?;
        self.summary.bytes_stored += put_snapshot(self.repository, session, id, &header, &body)?;
        session.withdraw_if_given_up(id)?;
        self.summary.snapshot = Some(id);
        Ok((self.summary, self.next_cache))
    }
}

/// Writes the refs of everything that was used.
fn build_refs(writer: &mut Writer, refs: RefsCollector, token_key: &crate::crypto::Secret) -> Result<ChunkId> {
    let uses = refs.into_sorted(|frame| writer.chunk_count(frame))?;
    let boundary_key = derive("icecore 1 refs boundary", &[token_key.bytes()]);
    let mut builder = RefsBuilder::new(*boundary_key.bytes());
    let mut unused = RefsCollector::default();
    let mut nodes = NodeStore { writer, refs: &mut unused };
    for (frame, count, bitmap) in uses {
        let used: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
        let usage = match used == count {
            true => Usage::Whole,
            false => Usage::Part {
                chunks: u16::try_from(count).map_err(|_| Error::new(ErrorKind::Internal, "a frame has too many chunks"))?,
                bitmap,
            },
        };
        builder.push(FrameUse { frame, usage }, &mut nodes)?;
    }
    Ok(builder.finish(&mut nodes)?.id)
}

/// One object with the contents tables of all packs of this session; its size.
fn publish_index(repository: &Repository, session: &Session<'_>, packs: Vec<(ObjectKind, PackId, ContentsTable)>) -> Result<u64> {
    let name = ObjectName::index(IndexId(repository.runtime.random()));
    let body = IndexBody { sessions: vec![(**session.record()).clone()], packs }.encode();
    if body.len() as u64 + 1024 > name.kind().size_max() {
        // An index object saves time; without it every pack is asked.
        return Ok(0);
    }
    let size = body.len() as u64;
    repository.write_sealed(name, body)?;
    Ok(size)
}

/// Sequence number and name of this signer's newest snapshot in the series.
pub(crate) fn last_of_series(
    repository: &crate::repository::Repository,
    session: &Session<'_>,
    series: &Token,
) -> Result<(u64, Option<SnapshotId>)> {
    let mut last = (0, None);
    for object in repository.backend.list_sorted(ObjectKind::Snapshot)? {
        let id = SnapshotId(object.name.id());
        match repository.read_snapshot_header(id) {
            Ok(header) => {
                let own = header.record.certificate().verifying_key() == session.record().certificate().verifying_key();
                if own && header.series == *series && header.sequence > last.0 {
                    last = (header.sequence, Some(id));
                }
            }
            // Somebody else's damage does not keep this backup from being made; check reports it.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

/// Makes the snapshot visible; its size.
pub(crate) fn put_snapshot(
    repository: &Repository,
    session: &Session<'_>,
    id: SnapshotId,
    header: &SnapshotHeader,
    body: &SnapshotBody,
) -> Result<u64> {
    let object_header = repository.header(ObjectName::snapshot(id));
    let mut sealed_header = header.encode();
    object_header.part_sealer(repository.structure_key()?, 0).seal(0, &mut sealed_header);
    let mut sealed_body = body.encode();
    snapshot_sealer(session.secret()?, &session.id(), &id).seal(0, &mut sealed_body);
    let object = repository.credential.author.object(&object_header, &join(&sealed_header, &sealed_body));
    repository.backend.put(&object_header.name, &object)?;
    Ok(object.len() as u64)
}

const _: () = assert!(FrameClass::Refs as u8 == 2, "refs frames are not among a snapshot's refs");
