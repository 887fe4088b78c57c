//! One door to every decoder.

use super::nodes::{self, NodeValue};
use super::{Keys, require};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectInfo, ObjectKind, ObjectName};
use crate::compress::Decompressor;
use crate::crypto::{Sealer, Secret};
use crate::entry::KeyKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::cursor::Reader;
use crate::format::epoch::EpochBody;
use crate::format::frame::{self, FramePlaintext};
use crate::format::hold::HoldBody;
use crate::format::index_object::IndexBody;
use crate::format::object::{HEADER_LENGTH, Header, Opened, check_keyless};
use crate::format::pack::GroupHasher;
use crate::format::parity::{HEAD_LENGTH, SidecarHead};
use crate::format::placement::PlacementBody;
use crate::format::relocations::RelocationsBody;
use crate::format::session::{BeatBody, ClosedBody, SessionBody, SessionRecord, TombstoneBody, WithdrawnBody};
use crate::format::slot::{Credential, Slot};
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, Token};
use crate::format::{Certificate, Roles, Tables, check_writer};
use crate::id::{ChunkId, CredentialId, FrameClass, FrameId, SessionId, SnapshotId};
use crate::repository::{ChunkKind, Repository, Settings, Sidecar, SnapshotListing};
use crate::runtime::{Runtime, Timestamp};
use std::sync::Arc;

/// What bytes are to be decoded as, and what of its surroundings the decoder is told.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A whole object of this name.
    Object {
        /// The name.
        name: ObjectName,
        /// Trailer hash of the config generation or epoch before, where there is one and it is known.
        before: Option<[u8; 32]>,
        /// The seed of a slot; without it the slot is not opened.
        seed: Option<Secret>,
    },
    /// A sidecar of this name, checked against the bytes of the object that is there.
    Sidecar {
        /// The name.
        name: ObjectName,
        /// The object.
        beside: Vec<u8>,
    },
    /// A certificate.
    Certificate,
    /// A session record with nothing after it.
    SessionRecord,
    /// The plaintext in a slot with these roles and this credential.
    Credential {
        /// The slot's roles.
        roles: Roles,
        /// The slot's credential.
        credential: CredentialId,
    },
    /// A sealed frame.
    Frame {
        /// The key of its class in its session.
        key: Secret,
        /// Its number with the class.
        number: u32,
        /// What the contents table says.
        plaintext_length: u32,
        /// What the contents table says.
        hash: [u8; 32],
        /// The bytes of its bases, one behind the other, where the contents table names any.
        bases: Option<Vec<u8>>,
        /// What the contents table says.
        chunks: Vec<ChunkId>,
    },
    /// What is in a frame.
    FramePlaintext {
        /// Class of the frame.
        class: FrameClass,
        /// What the contents table says.
        chunks: Vec<ChunkId>,
    },
    /// A chunk: its kind's number and the id by which it was asked for.
    Chunk(u8, ChunkId),
    /// The plaintext of a pack's tables.
    Tables {
        /// Kind of the pack.
        kind: ObjectKind,
        /// Bytes of its frames region.
        frames_length: u64,
        /// The object's certificate.
        certificate: [u8; Certificate::LENGTH],
    },
    /// The plaintext of an index object with this certificate.
    Index([u8; Certificate::LENGTH]),
    /// The plaintext of a snapshot's header in an object with this certificate.
    SnapshotHeader([u8; Certificate::LENGTH]),
    /// The plaintext of a snapshot's body.
    SnapshotBody {
        /// Token of the series in the header.
        series: Token,
        /// Tokens of the tags in the header.
        tags: Vec<Token>,
    },
    /// A tree node.
    TreeNode {
        /// What keys are.
        key_kind: KeyKind,
        /// The level that its parent expects.
        level: Option<u8>,
    },
    /// A recipe node at the level that its parent expects.
    RecipeNode(Option<u8>),
    /// A refs node at the level that its parent expects.
    RefsNode(Option<u8>),
    /// The nodes of a tree in the form of a frame's plaintext.
    TreeWalk {
        /// What keys are.
        key_kind: KeyKind,
        /// The root node.
        root: ChunkId,
    },
    /// The nodes of a recipe in the form of a frame's plaintext.
    RecipeWalk {
        /// The root node.
        root: ChunkId,
        /// Bytes of the file outside its holes.
        data_bytes: u64,
    },
    /// The nodes of refs with this root in the form of a frame's plaintext.
    RefsWalk(ChunkId),
}

/// What came out of a decoder.
#[derive(Debug)]
pub struct Reading {
    /// The value.
    pub value: Decoded,
    /// Of an object: the epoch of its header, its certificate, the hash at its end.
    pub object: Option<(u32, Certificate, [u8; 32])>,
    /// Whether writing the value gives the bytes that were read; `None` where nothing writes it, or where something in it was passed over
    /// that a newer writer may have put there.
    pub is_canonical: Option<bool>,
}

/// A decoded value.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Decoded {
    Config(Config),
    Slot(Slot, Option<CredentialParts>),
    Pack(Tables),
    Index(IndexBody),
    Snapshot(SnapshotId, Box<SnapshotHeader>, Box<SnapshotBody>),
    SnapshotHeader(Box<SnapshotHeader>),
    SnapshotBody(Box<SnapshotBody>),
    Session(SessionBody),
    Beat(BeatBody),
    Closed(ClosedBody),
    Tombstone(TombstoneBody),
    Withdrawn(WithdrawnBody),
    Epoch(EpochBody),
    Relocations(RelocationsBody),
    Placement(PlacementBody),
    Hold(HoldBody),
    Sidecar(SidecarHead),
    Certificate(Certificate),
    /// With the session's secret where a restore key opens it.
    Record(SessionRecord, Option<Secret>),
    Credential(CredentialParts),
    /// The chunks of a frame.
    Chunks(Vec<Vec<u8>>),
    /// The length of a chunk.
    Length(usize),
    Node(NodeValue),
}

/// What a credential holds.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct CredentialParts {
    pub admin_key: [u8; 32],
    pub structure_keys: Vec<(u32, Secret)>,
    pub token_key: Secret,
    pub certificate: Certificate,
    pub signing_seed: Secret,
    pub chunk_id_key: Option<Secret>,
    pub cutting_key: Option<Secret>,
    pub restore_keys: Vec<(u32, Secret)>,
    pub admin_seed: Option<Secret>,
}

impl From<Credential> for CredentialParts {
    fn from(credential: Credential) -> Self {
        Self {
            admin_key: credential.admin_key,
            structure_keys: credential.structure_keys,
            token_key: credential.token_key,
            certificate: credential.author.certificate,
            signing_seed: credential.signing_seed,
            chunk_id_key: credential.chunk_id_key,
            cutting_key: credential.cutting_key,
            restore_keys: credential.restore_keys,
            admin_seed: credential.admin_seed,
        }
    }
}

impl Reading {
    fn new(value: Decoded, bytes: &[u8], written: Option<&[u8]>) -> Self {
        Self { value, object: None, is_canonical: written.map(|written| written == bytes) }
    }
}

pub(super) fn decode(keys: &Keys, piece: &Piece, bytes: &[u8]) -> Result<Reading> {
    let reading = |value, written: Option<Vec<u8>>| Ok(Reading::new(value, bytes, written.as_deref()));
    match piece {
        Piece::Object { name, before, seed } => object(keys, name, before.as_ref(), seed.as_ref(), bytes),
        Piece::Sidecar { name, beside } => sidecar_beside(keys, name, beside, bytes),
        Piece::Certificate => {
            let mut reader = Reader::new(bytes);
            let array = reader.array()?;
            reader.end()?;
            reading(Decoded::Certificate(keys.certificate(&array)?), None)
        }
        Piece::SessionRecord => {
            let mut reader = Reader::new(bytes);
            let record = SessionRecord::decode(&mut reader, &keys.repository, &keys.trust)?;
            reader.end()?;
            let secret = match record.open_secret(&keys.credential.restore_keys) {
                Ok(secret) => Some(secret),
                Err(error) if error.kind() == ErrorKind::Unauthorized => None,
                Err(error) => return Err(error),
            };
            let written = record.bytes().to_vec();
            reading(Decoded::Record(record, secret), Some(written))
        }
        Piece::Credential { roles, credential } => {
            let decoded = Credential::decode(&keys.repository, bytes)?;
            decoded.check_slot(*roles, credential)?;
            let written = decoded.encode();
            // Unknown fields stand at the end.
            let is_canonical = bytes.strip_prefix(&written[..]).map_or(Some(false), |rest| rest.is_empty().then_some(true));
            Ok(Reading { value: Decoded::Credential(decoded.into()), object: None, is_canonical })
        }
        Piece::Frame { key, number, plaintext_length, hash, bases, chunks } => {
            let id = FrameId { session: SessionId([0; 16]), number: *number };
            let class = id.class().ok_or_else(|| Error::rule("PACK-7", "a frame of the reserved class"))?;
            let (mut sealed, mut plaintext) = (bytes.to_vec(), Vec::new());
            let mut decompressor = Decompressor::new()?;
            let expected = frame::Expected { id, hash, plaintext_length: *plaintext_length, bases: bases.as_deref() };
            frame::open(&Sealer::new(key), expected, &mut decompressor, &mut sealed, &mut plaintext)?;
            let chunks = frame_plaintext(keys, class, chunks, &plaintext)?;
            let is_canonical = Some(write_plaintext(&chunks) == plaintext);
            Ok(Reading { value: Decoded::Chunks(chunks), object: None, is_canonical })
        }
        Piece::FramePlaintext { class, chunks } => {
            let chunks = frame_plaintext(keys, *class, chunks, bytes)?;
            let written = write_plaintext(&chunks);
            reading(Decoded::Chunks(chunks), Some(written))
        }
        Piece::Chunk(kind, id) => {
            keys.ids.check(chunk_kind(*kind)?, id, bytes)?;
            reading(Decoded::Length(bytes.len()), None)
        }
        Piece::Tables { kind, frames_length, certificate } => {
            let certificate = keys.certificate(certificate)?;
            let writer = (certificate.verifying_key(), certificate.roles());
            let tables = Tables::decode(bytes, *kind, *frames_length, writer, &keys.repository, &keys.trust)?;
            let written = tables.encode();
            reading(Decoded::Pack(tables), Some(written))
        }
        Piece::Index(certificate) => {
            let certificate = keys.certificate(certificate)?;
            let body = index(keys, bytes, &certificate)?;
            let written = body.encode();
            reading(Decoded::Index(body), Some(written))
        }
        Piece::SnapshotHeader(certificate) => {
            let header = SnapshotHeader::decode(bytes, &keys.repository, &keys.trust)?;
            header.check_certificate(&keys.certificate(certificate)?)?;
            let written = header.encode();
            reading(Decoded::SnapshotHeader(Box::new(header)), Some(written))
        }
        Piece::SnapshotBody { series, tags } => {
            let body = SnapshotBody::decode(bytes)?;
            body.check_tokens(&keys.credential.token_key, series, tags)?;
            let written = body.encode();
            reading(Decoded::SnapshotBody(Box::new(body)), Some(written))
        }
        Piece::TreeNode { key_kind, level } => nodes::tree(bytes, *key_kind, *level),
        Piece::RecipeNode(level) => nodes::recipe(bytes, *level),
        Piece::RefsNode(level) => nodes::refs(bytes, *level),
        Piece::TreeWalk { key_kind, root } => nodes::tree_walk(keys, bytes, *key_kind, root),
        Piece::RecipeWalk { root, data_bytes } => nodes::recipe_walk(keys, bytes, root, *data_bytes),
        Piece::RefsWalk(root) => nodes::refs_walk(keys, bytes, root),
    }
}

pub(super) fn chunk_kind(number: u8) -> Result<ChunkKind> {
    let kinds = [ChunkKind::Data, ChunkKind::Tree, ChunkKind::Recipe, ChunkKind::Refs];
    let kind = kinds.into_iter().find(|kind| *kind as u8 == number);
    kind.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{number} is no kind of chunk")))
}

fn frame_plaintext(keys: &Keys, class: FrameClass, ids: &[ChunkId], plaintext: &[u8]) -> Result<Vec<Vec<u8>>> {
    let ranges = frame::chunk_ranges(plaintext, ids.len())?;
    let chunks: Vec<Vec<u8>> = ranges.into_iter().map(|range| plaintext[range].to_vec()).collect();
    chunks.iter().zip(ids).try_for_each(|(chunk, id)| keys.ids.check_in_frame(class, id, chunk))?;
    Ok(chunks)
}

fn write_plaintext(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut plaintext = FramePlaintext::default();
    chunks.iter().for_each(|chunk| plaintext.push(chunk));
    plaintext.encode()
}

fn index(keys: &Keys, plaintext: &[u8], certificate: &Certificate) -> Result<IndexBody> {
    let body = IndexBody::decode(plaintext, &keys.repository, &keys.trust)?;
    check_writer(&body.sessions, (certificate.verifying_key(), certificate.roles()))?;
    Ok(body)
}

/// A sidecar and what stands beside it, as a scrub reads them.
fn sidecar_beside(keys: &Keys, name: &ObjectName, beside: &[u8], bytes: &[u8]) -> Result<Reading> {
    let reading = object(keys, name, None, None, bytes)?;
    let backend = MemoryBackend::new();
    backend.put(name, bytes)?;
    let sidecar = Sidecar::read(&backend, &keys.trust, name)?;
    sidecar.check_copy(&backend, &keys.trust)?;
    let object = ObjectInfo { size: beside.len() as u64, ..sidecar.object() };
    backend.put(&object.name, beside)?;
    sidecar.check_object(&backend, &object)?;
    Ok(reading)
}

/// An object, read as a repository reads it.
fn object(keys: &Keys, name: &ObjectName, before: Option<&[u8; 32]>, seed: Option<&Secret>, bytes: &[u8]) -> Result<Reading> {
    let kind = name.kind();
    let told = |value, opened: Opened<'_>, written: Option<Vec<u8>>| {
        let reading = Reading::new(value, opened.body, written.as_deref());
        Ok(Reading { object: Some((opened.header.structure_epoch, opened.certificate, opened.hash)), ..reading })
    };
    match kind {
        ObjectKind::Config => {
            let opened = Opened::check(name, bytes, &keys.trust)?;
            let config = Config::decode(name.number(), opened.body, keys.trust.admin_key.as_ref())?;
            require(before.is_none_or(|before| config.follows(before)), "CFG-2", "another predecessor")?;
            let written = config.encode();
            return told(Decoded::Config(config), opened, Some(written));
        }
        ObjectKind::Slot => {
            let (header, body) = check_keyless(name, bytes, &keys.repository)?;
            let slot = Slot::decode(body)?;
            let credential = seed.map(|seed| slot.open(&header, seed)).transpose()?;
            let opened = Opened::check(name, bytes, &keys.trust)?;
            if let (Some(seed), Some(credential)) = (seed, &credential) {
                slot.check_pin(&header, seed, credential)?;
            }
            let written = slot.encode();
            return told(Decoded::Slot(slot, credential.map(Into::into)), opened, Some(written));
        }
        ObjectKind::Parity => {
            let opened = Opened::check(name, bytes, &keys.trust)?;
            let head = SidecarHead::decode(name, opened.body, opened.body.len() as u64)?;
            let written = [&head.encode()[..], &opened.body[HEAD_LENGTH..]].concat();
            return told(Decoded::Sidecar(head), opened, Some(written));
        }
        _ => {}
    }
    let repository = keys.repository_with(name, bytes)?;
    if kind.is_pack() {
        let tail = repository.read_pack_tail(name, bytes.len() as u64)?;
        let (head, tail_bytes) = bytes.split_at(HEADER_LENGTH + tail.footer.frames_length as usize);
        check_groups(&head[HEADER_LENGTH..], &tail.groups)?;
        let opened = Opened::check_tail(Header::decode(name, bytes.len() as u64, head)?, tail_bytes, &keys.trust)?;
        let plaintext = opened.open_part(&keys.credential, 0, &opened.body[..tail.footer.tables_length as usize])?;
        let written = tail.tables.encode();
        let object = Some((opened.header.structure_epoch, opened.certificate, opened.hash));
        return Ok(Reading { object, ..Reading::new(Decoded::Pack(tail.tables), &plaintext, Some(&written)) });
    }
    if kind == ObjectKind::Snapshot {
        let snapshot = repository.read_snapshot(SnapshotId(name.id()), &SnapshotListing::default())?;
        let value = Decoded::Snapshot(snapshot.id, Box::new(snapshot.header), Box::new(snapshot.body));
        return told(value, Opened::check(name, bytes, &keys.trust)?, None);
    }
    let unsealed = repository.read_sealed(name)?;
    let plaintext = &unsealed.plaintext;
    let (value, written) = match kind {
        ObjectKind::Index => {
            let body = index(keys, plaintext, &unsealed.certificate)?;
            let written = body.encode();
            (Decoded::Index(body), written)
        }
        ObjectKind::Session => {
            let body = SessionBody::decode(plaintext, &keys.repository, &keys.trust)?;
            body.check_object(SessionId(name.id()), &unsealed.certificate)?;
            let written = body.encode();
            (Decoded::Session(body), written)
        }
        ObjectKind::Beat => BeatBody::decode(plaintext).map(|body| (Decoded::Beat(body), body.encode()))?,
        ObjectKind::Closed => {
            let body = ClosedBody::decode(plaintext)?;
            let written = body.encode();
            (Decoded::Closed(body), written)
        }
        ObjectKind::Tombstone => TombstoneBody::decode(plaintext).map(|body| (Decoded::Tombstone(body), body.encode()))?,
        ObjectKind::Withdrawn => WithdrawnBody::decode(plaintext).map(|body| (Decoded::Withdrawn(body), body.encode()))?,
        ObjectKind::Epoch => {
            let body = EpochBody::decode(plaintext)?;
            body.check_predecessor(name.number(), before)?;
            let written = body.encode();
            (Decoded::Epoch(body), written)
        }
        ObjectKind::Relocation => {
            let body = RelocationsBody::decode(plaintext)?;
            let written = body.encode();
            (Decoded::Relocations(body), written)
        }
        ObjectKind::Placement => {
            let body = PlacementBody::decode(plaintext)?;
            let written = body.encode();
            (Decoded::Placement(body), written)
        }
        ObjectKind::Hold => {
            let body = HoldBody::decode(plaintext, &unsealed.certificate)?;
            let written = body.encode();
            (Decoded::Hold(body), written)
        }
        _ => return Err(Error::new(ErrorKind::Invalid, format!("{kind:?} objects are reserved"))),
    };
    let opened = Opened::check(name, bytes, &keys.trust)?;
    let object = Some((opened.header.structure_epoch, unsealed.certificate, unsealed.hash));
    Ok(Reading { object, ..Reading::new(value, plaintext, Some(&written)) })
}

impl Keys {
    pub(super) fn certificate(&self, bytes: &[u8; Certificate::LENGTH]) -> Result<Certificate> {
        Certificate::decode(bytes, &self.repository, 0, &self.trust)
    }

    /// An open repository that holds one object and nothing else.
    pub(super) fn repository_with(&self, name: &ObjectName, bytes: &[u8]) -> Result<Repository> {
        let backend = MemoryBackend::new();
        backend.put(name, bytes)?;
        let runtime = Runtime::seeded(0, Timestamp::default(), 1);
        let config = Config {
            optional_flags: 0,
            write_flags: 0,
            created: Timestamp::default(),
            predecessor: [0; 32],
            second_predecessor: [0; 32],
            admin_key: self.credential.admin_key,
            structure_epoch: 1,
            restore_epoch: 1,
            pack_size: 0,
            data_frame_size: 0,
            meta_frame_size: 0,
            cutters: Vec::new(),
            restore_keys: Vec::new(),
            revoked: self.trust.revoked.clone(),
        };
        let backend: Arc<dyn Backend> = Arc::new(backend);
        Ok(Repository::assemble(backend, runtime, self.credential.clone(), config, self.repository, 1, Settings::default()))
    }
}

/// Whether each group of a whole frames region has its hash (PACK-4).
fn check_groups(frames: &[u8], hashes: &[u8]) -> Result<()> {
    let mut hasher = GroupHasher::default();
    hasher.update(frames);
    require(hasher.finish() == hashes, "PACK-4", "a group does not have its hash")
}
