//! The primitives under the format, and what the format derives with them, for known answers.

use super::Keys;
use super::decode::chunk_kind;
use crate::backend::{BackendExt, MemoryBackend, ObjectName};
use crate::crypto::{self, PassphraseCost, Sealer, Secret, Signer};
use crate::error::Result;
use crate::format::cursor::{Reader, Write};
use crate::format::object::Header;
use crate::format::parity::sidecar_of;
use crate::format::session::{SessionRecord, frame_sealer, refs_frame_sealer, snapshot_sealer};
use crate::format::slot::SlotKind;
use crate::format::snapshot::{Token, series_token, tag_token};
use crate::id::{ChunkId, FrameClass, SnapshotId};
use crate::parity::Codeword;
use crate::repository::{Key, heal};
use crate::runtime::{Runtime, Timestamp};

/// `keyed(key, bytes)`
pub fn keyed(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    crypto::keyed(key, bytes)
}

/// `derive(context, bytes)` with `length` bytes of output.
pub fn derive(context: &str, bytes: &[u8], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    crypto::derive_into(context, &[bytes], &mut out);
    out
}

/// `seal(key, number ‖ zeros, plaintext)`
pub fn seal(key: &[u8; 32], number: u32, plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = plaintext.to_vec();
    Sealer::new(&Secret::new(*key)).seal(number, &mut buffer);
    buffer
}

/// `sign(seed, context, bytes)`
pub fn sign(seed: &[u8; 32], context: &str, bytes: &[u8]) -> [u8; 64] {
    Signer::new(&Secret::new(*seed)).sign(context, bytes)
}

/// Whether the signature is that of the seed's public half.
pub fn verify(seed: &[u8; 32], context: &str, bytes: &[u8], signature: &[u8; 64]) -> bool {
    crypto::verify(&Signer::new(&Secret::new(*seed)).verifying_key(), context, bytes, signature)
}

/// The X-Wing public key of a seed.
pub fn public_key(seed: &[u8; 32]) -> Vec<u8> {
    crypto::public_key_of(&Secret::new(*seed)).to_vec()
}

/// Opens what `hpke` sealed to the public key of a seed.
pub fn hpke_open(seed: &[u8; 32], info: &[u8], encapsulated: &[u8; 1120], ciphertext: &[u8]) -> Option<Vec<u8>> {
    crypto::unwrap(&Secret::new(*seed), info, encapsulated, ciphertext).map(|plaintext| plaintext.to_vec())
}

/// The seed that a passphrase slot derives from the content of a passphrase file.
///
/// # Errors
/// Where that is no passphrase, or the cost is not allowed.
pub fn passphrase_seed(file: &[u8], salt: [u8; 32], cost: PassphraseCost) -> Result<Option<Secret>> {
    Key::passphrase_from_file(file)?.seed_for(&SlotKind::Passphrase { salt, cost }, &Runtime::system(2))
}

/// Reads a varint and nothing after it, and writes it again.
///
/// # Errors
/// The rule that is broken.
pub fn varint(bytes: &[u8]) -> Result<(u64, Vec<u8>)> {
    whole(bytes, Reader::varint, |out, value| out.put_varint(*value))
}

/// Reads a zigzag and nothing after it, and writes it again.
///
/// # Errors
/// The rule that is broken.
pub fn zigzag(bytes: &[u8]) -> Result<(i64, Vec<u8>)> {
    whole(bytes, Reader::zigzag, |out, value| out.put_zigzag(*value))
}

/// Reads a time and nothing after it, and writes it again.
///
/// # Errors
/// The rule that is broken.
pub fn time(bytes: &[u8]) -> Result<(Timestamp, Vec<u8>)> {
    whole(bytes, Reader::time, |out, value| out.put_time(*value))
}

fn whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    write: impl FnOnce(&mut Vec<u8>, &T),
) -> Result<(T, Vec<u8>)> {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader)?;
    reader.end()?;
    let mut written = Vec::new();
    write(&mut written, &value);
    Ok((value, written))
}

impl Keys {
    /// The id of a chunk of the kind with this number.
    ///
    /// # Errors
    /// Where there is no such kind.
    pub fn chunk_id(&self, kind: u8, bytes: &[u8]) -> Result<ChunkId> {
        self.ids.id_of(chunk_kind(kind)?, bytes)
    }

    /// The tokens of a text as a series and as a tag.
    pub fn tokens(&self, text: &str) -> [Token; 2] {
        [series_token(&self.credential.token_key, text), tag_token(&self.credential.token_key, text)]
    }

    /// A plaintext sealed as a session does it: as frame `number` of class data, meta, refs, and as the body of a snapshot.
    ///
    /// # Errors
    /// Where the credential cannot open the session's secret.
    pub fn sealed_by_session(&self, record: &SessionRecord, number: u32, snapshot: SnapshotId, plaintext: &[u8]) -> Result<[Vec<u8>; 4]> {
        use crate::format::object::StructureKeys;
        let (secret, id) = (record.open_secret(&self.credential.restore_keys)?, record.id());
        let seal = |sealer: Sealer, number| {
            let mut buffer = plaintext.to_vec();
            sealer.seal(number, &mut buffer);
            buffer
        };
        let zero = Secret::zero();
        let structure_key = self.credential.structure_key(record.structure_epoch()).unwrap_or(&zero);
        Ok([
            seal(frame_sealer(&secret, &id, FrameClass::Data), number),
            seal(frame_sealer(&secret, &id, FrameClass::Meta), number),
            seal(refs_frame_sealer(structure_key, &id), number),
            seal(snapshot_sealer(&secret, &id, &snapshot), 0),
        ])
    }

    /// A plaintext sealed as part `part` of the object with this header.
    pub fn sealed_part(&self, header: &Header, part: u32, plaintext: &[u8]) -> Option<Vec<u8>> {
        use crate::format::object::StructureKeys;
        let mut buffer = plaintext.to_vec();
        header.part_sealer(self.credential.structure_key(header.structure_epoch)?, part).seal(0, &mut buffer);
        Some(buffer)
    }
}

/// The recovery blocks of a codeword with these data blocks; `None` where they are too many.
pub fn recovery_blocks(data: &[Vec<u8>], recovery: usize) -> Option<Vec<Vec<u8>>> {
    let mut blocks: Vec<_> = data.iter().cloned().map(Some).collect();
    blocks.resize(data.len() + recovery, None);
    missing_blocks(&blocks, recovery)
}

/// The missing blocks of a codeword; `None` where they are too many.
pub fn missing_blocks(blocks: &[Option<Vec<u8>>], recovery: usize) -> Option<Vec<Vec<u8>>> {
    let length = blocks.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let mut codeword = Codeword::new(recovery, length);
    for block in blocks {
        match block {
            Some(block) => codeword.push(block),
            None => codeword.push_missing(),
        }
    }
    codeword.solve()
}

impl Keys {
    /// What healing makes of a damaged object by the body of its sidecar, which is signed here.
    ///
    /// # Errors
    /// The rule that is broken, or that too much is lost.
    pub fn heal(&self, name: &ObjectName, damaged: &[u8], body: &[u8]) -> Result<Vec<u8>> {
        let (backend, sidecar) = (MemoryBackend::new(), sidecar_of(name));
        backend.put(name, damaged)?;
        let header = Header { name: sidecar, repository: self.repository, structure_epoch: 1 };
        backend.put(&sidecar, &self.credential.author.object(&header, body))?;
        heal(&backend, &self.trust, name)?;
        backend.get(name, name.kind().size_max())
    }
}
