//! The end of a backup, or of whatever else makes a snapshot: refs, packs, index object, snapshot. In this order, each durable before the next.

use super::BackupSummary;
use super::assembler::Assembler;
use super::earlier::NodesAgainst;
use super::paths::recorded;
use super::stat_cache::StatCacheBuilder;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::crypto::derive;
use crate::error::{ErrorKind, Result};
use crate::format::ContentsTable;
use crate::format::index_object::IndexBody;
use crate::format::session::snapshot_sealer;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, SourceKind, Token, join, series_token, tag_token};
use crate::id::{FrameClass, IndexId, PackId, SnapshotId};
use crate::progress::Event;
use crate::repository::{NodeStore, RefsCollector, Repository, Session, Writer, require_readable_size};
use crate::runtime::Timestamp;
use crate::tree::{RefsBuilder, RefsRoot, TreeRoot};

/// A session that wrote at least this many packs publishes their contents tables as one index object.
const INDEXED_PACKS_MIN: usize = 8;

/// What a snapshot that is about to be published says of itself.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) tree: TreeRoot,
    pub(crate) keys_are_paths: bool,
    pub(crate) source_kind: SourceKind,
    pub(crate) series: &'a str,
    pub(crate) host: &'a str,
    pub(crate) program: &'a str,
    pub(crate) paths: &'a [Vec<u8>],
    pub(crate) tags: &'a [String],
    /// Of the snapshot.
    pub(crate) time: Timestamp,
    pub(crate) started: Timestamp,
    /// `None` for now.
    pub(crate) ended: Option<Timestamp>,
    /// Everything that was asked for is in it.
    pub(crate) whole: bool,
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) id: SnapshotId,
    /// Bytes of packs, index object and snapshot.
    pub(crate) bytes_stored: u64,
    /// Content bytes that were not in the repository.
    pub(crate) bytes_unique: u64,
    /// Bytes of what was compressed against older frames.
    pub(crate) delta_bytes: u64,
}

impl Assembler<'_> {
    /// Publishes the snapshot; gives the summary and what the stat cache is to hold once the session is closed.
    pub(super) fn publish(mut self, session: &Session<'_>, paths: &[Vec<u8>]) -> Result<(BackupSummary, Option<StatCacheBuilder>)> {
        self.progress.event(Event::Phase { name: "finish", bytes_total: None, items_total: None });
        self.push_collected()?;
        let nodes = NodeStore { writer: &mut self.writer, refs: &mut self.refs };
        let tree = self.tree.finish(&mut NodesAgainst { nodes, earlier: self.earlier.as_mut() })?;
        let draft = Draft {
            tree,
            keys_are_paths: true,
            source_kind: self.feed.kind(),
            series: &self.options.series,
            host: &self.options.host,
            program: &self.options.program,
            paths: &recorded(paths),
            tags: &self.options.tags,
            time: self.options.time.unwrap_or(self.started),
            started: self.started,
            ended: None,
            whole: self.summary.files_failed == 0,
        };
        let published = publish(self.repository, session, &mut self.writer, self.refs, &draft)?;
        self.summary.bytes_unique = published.bytes_unique;
        self.summary.delta_bytes = published.delta_bytes;
        self.summary.bytes_stored = published.bytes_stored;
        self.summary.bytes_total = tree.file_bytes;
        self.summary.snapshot = Some(published.id);
        Ok((self.summary, self.next_cache))
    }
}

/// Publishes a snapshot whose tree was written: refs, packs, index object, snapshot. The session is still to be closed.
pub(crate) fn publish(
    repository: &Repository,
    session: &Session<'_>,
    writer: &mut Writer,
    refs: RefsCollector,
    draft: &Draft<'_>,
) -> Result<Published> {
    let token_key = &repository.credential.token_key;
    let RefsRoot { id: refs_root, frames: frames_used } = build_refs(writer, refs, token_key)?;
    let written = writer.finish()?;
    let frames = || written.packs.iter().flat_map(|(_, _, contents)| &contents.frames);
    let new_bytes = frames().map(|frame| u64::from(frame.sealed_length)).sum();
    let delta_bytes = frames().filter(|frame| !frame.bases.is_empty()).map(|frame| u64::from(frame.plaintext_length)).sum();
    let mut bytes_stored = written.bytes_stored;
    if written.packs.len() >= INDEXED_PACKS_MIN {
        bytes_stored += publish_index(repository, session, written.packs)?;
    }

    // Before the snapshots of others are read too: those who have newer keys seal with them.
    repository.require_newest_config()?;
    let id = SnapshotId(repository.runtime.random());
    let series = series_token(token_key, draft.series);
    let (sequence, previous) = last_of_series(repository, session, &series)?;
    let mut tags = draft.tags.to_vec();
    tags.sort_unstable();
    tags.dedup();
    let mut tag_tokens: Vec<_> = tags.iter().map(|tag| tag_token(token_key, tag)).collect();
    tag_tokens.sort_unstable();
    let header = SnapshotHeader {
        series,
        sequence: sequence + 1,
        previous,
        time: draft.time,
        source_kind: draft.source_kind,
        retention_class: 0,
        epoch: session.epoch(),
        refs_root,
        entries: draft.tree.entries,
        file_bytes: draft.tree.file_bytes,
        frames: frames_used,
        new_bytes,
        tags: tag_tokens,
        record: (**session.record()).clone(),
    };
    let body = SnapshotBody {
        tree_root: draft.tree.id,
        keys_are_paths: draft.keys_are_paths,
        whole: draft.whole,
        started: draft.started,
        ended: draft.ended.unwrap_or_else(|| repository.runtime.clock.now()),
        series: draft.series.to_owned(),
        host: draft.host.to_owned(),
        program: draft.program.to_owned(),
        paths: draft.paths.to_vec(),
        tags,
    };
    repository.require_newest_config()?;
    bytes_stored += put_snapshot(repository, session, id, &header, &body)?;
    session.withdraw_if_given_up(id)?;
    Ok(Published { id, bytes_stored, bytes_unique: written.data_bytes_new, delta_bytes })
}

/// Writes the refs of everything that was used, and of what that is compressed against.
fn build_refs(writer: &mut Writer, mut refs: RefsCollector, token_key: &crate::crypto::Secret) -> Result<RefsRoot> {
    writer.settle_bases()?;
    refs.mark_bases(|frame| writer.bases_of(frame))?;
    let uses = refs.into_uses(|frame| writer.chunk_count(frame))?;
    let boundary_key = derive("icecore 1 refs boundary", &[token_key.bytes()]);
    let mut builder = RefsBuilder::new(*boundary_key.bytes());
    let mut unused = RefsCollector::default();
    let mut nodes = NodeStore { writer, refs: &mut unused };
    for used in uses {
        builder.push(used, &mut nodes)?;
    }
    builder.finish(&mut nodes)
}

/// Objects with the contents tables of all packs of this session; their size.
fn publish_index(repository: &Repository, session: &Session<'_>, packs: Vec<(ObjectKind, PackId, ContentsTable)>) -> Result<u64> {
    let mut packs = packs.into_iter().peekable();
    let mut size = 0;
    while packs.peek().is_some() {
        let packs = IndexBody::take_packs(&mut packs, IndexBody::LENGTH_END);
        let body = IndexBody { sessions: vec![(**session.record()).clone()], packs }.encode();
        size += body.len() as u64;
        repository.write_sealed(ObjectName::index(IndexId(repository.runtime.random())), body)?;
    }
    Ok(size)
}

/// Sequence number and name of this signer's newest snapshot in the series.
pub(crate) fn last_of_series(
    repository: &crate::repository::Repository,
    session: &Session<'_>,
    series: &Token,
) -> Result<(u64, Option<SnapshotId>)> {
    let mut last = (0, None);
    let ids: Vec<_> = repository.backend.list_sorted(ObjectKind::Snapshot)?.iter().map(|object| SnapshotId(object.name.id())).collect();
    let headers = repository.ask_each(&ids, |id| repository.read_snapshot_header(*id))?;
    for (id, header) in ids.into_iter().zip(headers) {
        match header {
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
    require_readable_size(&object_header.name, object.len() as u64)?;
    session.publishes(id, header.series);
    repository.backend.put(&object_header.name, &object)?;
    Ok(object.len() as u64)
}

const _: () = assert!(FrameClass::Refs as u8 == 2, "refs frames are not among a snapshot's refs");
