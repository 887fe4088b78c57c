//! Session records, wraps, and the objects that accompany a session (`format-spec/session.md`).

use super::certificate::{Certificate, Roles, Trust};
use super::cursor::{Reader, Write};
use super::object::Author;
use crate::crypto::{ENCAPSULATED_LENGTH, KEM_X_WING, SIGNATURE_LENGTH, Sealer, Secret, derive, unwrap, verify_repeated, wrap};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::RestoreKey;
use crate::id::{FrameClass, RepositoryId, SessionId, SnapshotId};
use crate::limits::{CLOSED_SNAPSHOTS_MAX, LABEL_MAX, WRAPS_MAX};
use crate::runtime::{Entropy, Timestamp};

/// The one suite: AES-256-GCM-SIV, BLAKE3, HPKE with X-Wing.
const SUITE: u8 = 1;
const SIGNATURE_CONTEXT: &str = "icecore 1 session record";
const WRAP_INFO: &[u8] = b"icecore 1 wrap";
const WRAP_LENGTH: usize = 8 + ENCAPSULATED_LENGTH + SEALED_SECRET_LENGTH;
const SEALED_SECRET_LENGTH: usize = 48;
const RECORD_LENGTH_MIN: usize = 296;

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// Backs up.
    Writer = 1,
    /// Restores.
    Reader = 2,
    /// Collects garbage or repairs.
    Collector = 3,
}

/// A session secret sealed to a restore key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    restore_epoch: u32,
    encapsulated: Box<[u8; ENCAPSULATED_LENGTH]>,
    sealed_secret: [u8; SEALED_SECRET_LENGTH],
}

/// Who a session is, and how its frames are opened. Copied as it is wherever its frames go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    bytes: Vec<u8>,
    id: SessionId,
    kind: SessionKind,
    structure_epoch: u32,
    commitment: [u8; 32],
    certificate: Certificate,
    wraps: Vec<Wrap>,
}

impl SessionRecord {
    /// Starts a session: its record, and its secret unless it only reads.
    pub(crate) fn create(
        author: &Author,
        kind: SessionKind,
        structure_epoch: u32,
        restore_key: &RestoreKey,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Option<Secret>)> {
        let mut nonce = [0; 32];
        entropy.fill(&mut nonce);
        let id = session_id(author.certificate.verifying_key(), &nonce);
        let mut secret = None;
        let mut wraps = Vec::new();
        let mut commitment = [0; 32];
        if kind != SessionKind::Reader {
            let mut fresh = Secret::zero();
            entropy.fill(fresh.bytes_mut());
            commitment = commit(&fresh, &id);
            let (encapsulated, sealed) = wrap(&restore_key.public_key, &wrap_info(&id, restore_key.epoch), fresh.bytes(), entropy)?;
            let sealed_secret = sealed.try_into().map_err(|_| Error::new(ErrorKind::Internal, "a wrap has the wrong length"))?;
            wraps.push(Wrap { restore_epoch: restore_key.epoch, encapsulated, sealed_secret });
            secret = Some(fresh);
        }
        let mut bytes = Vec::new();
        bytes.put_u32((RECORD_LENGTH_MIN + wraps.len() * WRAP_LENGTH) as u32);
        bytes.put_u8(SUITE);
        bytes.put_u8(kind as u8);
        bytes.put_u16(wraps.len() as u16);
        bytes.put_u32(structure_epoch);
        bytes.put_u32(0);
        bytes.put_bytes(&nonce);
        bytes.put_bytes(&commitment);
        bytes.put_bytes(author.certificate.bytes());
        for wrap in &wraps {
            bytes.put_u32(wrap.restore_epoch);
            bytes.put_u16(KEM_X_WING);
            bytes.put_u16(0);
            bytes.put_bytes(&wrap.encapsulated[..]);
            bytes.put_bytes(&wrap.sealed_secret);
        }
        let signature = author.signer.sign(SIGNATURE_CONTEXT, &bytes);
        bytes.put_bytes(&signature);
        let certificate = author.certificate.clone();
        Ok((Self { bytes, id, kind, structure_epoch, commitment, certificate, wraps }, secret))
    }

    /// Reads the record at the front of `reader` (SES-1 to SES-7).
    pub(crate) fn decode(reader: &mut Reader<'_>, repository: &RepositoryId, trust: &Trust) -> Result<Self> {
        let (length, wrap_count) = {
            let mut ahead = reader.clone();
            let length = ahead.u32()? as usize;
            ahead.bytes(2)?;
            (length, usize::from(ahead.u16()?))
        };
        if wrap_count > WRAPS_MAX || length != RECORD_LENGTH_MIN + wrap_count * WRAP_LENGTH {
            return Err(Error::rule("SES-1", format!("a session record of {length} bytes with {wrap_count} wraps")));
        }
        let bytes = reader.bytes(length)?;
        let mut reader = Reader::new(bytes);
        reader.u32()?;
        let (suite, kind) = (reader.u8()?, reader.u8()?);
        if suite != SUITE {
            return Err(Error::unsupported("SES-2", format!("suite {suite} is not known here; a newer icecore reads it")));
        }
        let kind = match kind {
            1 => SessionKind::Writer,
            2 => SessionKind::Reader,
            3 => SessionKind::Collector,
            _ => return Err(Error::rule("SES-3", format!("session kind {kind}"))),
        };
        reader.u16()?;
        let structure_epoch = reader.u32()?;
        reader.reserved(4, "SES-4")?;
        if structure_epoch == 0 {
            return Err(Error::rule("SES-4", "structure epoch 0"));
        }
        let (nonce, commitment): ([u8; 32], [u8; 32]) = (reader.array()?, reader.array()?);
        let certificate_bytes: [u8; Certificate::LENGTH] = reader.array()?;
        let wraps = decode_wraps(&mut reader, wrap_count)?;
        if (kind == SessionKind::Reader) != wraps.is_empty() || kind == SessionKind::Reader && commitment != [0; 32] {
            return Err(Error::rule("SES-5", format!("{wrap_count} wraps for a {kind:?}")));
        }
        let certificate = Certificate::decode(&certificate_bytes, repository, structure_epoch, trust)?;
        let needed = match kind {
            SessionKind::Writer => Roles::BACKUP,
            SessionKind::Reader => Roles::RESTORE.and(Roles::MAINTAIN),
            SessionKind::Collector => Roles::MAINTAIN,
        };
        if !certificate.roles().intersect(needed) {
            return Err(Error::rule("SES-6", format!("a credential for {} cannot be a {kind:?}", certificate.roles())));
        }
        let signature: [u8; SIGNATURE_LENGTH] = reader.array()?;
        if !verify_repeated(certificate.verifying_key(), SIGNATURE_CONTEXT, &bytes[..length - SIGNATURE_LENGTH], &signature) {
            return Err(Error::rule("SES-7", "the record is not signed by its certificate's key"));
        }
        let id = session_id(certificate.verifying_key(), &nonce);
        Ok(Self { bytes: bytes.to_vec(), id, kind, structure_epoch, commitment, certificate, wraps })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What only its secret fits: of two records with one id it tells which is meant.
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// What it does.
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Whose structure key seals its refs frames.
    pub fn structure_epoch(&self) -> u32 {
        self.structure_epoch
    }

    /// Its credential.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Opens the session's secret with a restore key (SES-8).
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where no wrap is for one of these keys, SES-8 where the wrap is not right.
    pub(crate) fn open_secret(&self, restore_keys: &[(u32, Secret)]) -> Result<Secret> {
        let found = self.wraps.iter().find_map(|wrap| Some((wrap, restore_keys.iter().find(|(epoch, _)| *epoch == wrap.restore_epoch)?)));
        let Some((wrap, (epoch, seed))) = found else {
            let message = format!("this credential cannot open what session {} sealed; use one with the role restore", self.id);
            return Err(Error::new(ErrorKind::Unauthorized, message));
        };
        let secret = unwrap(seed, &wrap_info(&self.id, *epoch), &wrap.encapsulated, &wrap.sealed_secret)
            .and_then(|bytes| Secret::from_slice(&bytes));
        match secret {
            Some(secret) if commit(&secret, &self.id) == self.commitment => Ok(secret),
            _ => Err(Error::rule("SES-8", format!("the secret of session {} does not open", self.id))),
        }
    }
}

fn decode_wraps(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Wrap>> {
    let mut wraps: Vec<Wrap> = Vec::new();
    for _ in 0..count {
        let (restore_epoch, kem, reserved) = (reader.u32()?, reader.u16()?, reader.u16()?);
        if kem != KEM_X_WING || reserved != 0 || restore_epoch <= wraps.last().map_or(0, |wrap| wrap.restore_epoch) {
            return Err(Error::rule("SES-5", format!("a wrap for restore epoch {restore_epoch} by KEM {kem:#06x}")));
        }
        wraps.push(Wrap { restore_epoch, encapsulated: Box::new(reader.array()?), sealed_secret: reader.array()? });
    }
    Ok(wraps)
}

fn session_id(verifying_key: &[u8; 32], nonce: &[u8; 32]) -> SessionId {
    let mut id = [0; 16];
    id.copy_from_slice(&derive("icecore 1 session id", &[verifying_key, nonce]).bytes()[..16]);
    SessionId(id)
}

fn commit(secret: &Secret, id: &SessionId) -> [u8; 32] {
    *derive("icecore 1 session commitment", &[secret.bytes(), &id.0]).bytes()
}

fn wrap_info(id: &SessionId, restore_epoch: u32) -> Vec<u8> {
    [WRAP_INFO, &id.0, &restore_epoch.to_le_bytes()].concat()
}

/// The sealer of a session's data or meta frames.
pub(crate) fn frame_sealer(secret: &Secret, session: &SessionId, class: FrameClass) -> Sealer {
    Sealer::new(&derive("icecore 1 frame", &[secret.bytes(), &session.0, &[SUITE, class as u8]]))
}

/// The sealer of a session's refs frames.
pub(crate) fn refs_frame_sealer(structure_key: &Secret, session: &SessionId) -> Sealer {
    Sealer::new(&derive("icecore 1 refs frame", &[structure_key.bytes(), &session.0, &[SUITE]]))
}

/// The sealer of a snapshot's body.
pub(crate) fn snapshot_sealer(secret: &Secret, session: &SessionId, snapshot: &SnapshotId) -> Sealer {
    Sealer::new(&derive("icecore 1 snapshot body", &[secret.bytes(), &session.0, &snapshot.0]))
}

/// What `sessions/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionBody {
    /// The newest epoch when the session began; 0 for none.
    pub epoch: u32,
    /// When it began, by its own clock.
    pub started: Timestamp,
    /// Who it is.
    pub record: SessionRecord,
    /// Host and process, for people.
    pub label: String,
}

impl SessionBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.epoch);
        bytes.put_time(self.started);
        bytes.put_blob(self.record.bytes());
        bytes.put_blob(self.label.as_bytes());
        bytes
    }

    /// Whether the record is that of the object in which it stands (SESS-1).
    ///
    /// # Errors
    /// SESS-1.
    pub fn check_object(&self, session: SessionId, certificate: &Certificate) -> Result<()> {
        match self.record.id() == session && self.record.certificate() == certificate {
            true => Ok(()),
            false => {
                Err(Error::rule("SESS-1", format!("the record of session {} stands in the object of session {session}", self.record.id())))
            }
        }
    }

    /// Reads it. That record and object agree is checked by [`Self::check_object`].
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8], repository: &RepositoryId, trust: &Trust) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (epoch, started) = (reader.u32()?, reader.time()?);
        let mut record_reader = Reader::new(reader.blob()?);
        let record = SessionRecord::decode(&mut record_reader, repository, trust)?;
        record_reader.end()?;
        let label = std::str::from_utf8(reader.blob()?).ok().filter(|label| label.len() <= LABEL_MAX);
        let label = label.ok_or_else(|| Error::rule("SESS-2", "the label is no short text"))?.to_owned();
        reader.end()?;
        Ok(Self { epoch, started, record, label })
    }
}

/// What `closed/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedBody {
    /// Whether the session finished what it came for; false where it was given up, even if its snapshots count.
    pub finished: bool,
    /// When, by the clock of whoever closed it.
    pub now: Timestamp,
    /// Snapshots that the session published, ascending.
    pub snapshots: Vec<SnapshotId>,
}

impl ClosedBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u8(if self.finished { 1 } else { 2 });
        bytes.put_time(self.now);
        bytes.put_varint(self.snapshots.len() as u64);
        self.snapshots.iter().for_each(|id| bytes.put_bytes(&id.0));
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let outcome = reader.u8()?;
        if !(1..=2).contains(&outcome) {
            return Err(Error::rule("CLOSED-1", format!("outcome {outcome}")));
        }
        let now = reader.time()?;
        let count = reader.count_at_most(CLOSED_SNAPSHOTS_MAX, SnapshotId::LENGTH, "CLOSED-2")?;
        let snapshots = (0..count).map(|_| reader.array().map(SnapshotId)).collect::<Result<Vec<_>>>()?;
        if !snapshots.is_sorted_by(|a, b| a < b) {
            return Err(Error::rule("CLOSED-2", "snapshots are not ascending"));
        }
        reader.end()?;
        Ok(Self { finished: outcome == 1, now, snapshots })
    }
}

/// What `beats/` says: when, by the session's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatBody {
    /// The session's clock, for people.
    pub now: Timestamp,
}

impl BeatBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_time(self.now);
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let now = reader.time()?;
        reader.end()?;
        Ok(Self { now })
    }
}

/// What `tombstones/` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneBody {
    /// Whose collector gave the session up.
    pub epoch: u32,
    /// The collector's clock, for people.
    pub now: Timestamp,
}

impl TombstoneBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.epoch);
        bytes.put_time(self.now);
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (epoch, now) = (reader.u32()?, reader.time()?);
        reader.end()?;
        Ok(Self { epoch, now })
    }
}

/// Why a snapshot was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawnReason {
    /// Its writer found its own tombstone.
    Tombstone = 1,
    /// A collector settled it.
    Settled = 2,
    /// It was forgotten.
    Forgotten = 3,
}

/// What `withdrawn/` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithdrawnBody {
    /// The snapshot's session, or [`WithdrawnBody::SESSION_UNKNOWN`].
    pub session: SessionId,
    /// Why.
    pub reason: WithdrawnReason,
    /// When, for people.
    pub now: Timestamp,
}

impl WithdrawnBody {
    /// The session of a snapshot that breaks a rule, where nothing else tells which session made it.
    pub const SESSION_UNKNOWN: SessionId = SessionId([0; 16]);

    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&self.session.0);
        bytes.put_u8(self.reason as u8);
        bytes.put_time(self.now);
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let session = SessionId(reader.array()?);
        let reason = match reader.u8()? {
            1 => WithdrawnReason::Tombstone,
            2 => WithdrawnReason::Settled,
            3 => WithdrawnReason::Forgotten,
            n => return Err(Error::rule("WITHDRAWN-1", format!("reason {n}"))),
        };
        let now = reader.time()?;
        reader.end()?;
        Ok(Self { session, reason, now })
    }
}
