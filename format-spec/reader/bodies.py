"""The bodies of the small objects: the pages `config`, `keys`, `session` (companions), `snapshot`, `epoch`, `relocations`, `placement`, `holds`.

Each `decode_*` takes plaintext and checks the rules of one page in their order.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple, Union

from argon2.low_level import Type, hash_secret_raw

import names
from conventions import (ENCAPSULATED, KEM_XWING, PUBLIC_KEY, ZERO_NONCE, Cursor, RuleError, Time, derive, hpke_open,
                         keyed, need, public_of, u32, unseal, unsupported_unless, xwing_public)
from names import NO_ID
from objects import ADMIN, BACKUP, CERTIFICATE, RESTORE, WRITER, Certificate, Object, Record, Trust, check_certificate, \
    record_of_blob

NO_HASH = bytes(32)


def ascending(items: list) -> bool:
    return all(a < b for a, b in zip(items, items[1:]))


# Config

@dataclass(frozen=True)
class Cutter:
    id: int
    kind: int
    min: int
    average: int
    max: int


@dataclass(frozen=True)
class RestoreKey:
    epoch: int
    public_key: bytes


@dataclass(frozen=True)
class Config:
    optional_flags: int
    write_flags: int
    created: Time
    predecessor: bytes
    second_predecessor: bytes
    admin: bytes
    structure_epoch: int
    restore_epoch: int
    pack_size: int
    data_frame_size: int
    meta_frame_size: int
    cutters: List[Cutter]
    restore_keys: List[RestoreKey]
    revoked: List[Tuple[bytes, int]]     # credential, structure epoch


def decode_config(body: bytes, number: int, before: Optional[bytes], admin: bytes) -> Config:
    """`before` is the trailer hash of the generation before."""
    cursor = Cursor(body)
    optional, write, required = cursor.u64(), cursor.u64(), cursor.u64()
    lowest = (required & -required).bit_length() - 1
    unsupported_unless(required == 0, "CFG-1", f"required flag {lowest}")
    created, predecessor, second, key = cursor.time(), cursor.take(32), cursor.take(32), cursor.take(32)
    sizes = [cursor.u32() for _ in range(5)]
    counts = [cursor.u16() for _ in range(3)]
    cursor.zeros(2)
    need((predecessor == NO_HASH) == (number == 1), "CFG-2", "only generation 1 has no predecessor")
    need((before or NO_HASH) in (predecessor, second), "CFG-2", "no predecessor is the generation before")
    need(number > 1 or second == NO_HASH, "CFG-2", "generation 1 with a second predecessor")
    need(key == admin, "CFG-3", "not the pinned admin key")
    frames_fit = all(4096 <= size <= 4_194_304 for size in sizes[3:])
    need(65_536 <= sizes[2] <= 134_217_728 and frames_fit, "CFG-4", "pack or frame size out of range")
    cutters = _decode_cutters(cursor, counts[0])
    restore_keys = _decode_restore_keys(cursor, counts[1])
    need(sizes[1] in [key.epoch for key in restore_keys], "CFG-6", "the restore epoch has no key")
    need(sizes[0], "CFG-7", "structure epoch is 0")
    need(counts[2] <= 4096, "CFG-8", f"{counts[2]} revoked credentials")
    cursor.fits(counts[2])
    revoked = [(cursor.take(16), cursor.u32()) for _ in range(counts[2])]
    need(ascending([credential for credential, _ in revoked]), "CFG-8", "revoked credentials not ascending")
    need(all(epoch for _, epoch in revoked), "CFG-8", "a credential revoked from structure epoch 0 on")
    cursor.end()
    return Config(optional, write, created, predecessor, second, key, *sizes, cutters, restore_keys, revoked)


def _decode_cutters(cursor: Cursor, count: int) -> List[Cutter]:
    need(1 <= count <= 64, "CFG-5", f"{count} cutters")
    cursor.fits(count)
    cutters: List[Cutter] = []
    for _ in range(count):
        ident, kind = cursor.u32(), cursor.u8()
        cursor.zeros(3, "CFG-5")
        cutter = Cutter(ident, kind, cursor.u32(), cursor.u32(), cursor.u32())
        need(not cutters or ident > cutters[-1].id, "CFG-5", "cutter ids not ascending")
        need(_cutter_allowed(cutter), "CFG-5", f"parameters of cutter {ident}")
        cutters.append(cutter)
    return cutters


def _cutter_allowed(cutter: Cutter) -> bool:
    low, average, high = cutter.min, cutter.average, cutter.max
    if cutter.kind == 1:
        shape = low % 2 == high % 2 == 0 and average & (average - 1) == 0 and average >= 256
        return shape and 64 <= low < average < high <= 4_194_304
    return cutter.kind == 2 and low == average == high and low % 512 == 0 and 0 < low <= 4_194_304


def _decode_restore_keys(cursor: Cursor, count: int) -> List[RestoreKey]:
    need(1 <= count <= 256, "CFG-6", f"{count} restore keys")
    cursor.fits(count)
    keys: List[RestoreKey] = []
    for _ in range(count):
        epoch, kem, reserved = cursor.u32(), cursor.u16(), cursor.u16()
        need(epoch > (keys[-1].epoch if keys else 0), "CFG-6", "restore epochs not ascending")
        need(kem == KEM_XWING and reserved == 0, "CFG-6", "KEM or reserved bytes")
        keys.append(RestoreKey(epoch, cursor.take(PUBLIC_KEY)))
    return keys


# Key slots

@dataclass(frozen=True)
class Slot:
    kind: int
    state: int
    roles: int
    memory: int
    passes: int
    lanes: int
    salt: bytes
    credential: bytes
    pin: bytes
    public_key: bytes
    encapsulated: bytes
    sealed: bytes


@dataclass(frozen=True)
class Credential:
    admin: bytes
    structure_keys: Dict[int, bytes]
    token_key: bytes
    certificate: Certificate
    certificate_bytes: bytes
    signing_seed: bytes
    chunk_id_key: Optional[bytes]
    cutting_key: Optional[bytes]
    restore_seeds: Dict[int, bytes]
    admin_seed: Optional[bytes]


def decode_slot(body: bytes) -> Slot:
    """SLOT-1 to SLOT-5."""
    cursor = Cursor(body)
    kind, state, roles, reserved = cursor.u8(), cursor.u8(), cursor.u8(), cursor.u8()
    memory, passes, lanes, salt = cursor.u32(), cursor.u32(), cursor.u32(), cursor.take(32)
    credential, pin, public = cursor.take(16), cursor.take(32), cursor.take(PUBLIC_KEY)
    encapsulated, length = cursor.take(ENCAPSULATED), cursor.u32()
    unsupported_unless(1 <= kind <= 4, "SLOT-1", f"slot kind {kind}")
    need(1 <= state <= 2, "SLOT-2", f"state {state}")
    need(reserved == 0 and 0 < roles < 16, "SLOT-3", f"roles {roles} or the reserved byte")
    if kind == 1:
        cheap = 8 * lanes <= memory <= 65_536 and 1 <= passes <= 16 and 1 <= lanes <= 16
        need(cheap, "SLOT-4", f"Argon2id with {memory} KiB, {passes} passes, {lanes} lanes")
    else:
        need(not (memory or passes or lanes or any(salt)), "SLOT-4", "Argon2id parameters in a slot without passphrase")
    need(length == cursor.left() and length <= 65_536, "SLOT-5", f"sealed length {length}")
    need((length == 0) == (state == 2), "SLOT-5", "sealed credential in a removed slot, or none in an active one")
    need(state == 1 or not any(encapsulated), "SLOT-5", "encapsulated key in a removed slot")
    return Slot(kind, state, roles, memory, passes, lanes, salt, credential, pin, public, encapsulated, cursor.take(length))


def passphrase_seed(passphrase: bytes, slot: Slot) -> bytes:
    return hash_secret_raw(passphrase, slot.salt, slot.passes, slot.memory, slot.lanes, 32, Type.ID, 0x13)


def passphrase_of_file(data: bytes) -> bytes:
    """A passphrase file without one trailing line end."""
    return data[:-2] if data.endswith(b"\r\n") else data[:-1] if data.endswith(b"\n") else data


def key_file_seed(text: bytes) -> bytes:
    """The seed in a key file; ValueError where the file is none."""
    parts = text.strip(b" \t\r\n\x0b\x0c").split(b":")
    digits = b"0123456789abcdef"
    well_formed = len(parts) == 3 and parts[0] == b"icecore-key-1" and [len(p) for p in parts[1:]] == [64, 8]
    if not well_formed or any(c not in digits for p in parts[1:] for c in p):
        raise ValueError("not a key file")
    seed = bytes.fromhex(parts[1].decode())
    if derive("icecore 1 key file", seed)[:4].hex().encode() != parts[2]:
        raise ValueError("the check digits of the key file are wrong: a digit was mistyped")
    return seed


def open_slot(obj: Object, slot: Slot, seed: bytes) -> Credential:
    """SLOT-6 to SLOT-9. The caller checks the object against the admin key that comes out (SLOT-10), and the pin (SLOT-11)."""
    need(xwing_public(seed) == slot.public_key, "SLOT-6", "the passphrase or key file is not that of this slot")
    info = b"icecore 1 slot" + obj.header + obj.body[:1312]
    plain = hpke_open(seed, info, slot.encapsulated, slot.sealed)
    need(plain is not None, "SLOT-7", "the sealed credential does not open")
    return decode_credential(plain, slot.roles, slot.credential, obj.header[32:48])


def check_pin(obj: Object, slot: Slot, seed: bytes, credential: Credential) -> None:
    """SLOT-11."""
    expected = bytes(32) if slot.kind == 3 else keyed(derive("icecore 1 slot pin", seed), obj.header[32:48] + credential.admin)
    need(slot.pin == expected, "SLOT-11", "whoever made the slot did not know the passphrase or key file")


FIELDS = {1: 32, 2: 36, 3: 32, 4: 184, 5: 32, 6: 32, 7: 38, 8: 32}
REPEATED = (2, 7)


def _credential_fields(data: bytes) -> Dict[int, List[bytes]]:
    cursor, found, last = Cursor(data), {tag: [] for tag in FIELDS}, 0
    while cursor.left():
        tag, length = cursor.u8(), cursor.u16()
        value = cursor.take(length)
        need(tag > last or (tag == last and tag in REPEATED), "SLOT-8", f"field {tag} after {last}")
        unsupported_unless(tag in FIELDS or tag > 127, "SLOT-8", f"field {tag}")
        last = tag
        if tag in FIELDS:
            need(length == FIELDS[tag], "SLOT-8", f"field {tag} of {length} bytes")
            found[tag].append(value)
    for tag in (1, 2, 3, 4):
        need(found[tag], "SLOT-8", f"field {tag} is missing")
    return found


def _by_epoch(fields: List[bytes]) -> Dict[int, bytes]:
    epochs = [int.from_bytes(value[:4], "little") for value in fields]
    need(ascending(epochs), "SLOT-8", "epochs not ascending")
    return dict(zip(epochs, (value[4:] for value in fields)))


def decode_credential(data: bytes, slot_roles: int, credential: bytes, repository: bytes) -> Credential:
    """SLOT-8 and SLOT-9."""
    fields = _credential_fields(data)
    structure_keys, restore = _by_epoch(fields[2]), _by_epoch(fields[7])
    need(all(value[:2] == b"\x7a\x64" for value in restore.values()), "SLOT-8", "KEM of a restore key")
    admin, certificate_bytes, seed = fields[1][0], fields[4][0][:CERTIFICATE], fields[4][0][CERTIFICATE:]
    certificate = check_certificate(certificate_bytes, repository, admin)
    need(certificate.credential == credential, "SLOT-9", "credential id is not the slot's")
    need(certificate.roles == (ADMIN if slot_roles == ADMIN else slot_roles & 7), "SLOT-9", "roles are not the slot's")
    for tag, roles in ((5, BACKUP | RESTORE), (6, BACKUP), (7, RESTORE), (8, ADMIN)):
        need(bool(fields[tag]) == bool(slot_roles & roles), "SLOT-9", f"field {tag} for roles {slot_roles}")
    need(public_of(seed) == certificate.verifying_key, "SLOT-9", "the signing seed is not the certificate's")
    need(not fields[8] or public_of(fields[8][0]) == admin, "SLOT-9", "the admin signing seed is not admin's")
    one = {tag: values[0] if values else None for tag, values in fields.items()}
    return Credential(admin, structure_keys, one[3], certificate, certificate_bytes, seed, one[5], one[6],
                      {epoch: value[2:] for epoch, value in restore.items()}, one[8])


# Companions of a session

@dataclass(frozen=True)
class Session:
    epoch: int
    started: Time
    record: Record
    label: str


@dataclass(frozen=True)
class Beat:
    now: Time


@dataclass(frozen=True)
class Closed:
    outcome: int
    now: Time
    snapshots: List[bytes]


@dataclass(frozen=True)
class Tombstone:
    epoch: int
    now: Time


@dataclass(frozen=True)
class Withdrawn:
    session: bytes
    reason: int
    now: Time


def text(data: bytes, limit: int, rule: str) -> str:
    need(len(data) <= limit, rule, f"text of {len(data)} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RuleError(rule, "text is not UTF-8") from None


def decode_session(plain: bytes, obj: Object, trust: Trust) -> Session:
    cursor = Cursor(plain)
    epoch, started = cursor.u32(), cursor.time()
    record = record_of_blob(cursor.blob(), trust)
    need(record.session == obj.name.id, "SESS-1", "record of another session")
    need(record.certificate_bytes == obj.certificate_bytes, "SESS-1", "certificate is not the record's")
    label = text(cursor.blob(), 1024, "SESS-2")
    cursor.end()
    return Session(epoch, started, record, label)


def decode_beat(plain: bytes, *_: object) -> Beat:
    cursor = Cursor(plain)
    beat = Beat(cursor.time())
    cursor.end()
    return beat


def decode_closed(plain: bytes, *_: object) -> Closed:
    cursor = Cursor(plain)
    outcome = cursor.u8()
    need(1 <= outcome <= 2, "CLOSED-1", f"outcome {outcome}")
    now, count = cursor.time(), cursor.varint()
    need(count <= 4096, "CLOSED-2", f"{count} snapshots")
    cursor.fits(count)
    snapshots = [cursor.take(16) for _ in range(count)]
    need(ascending(snapshots), "CLOSED-2", "snapshots not ascending")
    cursor.end()
    return Closed(outcome, now, snapshots)


def decode_tombstone(plain: bytes, *_: object) -> Tombstone:
    cursor = Cursor(plain)
    tombstone = Tombstone(cursor.u32(), cursor.time())
    cursor.end()
    return tombstone


def decode_withdrawn(plain: bytes, *_: object) -> Withdrawn:
    cursor = Cursor(plain)
    session, reason = cursor.take(16), cursor.u8()
    need(1 <= reason <= 3, "WITHDRAWN-1", f"reason {reason}")
    withdrawn = Withdrawn(session, reason, cursor.time())
    cursor.end()
    return withdrawn


# Epochs

@dataclass(frozen=True)
class Epoch:
    predecessor: bytes
    session: bytes
    now: Time
    packs: List[Tuple[int, bytes]]
    snapshots: List[bytes]


def decode_epoch(plain: bytes, number: int, before: Optional[bytes] = None) -> Epoch:
    """`before` is the trailer hash of the epoch before, None where that has been removed."""
    cursor = Cursor(plain)
    predecessor, session, now, count = cursor.take(32), cursor.take(16), cursor.time(), cursor.varint()
    need(count <= 524_288, "EPOCH-1", f"{count} packs")
    cursor.fits(count)
    packs = [(cursor.u8(), cursor.take(16)) for _ in range(count)]
    need(ascending(packs) and all(kind in names.PACKS for kind, _ in packs), "EPOCH-1", "packs not ascending, or kinds")
    count = cursor.varint()
    need(count <= 524_288, "EPOCH-1", f"{count} snapshots")
    cursor.fits(count)
    snapshots = [cursor.take(16) for _ in range(count)]
    need(ascending(snapshots), "EPOCH-1", "snapshots not ascending")
    cursor.end()
    expected = NO_HASH if number == 1 else before
    need(expected is None or predecessor == expected, "EPOCH-2", "predecessor is not the epoch before")
    return Epoch(predecessor, session, now, packs, snapshots)


# Relocations

@dataclass(frozen=True)
class Relocated:
    session: bytes
    number: int
    chunks: int
    moved: List[Tuple[int, int, int]]      # position, counter of the new frame, position there


@dataclass(frozen=True)
class Relocations:
    session: bytes
    now: Time
    frames: List[Relocated]


def decode_relocations(plain: bytes, *_: object) -> Relocations:
    cursor = Cursor(plain)
    session, now, count = cursor.take(16), cursor.time(), cursor.varint()
    need(1 <= count <= 65_536, "RELOC-1", f"{count} frames")
    cursor.fits(count)
    frames: List[Relocated] = []
    for _ in range(count):
        old, number = cursor.take(16), cursor.u32()
        need(not frames or (old, number) > (frames[-1].session, frames[-1].number), "RELOC-1", "frames not ascending")
        need(number >> 30 <= 1 and old != session, "RELOC-2", "a frame of another class, or of the collector")
        frames.append(Relocated(old, number, *_relocated_chunks(cursor)))
    cursor.end()
    return Relocations(session, now, frames)


def _relocated_chunks(cursor: Cursor) -> Tuple[int, List[Tuple[int, int, int]]]:
    chunks = cursor.varint()
    need(1 <= chunks <= 16_384, "RELOC-3", f"{chunks} chunks")
    bits = int.from_bytes(cursor.take(-(-chunks // 8)), "little")
    need(0 < bits < 1 << chunks, "RELOC-3", "no bit set, or an unused one")
    moved = []
    for position in (bit for bit in range(chunks) if bits >> bit & 1):
        counter, to = cursor.varint(), cursor.varint()
        need(counter < 1 << 30 and to < 16_384, "RELOC-4", f"counter {counter}, position {to}")
        moved.append((position, counter, to))
    return chunks, moved


# Placement

@dataclass(frozen=True)
class Tier:
    form: int
    rank: int
    frozen: bool
    removable: bool
    retired: bool
    tier: bytes
    revision: int
    minimum_days: int
    latency: int
    prices: List[int]                      # storage, retrieval, writes, reads
    name: str
    label: str
    address: str
    storage_class: str
    classes: List[Tuple[str, int, int, int]]


@dataclass(frozen=True)
class Placed:
    pack: bytes
    size: int
    hash: bytes
    since: int
    until: int


@dataclass(frozen=True)
class PlacedPacks:
    form: int
    tier: bytes
    packs: List[Placed]


def decode_placement(plain: bytes, *_: object) -> Union[Tier, PlacedPacks]:
    cursor = Cursor(plain)
    form = cursor.u8()
    unsupported_unless(form in (1, 2), "PLACE-1", f"form {form}")
    body = _tier(cursor) if form == 1 else _placed_packs(cursor)
    cursor.end()
    return body


def _tier(cursor: Cursor) -> Tier:
    rank, properties = cursor.u8(), cursor.u8()
    need(rank and properties < 8, "PLACE-2", f"rank {rank}, properties {properties}")
    cursor.zeros(1)
    tier, revision = cursor.take(16), cursor.u32()
    need(revision, "PLACE-2", "revision 0")
    days, latency, prices = cursor.u32(), cursor.u32(), [cursor.u64() for _ in range(4)]
    name, label, address = _tier_name(cursor), _tier_text(cursor, 256), _tier_text(cursor, 4096)
    need(address, "PLACE-3", "no address")
    storage_class, count = _tier_text(cursor, 256), cursor.varint()
    need(count <= 16, "PLACE-4", f"{count} classes")
    cursor.fits(count)
    classes: List[Tuple[str, int, int, int]] = []
    for _ in range(count):
        thaw = _tier_name(cursor)
        need(not classes or thaw > classes[-1][0], "PLACE-4", "classes not ascending")
        classes.append((thaw, cursor.u32(), cursor.u64(), cursor.u64()))
    return Tier(1, rank, bool(properties & 1), bool(properties & 2), bool(properties & 4), tier, revision, days, latency, prices,
                name, label, address, storage_class, classes)


def _tier_name(cursor: Cursor) -> str:
    name = cursor.blob()
    need(re.fullmatch(rb"[a-z0-9-]{1,64}", name), "PLACE-3", f"{name!r} is no name")
    return name.decode()


def _tier_text(cursor: Cursor, most: int) -> str:
    data = cursor.blob()
    need(len(data) <= most and not any(byte < 0x20 or byte == 0x7F for byte in data), "PLACE-3", "a text too long, or with control characters")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RuleError("PLACE-3", "no UTF-8") from None


def _placed_packs(cursor: Cursor) -> PlacedPacks:
    cursor.zeros(3)
    tier, count = cursor.take(16), cursor.varint()
    need(1 <= count <= 65_536, "PLACE-5", f"{count} packs")
    cursor.fits(count)
    placed: List[Placed] = []
    for _ in range(count):
        pack = cursor.take(16)
        need(not placed or pack > placed[-1].pack, "PLACE-5", "packs not ascending")
        size, digest = cursor.u32(), cursor.take(32)
        need(329 <= size <= 201_326_592, "PLACE-6", f"size {size}")
        since, until = cursor.u64(), cursor.u64()
        need(since <= until, "PLACE-6", f"since {since}, until {until}")
        placed.append(Placed(pack, size, digest, since, until))
    return PlacedPacks(2, tier, placed)


# Holds

LEGAL, LOCK, RELEASE = 1, 2, 3


@dataclass(frozen=True)
class Hold:
    action: int
    now: Time
    until: Time
    released: bytes
    note: str
    snapshots: List[Tuple[bytes, bytes, bytes]]      # snapshot, its session, its series token


def decode_hold(plain: bytes, obj: Object, *_: object) -> Hold:
    cursor = Cursor(plain)
    action = cursor.u8()
    need(1 <= action <= 3, "HOLD-1", f"action {action}")
    now, until, released = cursor.time(), cursor.time(), cursor.take(16)
    right = (0, 0) < until < (253_402_300_800, 0) if action == LOCK else until == (0, 0)
    need(right, "HOLD-2", f"until {until} for action {action}")
    need((action == RELEASE) == (released != NO_ID), "HOLD-3", f"released {released.hex()} for action {action}")
    note = text(cursor.blob(), 1024, "HOLD-4")
    count = cursor.varint()
    need(count <= 65_536, "HOLD-5", f"{count} snapshots")
    cursor.fits(count)
    snapshots = [(cursor.take(16), cursor.take(16), cursor.take(16)) for _ in range(count)]
    need(ascending([held[0] for held in snapshots]), "HOLD-5", "snapshots not ascending")
    need((action == RELEASE) == (not snapshots), "HOLD-5", f"{count} snapshots for action {action}")
    cursor.end()
    need(action != RELEASE or obj.certificate.roles == ADMIN, "HOLD-6", "a release that is not by admin")
    return Hold(action, now, until, released, note, snapshots)


# Snapshots

@dataclass(frozen=True)
class SnapshotHeader:
    series_token: bytes
    sequence: int
    previous: bytes
    time: Time
    source_kind: int
    retention_class: int
    epoch: int
    refs_root: bytes
    entries: int
    file_bytes: int
    frames: int
    new_bytes: int
    tag_tokens: List[bytes]
    record: Record


@dataclass(frozen=True)
class SnapshotBody:
    tree_root: bytes
    key_kind: int
    whole: int
    started: Time
    ended: Time
    series: str
    host: str
    program: str
    paths: List[bytes]
    tags: List[str]


def decode_snapshot_header(plain: bytes, certificate: bytes, trust: Trust) -> SnapshotHeader:
    """SNAP-3 to SNAP-7. `certificate` is the object's."""
    cursor = Cursor(plain)
    token, sequence, previous, time = cursor.take(16), cursor.u64(), cursor.take(16), cursor.time()
    source, retention, reserved, epoch = cursor.u8(), cursor.u8(), cursor.u16(), cursor.u32()
    refs_root = cursor.take(32)
    totals = [cursor.u64() for _ in range(4)]
    need(sequence and (sequence == 1) == (previous == NO_ID), "SNAP-3", f"sequence {sequence} and previous")
    unsupported_unless(1 <= source <= 4, "SNAP-4", f"source kind {source}")
    need(reserved == 0, "SNAP-5", "reserved field is not zero")
    count = cursor.varint()
    need(count <= 256, "SNAP-6", f"{count} tags")
    cursor.fits(count)
    tokens = [cursor.take(16) for _ in range(count)]
    need(ascending(tokens), "SNAP-6", "tag tokens not ascending")
    record = record_of_blob(cursor.blob(), trust)
    need(record.kind == WRITER and record.certificate_bytes == certificate, "SNAP-7", "not the record of the writer")
    cursor.end()
    return SnapshotHeader(token, sequence, previous, time, source, retention, epoch, refs_root, *totals, tokens, record)


def series_token(token_key: bytes, series: bytes) -> bytes:
    return keyed(derive("icecore 1 series token", token_key), series)[:16]


def tag_token(token_key: bytes, tag: bytes) -> bytes:
    return keyed(derive("icecore 1 tag token", token_key), tag)[:16]


def _blobs(cursor: Cursor, most: int, length: int) -> List[bytes]:
    count = cursor.varint()
    need(count <= most, "SNAP-10", f"{count} paths or tags")
    cursor.fits(count)
    items = [cursor.blob() for _ in range(count)]
    need(all(len(item) <= length for item in items), "SNAP-10", "path or tag too long")
    return items


def decode_snapshot_body(plain: bytes, header: SnapshotHeader, token_key: bytes) -> SnapshotBody:
    """SNAP-9 to SNAP-11."""
    cursor = Cursor(plain)
    root, key_kind, whole, reserved = cursor.take(32), cursor.u8(), cursor.u8(), cursor.u16()
    unsupported_unless(1 <= key_kind <= 2, "SNAP-9", f"key kind {key_kind}")
    need(whole <= 1 and reserved == 0, "SNAP-9", "whole, or the reserved field")
    started, ended = cursor.time(), cursor.time()
    texts = [text(cursor.blob(), 4096, "SNAP-10") for _ in range(3)]
    paths = _blobs(cursor, 4096, 65_536)
    raw_tags = _blobs(cursor, 256, 4096)
    tags = [text(tag, 4096, "SNAP-10") for tag in raw_tags]
    need(ascending(raw_tags) and all(raw_tags), "SNAP-10", "tags empty or not ascending")
    cursor.end()
    tokens = sorted(tag_token(token_key, tag) for tag in raw_tags)
    same = tokens == header.tag_tokens and series_token(token_key, texts[0].encode()) == header.series_token
    need(same, "SNAP-11", "tokens are not those of series and tags")
    return SnapshotBody(root, key_kind, whole, started, ended, *texts, paths, tags)


@dataclass(frozen=True)
class Snapshot:
    id: bytes
    header: SnapshotHeader
    body: Optional[SnapshotBody]     # None where our credential does not open it


def split_snapshot(obj: Object, trust: Trust) -> Tuple[bytes, bytes]:
    """The plaintext of the header and the sealed body: SNAP-1, OBJ-12, SNAP-2."""
    cursor = Cursor(obj.body)
    header_length, body_length = cursor.u32(), cursor.u32()
    need(header_length + body_length == cursor.left(), "SNAP-1", "lengths do not add up")
    return obj.part(0, cursor.take(header_length), trust, "SNAP-2"), cursor.take(body_length)


SecretOf = Callable[[Record], Optional[bytes]]


def decode_snapshot(obj: Object, trust: Trust, token_key: bytes, secret_of: SecretOf) -> Snapshot:
    plain, sealed = split_snapshot(obj, trust)
    header = decode_snapshot_header(plain, obj.certificate_bytes, trust)
    secret = secret_of(header.record)
    if secret is None:
        return Snapshot(obj.name.id, header, None)
    body = unseal(header.record.body_key(secret, obj.name.id), ZERO_NONCE, sealed)
    need(body is not None, "SNAP-8", "sealed body does not open")
    return Snapshot(obj.name.id, header, decode_snapshot_body(body, header, token_key))
