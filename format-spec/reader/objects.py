"""What every object begins and ends with, certificates and session records: the pages `object` and `session`.

`check_outside` looks at what needs no key at all (OBJ-1 to OBJ-8), `check_writer` at who wrote the object (CERT and
OBJ-9 to OBJ-11), `Object.part` opens a sealed part (OBJ-12, OBJ-13). What a body means is told elsewhere.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Dict, List, Optional, Tuple

import names
from conventions import (KEM_XWING, ENCAPSULATED, ZERO_NONCE, Cursor, RuleError, derive, hash32, hpke_open, need, signed,
                         u8, u32, unseal, unsupported_unless)
from names import Name, NO_ID

HEADER, TRAILER, CERTIFICATE, SIGNATURE = 64, 248, 152, 64
MAGIC = b"icecore"
BACKUP, MAINTAIN, RESTORE, ADMIN = 1, 2, 4, 8
WRITER, READER, COLLECTOR = 1, 2, 3
GROUP = 1 << 20

LIMITS = {names.CONFIG: 1 << 20, names.SLOT: 1 << 17, names.INDEX: 3 << 24, names.SNAPSHOT: 1 << 20,
          names.SESSION: 1 << 20, names.BEAT: 1 << 20, names.CLOSED: 1 << 20, names.WITHDRAWN: 1 << 20,
          names.PARITY: 201_327_616, **{kind: 201_326_592 for kind in names.PACKS}}
OTHER_LIMIT = 1 << 24
ROLES = {names.CONFIG: ADMIN, names.SLOT: ADMIN, names.DATA_PACK: 3, names.META_PACK: 3, names.REFS_PACK: 3,
         names.INDEX: 3, names.SNAPSHOT: BACKUP, names.SESSION: 7, names.BEAT: 7, names.CLOSED: 7, names.WITHDRAWN: 7,
         names.TOMBSTONE: MAINTAIN, names.EPOCH: MAINTAIN, names.RELOCATION: MAINTAIN, names.PLACEMENT: MAINTAIN,
         names.HOLD: MAINTAIN | ADMIN,
         names.PARITY: 15}


class Source:
    """Bytes that can be read piece by piece: of a file, or held in memory."""

    def __init__(self, data: bytes = b"", file: Optional[BinaryIO] = None):
        self.data, self.file = data, file
        self.size = file.seek(0, 2) if file else len(data)

    def read(self, offset: int, size: int) -> bytes:
        if not self.file:
            return self.data[offset:offset + size]
        self.file.seek(offset)
        return self.file.read(size)


@dataclass(frozen=True)
class Certificate:
    roles: int
    generation: int
    repository: bytes
    domain: bytes
    credential: bytes
    verifying_key: bytes


@dataclass
class Trust:
    """What a reader believes in: the repository, the pinned admin key, who was revoked, and its structure keys.

    `revoked` tells for each revoked credential from which structure epoch on nothing that it wrote counts.
    """
    repository: bytes
    admin: bytes
    structure_keys: Dict[int, bytes] = field(default_factory=dict)
    revoked: Dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PackLayout:
    """Where the parts of a pack lie."""
    frames: int
    tables: int
    groups: int

    def tables_at(self) -> int:
        return HEADER + self.frames

    def groups_at(self) -> int:
        return self.tables_at() + self.tables

    def size(self) -> int:
        return self.groups_at() + 32 * self.groups + 16 + TRAILER


@dataclass
class Object:
    name: Name
    header: bytes
    structure_epoch: int
    body: bytes                      # of a pack: nothing
    layout: Optional[PackLayout]     # of packs only
    certificate_bytes: bytes
    signature: bytes
    covered: bytes                   # hash(covered)
    hash: bytes
    certificate: Optional[Certificate] = None

    def part(self, number: int, sealed: bytes, trust: Trust, rule: str = "OBJ-13") -> bytes:
        """The plaintext of a sealed part."""
        key = trust.structure_keys.get(self.structure_epoch)
        need(key, "OBJ-12", f"no structure key of epoch {self.structure_epoch}: this credential is too old")
        plain = unseal(derive("icecore 1 object part", key + self.header + u32(number)), ZERO_NONCE, sealed)
        need(plain is not None, rule, f"sealed part {number} does not open")
        return plain


def decode_layout(source: Source) -> PackLayout:
    """The footer of a pack: PACK-1 to PACK-3."""
    cursor = Cursor(source.read(source.size - TRAILER - 16, 16))
    layout = PackLayout(cursor.u32(), cursor.u32(), cursor.u32())
    cursor.zeros(4, "PACK-1")
    need(1 <= layout.frames <= 1 << 27 and layout.tables <= 1 << 25, "PACK-1", "length of frames or tables out of range")
    need(layout.groups == -(-layout.frames // GROUP), "PACK-2", f"{layout.groups} group hashes")
    need(layout.size() == source.size, "PACK-3", f"parts add up to {layout.size()}, object has {source.size}")
    return layout


def check_outside(name: Name, source: Source, repository: bytes, version: int = 1) -> Object:
    """OBJ-1 to OBJ-8: all that can be said without any key."""
    limit = LIMITS.get(name.kind, OTHER_LIMIT)
    need(HEADER + TRAILER <= source.size <= limit, "OBJ-1", f"object of {source.size} bytes")
    header = source.read(0, HEADER)
    cursor = Cursor(header)
    need(cursor.take(7) == MAGIC, "OBJ-2", "no icecore object")
    need(cursor.u8() == name.kind, "OBJ-3", "kind is not that of the name")
    unsupported_unless(cursor.u16() == version, "OBJ-4", "version is not 1")
    reserved, number, ident, of, epoch = cursor.u16(), cursor.u32(), cursor.take(16), cursor.take(16), cursor.u32()
    need(reserved == 0 and not any(cursor.take(12)), "OBJ-5", "reserved bytes are not zero")
    need((ident, number) == (name.id, name.number), "OBJ-6", "id or number are not those of the name")
    need(of == repository, "OBJ-7", "object of another repository")
    layout = decode_layout(source) if name.kind in names.PACKS else None
    return _check_hash(name, source, header, epoch, layout)


def _check_hash(name: Name, source: Source, header: bytes, epoch: int, layout: Optional[PackLayout]) -> Object:
    begin = layout.tables_at() if layout else HEADER
    rest = source.read(begin, source.size - begin)
    covered, signature, digest = header + rest[:-96], rest[-96:-32], rest[-32:]
    need(hash32(covered + signature) == digest, "OBJ-8", "hash is wrong")
    body = b"" if layout else rest[:-TRAILER]
    return Object(name, header, epoch, body, layout, covered[-CERTIFICATE:], signature, hash32(covered), digest)


def check_certificate(data: bytes, repository: bytes, admin: bytes) -> Certificate:
    """CERT-1 to CERT-5."""
    cursor = Cursor(data)
    roles = cursor.u8()
    need(0 < roles < 16 and (roles < ADMIN or roles == ADMIN), "CERT-1", f"roles {roles}")
    cursor.zeros(3, "CERT-2")
    certificate = Certificate(roles, cursor.u32(), cursor.take(16), cursor.take(16), cursor.take(16), cursor.take(32))
    signature = cursor.take(64)
    cursor.end()
    need(certificate.repository == repository, "CERT-3", "certificate of another repository")
    if roles == ADMIN:
        plain = certificate.domain == certificate.credential == NO_ID
        need(plain and certificate.verifying_key == admin, "CERT-4", "not the pinned admin")
    need(signed(admin, "icecore 1 certificate", data[:88], signature), "CERT-5", "admin did not sign the certificate")
    return certificate


def check_not_revoked(certificate: Certificate, structure_epoch: int, trust: Trust) -> None:
    """CERT-6, for an object or session record of this structure epoch."""
    since = trust.revoked.get(certificate.credential)
    need(since is None or structure_epoch < since, "CERT-6", f"credential {certificate.credential.hex()} was revoked")


def check_writer(obj: Object, trust: Trust) -> None:
    """CERT-1 to CERT-6 and OBJ-9 to OBJ-11."""
    certificate = check_certificate(obj.certificate_bytes, trust.repository, trust.admin)
    check_not_revoked(certificate, obj.structure_epoch, trust)
    need(certificate.roles & ROLES.get(obj.name.kind, 15), "OBJ-9", f"roles {certificate.roles} may not write this")
    good = signed(certificate.verifying_key, "icecore 1 object", obj.covered, obj.signature)
    need(good, "OBJ-10", "signature is wrong")
    need((obj.structure_epoch == 0) == (obj.name.kind in (names.CONFIG, names.SLOT)), "OBJ-11",
         f"structure epoch {obj.structure_epoch}")
    obj.certificate = certificate


def check_object(name: Name, source: Source, trust: Trust) -> Object:
    try:
        obj = check_outside(name, source, trust.repository)
    except RuleError as error:
        if error.rule == "OBJ-4":
            error.unsupported = name.kind in names.PACKS or _is_signed_as_other_version(name, source, trust)
        raise
    check_writer(obj, trust)
    return obj


def _is_signed_as_other_version(name: Name, source: Source, trust: Trust) -> bool:
    """Whether somebody who may write such objects wrote this one as another version; anybody can say that it is of one."""
    try:
        check_writer(check_outside(name, source, trust.repository, int.from_bytes(source.read(8, 2), "little")), trust)
        return True
    except RuleError:
        return False


# Session records

WRAP, RECORD_FIXED = 1176, 232


@dataclass(frozen=True)
class Wrap:
    restore_epoch: int
    encapsulated: bytes
    sealed: bytes


@dataclass(frozen=True)
class Record:
    session: bytes                   # the session id
    suite: int
    kind: int
    structure_epoch: int
    nonce: bytes
    commitment: bytes
    certificate: Certificate
    certificate_bytes: bytes
    wraps: Tuple[Wrap, ...]
    data: bytes                      # the whole record

    def frame_key(self, frame_class: int, secret: Optional[bytes], structure_keys: Dict[int, bytes]) -> Optional[bytes]:
        """The key of the session's frames of a class; None where what it takes is not at hand."""
        if frame_class == 2:
            key = structure_keys.get(self.structure_epoch)
            return key and derive("icecore 1 refs frame", key + self.session + u8(self.suite))
        return secret and derive("icecore 1 frame", secret + self.session + u8(self.suite) + u8(frame_class))

    def body_key(self, secret: bytes, snapshot: bytes) -> bytes:
        return derive("icecore 1 snapshot body", secret + self.session + snapshot)


def session_id(verifying_key: bytes, nonce: bytes) -> bytes:
    return derive("icecore 1 session id", verifying_key + nonce)[:16]


def decode_record(cursor: Cursor, trust: Trust) -> Record:
    """The session record at the cursor: SES-1 to SES-7."""
    start = cursor.at
    fixed = Cursor(cursor.take(RECORD_FIXED))
    length, suite, kind, count, epoch = fixed.u32(), fixed.u8(), fixed.u8(), fixed.u16(), fixed.u32()
    need(count <= 16 and length == 296 + WRAP * count, "SES-1", f"record of {length} bytes with {count} wraps")
    unsupported_unless(suite == 1, "SES-2", f"suite {suite}")
    need(1 <= kind <= 3, "SES-3", f"session kind {kind}")
    fixed.zeros(4, "SES-4")
    need(epoch, "SES-4", "structure epoch is 0")
    nonce, commitment, certificate_bytes = fixed.take(32), fixed.take(32), fixed.take(CERTIFICATE)
    wraps = _decode_wraps(Cursor(cursor.take(WRAP * count)), count)
    _check_wraps(kind, commitment, wraps)
    certificate = check_certificate(certificate_bytes, trust.repository, trust.admin)
    check_not_revoked(certificate, epoch, trust)
    role = {WRITER: BACKUP, READER: RESTORE | MAINTAIN, COLLECTOR: MAINTAIN}[kind]
    need(certificate.roles & role, "SES-6", f"roles {certificate.roles} for a session of kind {kind}")
    end = cursor.at
    signature = cursor.take(SIGNATURE)
    good = signed(certificate.verifying_key, "icecore 1 session record", cursor.data[start:end], signature)
    need(good, "SES-7", "signature is wrong")
    return Record(session_id(certificate.verifying_key, nonce), suite, kind, epoch, nonce, commitment, certificate,
                  certificate_bytes, wraps, cursor.data[start:cursor.at])


def _decode_wraps(cursor: Cursor, count: int) -> Tuple[Wrap, ...]:
    wraps: List[Wrap] = []
    for _ in range(count):
        epoch, kem, reserved = cursor.u32(), cursor.u16(), cursor.u16()
        need(kem == KEM_XWING and reserved == 0, "SES-5", "KEM or reserved field of a wrap")
        need(epoch > (wraps[-1].restore_epoch if wraps else 0), "SES-5", "restore epochs not ascending")
        wraps.append(Wrap(epoch, cursor.take(ENCAPSULATED), cursor.take(48)))
    return tuple(wraps)


def _check_wraps(kind: int, commitment: bytes, wraps: Tuple[Wrap, ...]) -> None:
    if kind == READER:
        need(not wraps and not any(commitment), "SES-5", "a reader with a wrap or commitment")
    else:
        need(wraps, "SES-5", "no wrap")


def record_of_blob(blob: bytes, trust: Trust) -> Record:
    cursor = Cursor(blob)
    record = decode_record(cursor, trust)
    cursor.end()
    return record


def open_secret(record: Record, restore_seeds: Dict[int, bytes]) -> Optional[bytes]:
    """The session secret (SES-8); None where the record has no wrap for any of our restore keys."""
    for wrap in record.wraps:
        seed = restore_seeds.get(wrap.restore_epoch)
        if not seed:
            continue
        info = b"icecore 1 wrap" + record.session + u32(wrap.restore_epoch)
        secret = hpke_open(seed, info, wrap.encapsulated, wrap.sealed)
        need(secret is not None, "SES-8", "the wrap does not open")
        commitment = derive("icecore 1 session commitment", secret + record.session)
        need(commitment == record.commitment, "SES-8", "the commitment is not that of the secret")
        return secret
    return None
