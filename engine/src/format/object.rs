//! What every object begins and ends with: header, certificate, signature, hash (`format-spec/object.md`).

use super::certificate::{Certificate, Trust};
use super::cursor::{Reader, Write};
use crate::backend::{ObjectKind, ObjectName};
use crate::crypto::{SIGNATURE_LENGTH, Sealer, Secret, Signer, derive, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RepositoryId;

/// First bytes of every object.
pub const MAGIC: &[u8; 7] = b"icecore";
/// The one format version.
pub const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_LENGTH: usize = 64;
/// Bytes of the trailer: certificate, signature, hash.
pub const TRAILER_LENGTH: usize = Certificate::LENGTH + SIGNATURE_LENGTH + 32;

/// Where the version stands in the header.
const VERSION_AT: usize = 8;
const SIGNATURE_CONTEXT: &str = "icecore 1 object";
const PART_CONTEXT: &str = "icecore 1 object part";

/// The first 64 bytes of an object, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The object's name, which the header repeats.
    pub name: ObjectName,
    /// The repository that it belongs to.
    pub repository: RepositoryId,
    /// Which structure key sealed its sealed parts; 0 where the kind has none.
    pub structure_epoch: u32,
}

impl Header {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        bytes.put_bytes(MAGIC);
        bytes.put_u8(self.name.kind().number());
        bytes.put_u16(VERSION);
        bytes.put_u16(0);
        bytes.put_u32(self.name.number());
        bytes.put_bytes(&self.name.id());
        bytes.put_bytes(&self.repository.0);
        bytes.put_u32(self.structure_epoch);
        bytes.resize(HEADER_LENGTH, 0);
        bytes.try_into().expect("the fields above have 52 bytes")
    }

    /// Reads the header of the object called `name`, `size` bytes long (OBJ-1 to OBJ-6).
    ///
    /// # Errors
    /// The rule that is broken; [`ErrorKind::Unsupported`] for another format version.
    pub fn decode(name: &ObjectName, size: u64, bytes: &[u8]) -> Result<Self> {
        if size < (HEADER_LENGTH + TRAILER_LENGTH) as u64 || size > name.kind().size_max() || bytes.len() < HEADER_LENGTH {
            return Err(Error::rule("OBJ-1", format!("{size} bytes are no size for this kind of object")));
        }
        let mut reader = Reader::new(bytes);
        if &reader.array::<7>()? != MAGIC {
            return Err(Error::rule("OBJ-2", "this is no icecore object"));
        }
        let kind = reader.u8()?;
        if kind != name.kind().number() {
            return Err(Error::rule("OBJ-3", format!("the object says that its kind is {kind}")));
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(Error::unsupported("OBJ-4", format!("format version {version} is not known here; a newer icecore reads it")));
        }
        let reserved = reader.u16()?;
        let (number, id) = (reader.u32()?, reader.array::<16>()?);
        let repository = RepositoryId(reader.array()?);
        let structure_epoch = reader.u32()?;
        if reserved != 0 || reader.array::<12>()? != [0; 12] {
            return Err(Error::rule("OBJ-5", "reserved bytes of the header are not zero"));
        }
        if number != name.number() || id != name.id() {
            return Err(Error::rule("OBJ-6", "the object says that it has another name"));
        }
        Ok(Self { name: *name, repository, structure_epoch })
    }

    /// Which sealer opens part `part`.
    pub(crate) fn part_sealer(&self, structure_key: &Secret, part: u32) -> Sealer {
        Sealer::new(&derive(PART_CONTEXT, &[structure_key.bytes(), &self.encode(), &part.to_le_bytes()]))
    }
}

/// An object whose header, hash, certificate and signature were found right.
#[derive(Debug)]
pub struct Opened<'a> {
    /// Its header.
    pub header: Header,
    /// What lies between header (of a pack: frames region) and trailer.
    pub body: &'a [u8],
    /// Who wrote it.
    pub certificate: Certificate,
    /// The hash at its end.
    pub hash: [u8; 32],
}

impl<'a> Opened<'a> {
    /// Checks a whole object that is no pack (OBJ-1 to OBJ-11).
    ///
    /// # Errors
    /// The rule that is broken, with the object's name in front.
    pub fn check(name: &ObjectName, bytes: &'a [u8], trust: &Trust) -> Result<Self> {
        let check = || {
            let header =
                Header::decode(name, bytes.len() as u64, bytes).map_err(|error| Self::refuse_version(name, bytes, trust, error))?;
            Self::check_tail(header, bytes.get(HEADER_LENGTH..).unwrap_or_default(), trust)
        };
        check().map_err(|error| error.context(name))
    }

    /// Of another version is only what somebody signed who may write it; anybody can say so (OBJ-4).
    fn refuse_version(name: &ObjectName, bytes: &'a [u8], trust: &Trust, error: Error) -> Error {
        let signed = || {
            let head = *bytes.first_chunk::<HEADER_LENGTH>()?;
            let mut known = head;
            known[VERSION_AT..VERSION_AT + 2].copy_from_slice(&VERSION.to_le_bytes());
            let header = Header::decode(name, bytes.len() as u64, &known).ok()?;
            Self::check_signed(header, &head, bytes.get(HEADER_LENGTH..)?, trust).ok()
        };
        match error.kind() == ErrorKind::Unsupported && signed().is_none() {
            true => error.with_kind(ErrorKind::Damaged),
            false => error,
        }
    }

    /// Checks what follows the header (of a pack: the frames region) to the end of the object (OBJ-7 to OBJ-11).
    ///
    /// # Errors
    /// The rule that is broken.
    pub(crate) fn check_tail(header: Header, tail: &'a [u8], trust: &Trust) -> Result<Self> {
        Self::check_signed(header, &header.encode(), tail, trust)
    }

    fn check_signed(header: Header, head: &[u8; HEADER_LENGTH], tail: &'a [u8], trust: &Trust) -> Result<Self> {
        trust.check_repository(&header)?;
        let Tail { body, certificate, signature, covered_hash, hash } = Tail::check(head, tail)?;
        let certificate = Certificate::decode(certificate, &header.repository, header.structure_epoch, trust)?;
        if !certificate.roles().intersect(header.name.kind().writers()) {
            return Err(Error::rule("OBJ-9", format!("a credential for {} may not write this", certificate.roles())));
        }
        if !verify(certificate.verifying_key(), SIGNATURE_CONTEXT, &covered_hash, signature) {
            return Err(Error::rule("OBJ-10", "the signature is not that of the certificate's key"));
        }
        let clear = matches!(header.name.kind(), ObjectKind::Config | ObjectKind::Slot);
        if clear != (header.structure_epoch == 0) {
            return Err(Error::rule("OBJ-11", format!("structure epoch {} for this kind of object", header.structure_epoch)));
        }
        Ok(Self { header, body, certificate, hash: *hash })
    }

    /// Opens sealed part `part` of the body's `sealed` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where the credential lacks the structure key (OBJ-12), OBJ-13 where the part does not open.
    pub(crate) fn open_part(&self, keys: &dyn StructureKeys, part: u32, sealed: &[u8]) -> Result<Vec<u8>> {
        open_part(&self.header, keys, part, sealed)
    }
}

/// What can be said of an object that is no pack without any key (OBJ-1 to OBJ-8): its header and its body.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_keyless<'a>(name: &ObjectName, bytes: &'a [u8], repository: &RepositoryId) -> Result<(Header, &'a [u8])> {
    let header = Header::decode(name, bytes.len() as u64, bytes)?;
    Trust { repository: Some(*repository), ..Trust::default() }.check_repository(&header)?;
    let tail = Tail::check(&header.encode(), bytes.get(HEADER_LENGTH..).unwrap_or_default())?;
    Ok((header, tail.body))
}

/// What follows the header, with the right hash at its end.
struct Tail<'a> {
    body: &'a [u8],
    certificate: &'a [u8; Certificate::LENGTH],
    signature: &'a [u8; SIGNATURE_LENGTH],
    covered_hash: [u8; 32],
    hash: &'a [u8; 32],
}

impl<'a> Tail<'a> {
    /// OBJ-8.
    fn check(head: &[u8; HEADER_LENGTH], tail: &'a [u8]) -> Result<Self> {
        let short = || Error::rule("OBJ-1", "the object is shorter than its trailer");
        let (before_hash, hash) = tail.split_last_chunk::<32>().ok_or_else(short)?;
        let (covered, signature) = before_hash.split_last_chunk::<SIGNATURE_LENGTH>().ok_or_else(short)?;
        let (body, certificate) = covered.split_last_chunk::<{ Certificate::LENGTH }>().ok_or_else(short)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(head).update(covered);
        let covered_hash = *hasher.finalize().as_bytes();
        match hasher.update(signature).finalize().as_bytes() == hash {
            true => Ok(Self { body, certificate, signature, covered_hash, hash }),
            false => Err(Error::rule("OBJ-8", "the bytes do not have the hash at their end")),
        }
    }
}

/// As [`Opened::open_part`], for whoever holds only the header.
pub(crate) fn open_part(header: &Header, keys: &dyn StructureKeys, part: u32, sealed: &[u8]) -> Result<Vec<u8>> {
    let epoch = header.structure_epoch;
    let Some(key) = keys.structure_key(epoch) else {
        let message =
            format!("{}: sealed in key epoch {epoch}, which this credential does not hold; ask for a newer credential", header.name);
        return Err(Error::new(ErrorKind::Unauthorized, message));
    };
    let mut plaintext = sealed.to_vec();
    match header.part_sealer(key, part).open(0, &mut plaintext) {
        true => Ok(plaintext),
        false => Err(Error::rule("OBJ-13", format!("sealed part {part} does not open"))),
    }
}

/// Gives structure keys by epoch.
pub(crate) trait StructureKeys {
    /// The key of that epoch, if it is in the credential's hands.
    fn structure_key(&self, epoch: u32) -> Option<&Secret>;
}

/// Who writes: a certificate and the key that it certifies.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) certificate: Certificate,
    pub(crate) signer: Signer,
}

impl Author {
    /// The trailer of an object whose covered bytes before the certificate are `header ‖ body`.
    pub(crate) fn trailer(&self, header: &Header, body: &[u8]) -> [u8; TRAILER_LENGTH] {
        self.trailer_of(&header.encode(), body)
    }

    /// As [`Self::trailer`], whatever stands in place of the header.
    pub(crate) fn trailer_of(&self, header: &[u8], body: &[u8]) -> [u8; TRAILER_LENGTH] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(header).update(body);
        self.trailer_after(hasher)
    }

    /// As [`Self::trailer`], of what has gone into a hash already.
    pub(crate) fn trailer_after(&self, mut hasher: blake3::Hasher) -> [u8; TRAILER_LENGTH] {
        hasher.update(self.certificate.bytes());
        let signature = self.signer.sign(SIGNATURE_CONTEXT, hasher.finalize().as_bytes());
        let mut trailer = [0; TRAILER_LENGTH];
        let (certificate, rest) = trailer.split_at_mut(Certificate::LENGTH);
        certificate.copy_from_slice(self.certificate.bytes());
        rest[..SIGNATURE_LENGTH].copy_from_slice(&signature);
        rest[SIGNATURE_LENGTH..].copy_from_slice(hasher.update(&signature).finalize().as_bytes());
        trailer
    }

    /// A whole object with a clear body.
    pub(crate) fn object(&self, header: &Header, body: &[u8]) -> Vec<u8> {
        [&header.encode()[..], body, &self.trailer(header, body)].concat()
    }

    /// A whole object whose body is one sealed part.
    pub(crate) fn sealed_object(&self, header: &Header, structure_key: &Secret, mut plaintext: Vec<u8>) -> Vec<u8> {
        header.part_sealer(structure_key, 0).seal(0, &mut plaintext);
        self.object(header, &plaintext)
    }
}
