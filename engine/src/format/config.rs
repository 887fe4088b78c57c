//! Config generations (`format-spec/config.md`).

use super::cursor::{Reader, Write};
use crate::crypto::{KEM_X_WING, PUBLIC_KEY_LENGTH};
use crate::error::{Error, Result};
use crate::id::CredentialId;
use crate::limits::{
    CHUNK_SIZE_MAX, CUTTERS_MAX, FRAME_SIZE_MAX, FRAME_SIZE_MIN, PACK_SIZE_MAX, PACK_SIZE_MIN, RESTORE_KEYS_MAX, REVOKED_MAX,
};
use crate::runtime::Timestamp;

/// What everyone must agree on before reading or writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Flags that a reader may ignore.
    pub optional_flags: u64,
    /// Flags that allow reading only to whoever does not know them.
    pub write_flags: u64,
    /// When this generation was made.
    pub created: Timestamp,
    /// Trailer hash of the generation before; zeros in generation 1.
    pub predecessor: [u8; 32],
    /// Zeros, unless this generation joins a fork.
    pub second_predecessor: [u8; 32],
    /// Admin's verifying key.
    pub admin_key: [u8; 32],
    /// Structure key epoch for what is written now.
    pub structure_epoch: u32,
    /// Restore key epoch for what is written now.
    pub restore_epoch: u32,
    /// Bytes of frames after which a pack ends.
    pub pack_size: u32,
    /// Plaintext bytes after which a data frame ends.
    pub data_frame_size: u32,
    /// Plaintext bytes after which a meta or refs frame ends.
    pub meta_frame_size: u32,
    /// How content is cut; ids ascending.
    pub cutters: Vec<CutterConfig>,
    /// Public keys that session secrets are sealed to; epochs ascending.
    pub restore_keys: Vec<RestoreKey>,
    /// Credentials that were removed, ascending, each with the structure epoch from which on nothing that it wrote counts.
    pub revoked: Vec<(CredentialId, u32)>,
}

/// A cutter by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutterConfig {
    /// What entries name it by; never reused.
    pub id: u32,
    /// How it cuts.
    pub method: CutMethod,
}

/// How content is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutMethod {
    /// FastCDC 2020 with these sizes in bytes.
    Content {
        /// Smallest chunk but the last.
        min: u32,
        /// Average, a power of two.
        average: u32,
        /// Largest chunk.
        max: u32,
    },
    /// Chunks of this size in bytes.
    Fixed(u32),
}

/// A public key that session secrets are sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreKey {
    /// Its epoch, at least 1.
    pub epoch: u32,
    /// X-Wing public key.
    pub public_key: Box<[u8; PUBLIC_KEY_LENGTH]>,
}

/// The write flags that say how much parity there is.
const PARITY_FLAGS: u64 = 0x0f;

impl Config {
    /// How much of a data pack its sidecar can restore, in percent; 0: nothing has a sidecar.
    pub fn parity_percent(&self) -> u8 {
        (self.write_flags & PARITY_FLAGS) as u8
    }

    /// Sets [`Config::parity_percent`].
    pub(crate) fn set_parity_percent(&mut self, percent: u8) {
        self.write_flags = self.write_flags & !PARITY_FLAGS | u64::from(percent) & PARITY_FLAGS;
    }

    /// The write flags that this release does not know.
    pub(crate) fn unknown_write_flags(&self) -> u64 {
        self.write_flags & !PARITY_FLAGS
    }

    /// The body of a config object.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u64(self.optional_flags);
        bytes.put_u64(self.write_flags);
        bytes.put_u64(0);
        bytes.put_time(self.created);
        bytes.put_bytes(&self.predecessor);
        bytes.put_bytes(&self.second_predecessor);
        bytes.put_bytes(&self.admin_key);
        bytes.put_u32(self.structure_epoch);
        bytes.put_u32(self.restore_epoch);
        bytes.put_u32(self.pack_size);
        bytes.put_u32(self.data_frame_size);
        bytes.put_u32(self.meta_frame_size);
        bytes.put_u16(self.cutters.len() as u16);
        bytes.put_u16(self.restore_keys.len() as u16);
        bytes.put_u16(self.revoked.len() as u16);
        bytes.put_u16(0);
        for cutter in &self.cutters {
            let (kind, sizes) = match cutter.method {
                CutMethod::Content { min, average, max } => (1, [min, average, max]),
                CutMethod::Fixed(size) => (2, [size; 3]),
            };
            bytes.put_u32(cutter.id);
            bytes.put_u8(kind);
            bytes.put_bytes(&[0; 3]);
            sizes.into_iter().for_each(|size| bytes.put_u32(size));
        }
        for key in &self.restore_keys {
            bytes.put_u32(key.epoch);
            bytes.put_u16(KEM_X_WING);
            bytes.put_u16(0);
            bytes.put_bytes(&key.public_key[..]);
        }
        for (credential, epoch) in &self.revoked {
            bytes.put_bytes(&credential.0);
            bytes.put_u32(*epoch);
        }
        bytes
    }

    /// Whether this generation may come after the one with this trailer hash (CFG-2): one that joins a fork names both of its ends, and only
    /// one of them is in each copy of the repository.
    pub fn follows(&self, before: &[u8; 32]) -> bool {
        self.predecessor == *before || self.second_predecessor == *before
    }

    /// Reads the body of generation `generation`, checked against the pinned admin key where there is one (CFG-1 to CFG-8;
    /// that the predecessor is the right one is checked by whoever holds it).
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unsupported`] for an unknown required flag.
    pub fn decode(generation: u32, bytes: &[u8], admin_key: Option<&[u8; 32]>) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (optional_flags, write_flags, required) = (reader.u64()?, reader.u64()?, reader.u64()?);
        if required != 0 {
            let bit = required.trailing_zeros();
            return Err(Error::unsupported(
                "CFG-1",
                format!("the repository needs feature flag {bit}, which this icecore does not know; upgrade"),
            ));
        }
        let created = reader.time()?;
        let (predecessor, second_predecessor) = (reader.array::<32>()?, reader.array::<32>()?);
        let first = predecessor == [0; 32] && second_predecessor == [0; 32];
        if first != (generation == 1) || predecessor == [0; 32] && generation != 1 {
            return Err(Error::rule("CFG-2", format!("generation {generation} names the wrong predecessor")));
        }
        let own_admin_key: [u8; 32] = reader.array()?;
        if admin_key.is_some_and(|pinned| *pinned != own_admin_key) {
            return Err(Error::rule("CFG-3", "the config names another admin key than the one this credential pins"));
        }
        let (structure_epoch, restore_epoch) = (reader.u32()?, reader.u32()?);
        let (pack_size, data_frame_size, meta_frame_size) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let frame_sizes = FRAME_SIZE_MIN..=FRAME_SIZE_MAX;
        if !(PACK_SIZE_MIN..=PACK_SIZE_MAX).contains(&pack_size)
            || !frame_sizes.contains(&data_frame_size)
            || !frame_sizes.contains(&meta_frame_size)
        {
            return Err(Error::rule("CFG-4", format!("sizes {pack_size}, {data_frame_size}, {meta_frame_size} are outside their limits")));
        }
        let (cutter_count, key_count, revoked_count) = (reader.u16()?, reader.u16()?, reader.u16()?);
        reader.reserved(2, "CONV-4")?;
        let cutters = decode_cutters(&mut reader, cutter_count)?;
        let restore_keys = decode_restore_keys(&mut reader, key_count, restore_epoch)?;
        if structure_epoch == 0 {
            return Err(Error::rule("CFG-7", "structure epoch 0"));
        }
        let mut revoked = Vec::new();
        for _ in 0..revoked_count {
            revoked.push((CredentialId(reader.array()?), reader.u32()?));
        }
        if revoked.len() > REVOKED_MAX || !revoked.is_sorted_by(|a, b| a.0 < b.0) || revoked.iter().any(|(_, epoch)| *epoch == 0) {
            return Err(Error::rule("CFG-8", "removed credentials are not ascending, or too many"));
        }
        reader.end()?;
        Ok(Self {
            optional_flags,
            write_flags,
            created,
            predecessor,
            second_predecessor,
            admin_key: own_admin_key,
            structure_epoch,
            restore_epoch,
            pack_size,
            data_frame_size,
            meta_frame_size,
            cutters,
            restore_keys,
            revoked,
        })
    }
}

fn decode_cutters(reader: &mut Reader<'_>, count: u16) -> Result<Vec<CutterConfig>> {
    if count == 0 || usize::from(count) > CUTTERS_MAX {
        return Err(Error::rule("CFG-5", format!("{count} cutters")));
    }
    let mut cutters = Vec::new();
    for _ in 0..count {
        let (id, kind) = (reader.u32()?, reader.u8()?);
        reader.reserved(3, "CFG-5")?;
        let (min, average, max) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let method = if kind == 1 { CutMethod::Content { min, average, max } } else { CutMethod::Fixed(min) };
        let sizes_agree = kind == 1 || kind == 2 && min == average && average == max;
        if !sizes_agree || !method.is_allowed() {
            return Err(Error::rule("CFG-5", format!("cutter {id} of kind {kind} with sizes {min}, {average}, {max}")));
        }
        cutters.push(CutterConfig { id, method });
    }
    match cutters.is_sorted_by(|a, b| a.id < b.id) {
        true => Ok(cutters),
        false => Err(Error::rule("CFG-5", "cutters are not ascending")),
    }
}

fn decode_restore_keys(reader: &mut Reader<'_>, count: u16, epoch_now: u32) -> Result<Vec<RestoreKey>> {
    if count == 0 || usize::from(count) > RESTORE_KEYS_MAX {
        return Err(Error::rule("CFG-6", format!("{count} restore keys")));
    }
    let mut keys: Vec<RestoreKey> = Vec::new();
    for _ in 0..count {
        let (epoch, kem, reserved) = (reader.u32()?, reader.u16()?, reader.u16()?);
        if kem != KEM_X_WING || reserved != 0 || epoch <= keys.last().map_or(0, |key| key.epoch) {
            return Err(Error::rule("CFG-6", format!("restore key of epoch {epoch}, KEM {kem:#06x}")));
        }
        keys.push(RestoreKey { epoch, public_key: Box::new(reader.array()?) });
    }
    match keys.iter().any(|key| key.epoch == epoch_now) {
        true => Ok(keys),
        false => Err(Error::rule("CFG-6", format!("no restore key of epoch {epoch_now}"))),
    }
}

impl CutMethod {
    /// Whether `format-spec/chunking.md` allows these sizes.
    pub fn is_allowed(&self) -> bool {
        let size_max = CHUNK_SIZE_MAX as u32;
        match *self {
            Self::Content { min, average, max } => {
                min >= 64
                    && average >= 256
                    && min < average
                    && average < max
                    && max <= size_max
                    && min % 2 == 0
                    && max % 2 == 0
                    && average.is_power_of_two()
            }
            Self::Fixed(size) => size > 0 && size <= size_max && size % 512 == 0,
        }
    }
}
