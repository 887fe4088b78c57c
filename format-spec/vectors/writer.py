"""A small writer of every structure of the format, from the pages, for vectors and tests only.

Everything is deterministic: keys and nonces are hashes of their names (`fixed`), and the encapsulations of HPKE, which
libraries make at random, are kept in `hpke.json`. All functions take what they write as arguments and check nothing, so
that wrong structures can be written as easily as right ones.
"""
from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "reader"))

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import names
import parity
import trees
from conventions import KEM_XWING, SUITE, ZERO_NONCE, derive, hash32, keyed, u8, u16, u32, xwing_public
from names import Name
from trees import Entry

NOW = (1_790_000_000, 123_456_789)


def fixed(name: str, size: int = 32) -> bytes:
    """Bytes that depend on the name alone."""
    return blake3(b"icecore vectors: " + name.encode()).digest(length=size)


# Numbers and bytes

def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def blob(data: bytes) -> bytes:
    return varint(len(data)) + data


def time(value: Tuple[int, int]) -> bytes:
    return struct.pack("<qI", *value)


# Cryptography

def seal(key: bytes, nonce: bytes, plain: bytes) -> bytes:
    return AESGCMSIV(key).encrypt(nonce, plain, None)


def sign(seed: bytes, context: str, data: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(context.encode() + data)


def verifying_key(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class HpkeCache:
    """Messages sealed once and for all; `save` keeps those that were asked for."""

    def __init__(self, path: Path):
        self.path, self.used = path, {}
        self.kept: Dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def seal(self, public: bytes, info: bytes, plain: bytes) -> Tuple[bytes, bytes]:
        name = hash32(public + u32(len(info)) + info + plain).hex()
        if name not in self.kept:
            key = hpke.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(public[:1184]),
                                               X25519PublicKey.from_public_bytes(public[1184:]))
            self.kept[name] = SUITE.encrypt(plain, key, info=info).hex()
        message = bytes.fromhex(self.kept[name])
        self.used[name] = self.kept[name]
        return message[:1120], message[1120:]

    def save(self) -> None:
        self.path.write_text(json.dumps(self.used, indent=0, sort_keys=True) + "\n")


HPKE = HpkeCache(HERE / "hpke.json")


# Who is who

REPOSITORY = fixed("repository id", 16)
ADMIN_SEED = fixed("admin signing seed")
ADMIN = verifying_key(ADMIN_SEED)
STRUCTURE_KEYS = {1: fixed("structure key 1"), 2: fixed("structure key 2")}
TOKEN_KEY, CHUNK_ID_KEY, CUTTING_KEY = fixed("token key"), fixed("chunk-id key"), fixed("cutting key")
RESTORE_SEEDS = {1: fixed("restore seed 1"), 2: fixed("restore seed 2")}
RESTORE_KEYS = {epoch: xwing_public(seed) for epoch, seed in RESTORE_SEEDS.items()}
PASSPHRASE = "correct horse battery staple \u00e9".encode()
KEY_FILE_SEED = fixed("key file seed")
RECIPIENT_SEED = derive("icecore 1 recipient seed", KEY_FILE_SEED)


def key_file(seed: bytes) -> bytes:
    return b"icecore-key-1:" + seed.hex().encode() + b":" + derive("icecore 1 key file", seed)[:4].hex().encode() + b"\n"


def certificate(roles: int, key: bytes, credential: bytes, domain: bytes = bytes(16), generation: int = 1, reserved: bytes = bytes(3),
                repository: bytes = REPOSITORY, admin_seed: bytes = ADMIN_SEED) -> bytes:
    head = u8(roles) + reserved + u32(generation) + repository + domain + credential + key
    return head + sign(admin_seed, "icecore 1 certificate", head)


@dataclass
class Signer:
    """A credential that signs: name, roles and what follows from them."""
    name: str
    roles: int
    domain: bytes = bytes(16)

    def __post_init__(self) -> None:
        admin = self.roles == 8
        self.seed = ADMIN_SEED if admin else fixed(f"signing seed of {self.name}")
        self.key = verifying_key(self.seed)
        self.credential = bytes(16) if admin else fixed(f"credential {self.name}", 16)
        self.certificate = certificate(self.roles, self.key, self.credential, self.domain)


ALL, BACKUP, MAINTAIN, RESTORE = Signer("all", 7), Signer("backup", 1), Signer("maintain", 2), Signer("restore", 4)
OTHER = Signer("other domain", 7, fixed("other domain", 16))
ADMIN_SIGNER = Signer("admin", 8)
SIGNERS = {signer.name: signer for signer in (ALL, BACKUP, MAINTAIN, RESTORE, OTHER, ADMIN_SIGNER)}


# Objects

def header(name: Name, epoch: int = 1, magic: bytes = b"icecore", kind: Optional[int] = None, version: int = 1, reserved: int = 0,
           ident: Optional[bytes] = None, number: Optional[int] = None, repository: bytes = REPOSITORY, tail: bytes = bytes(12)) -> bytes:
    return (magic + u8(name.kind if kind is None else kind) + u16(version) + u16(reserved)
            + u32(name.number if number is None else number) + (name.id if ident is None else ident) + repository + u32(epoch) + tail)


def finish(covered: bytes, signer: Signer, certificate_bytes: Optional[bytes] = None, signature: Optional[bytes] = None,
           left_out: bytes = b"", digest: Optional[bytes] = None) -> bytes:
    """Header and body (for packs without the frames, which are `left_out`) made into an object."""
    covered += signer.certificate if certificate_bytes is None else certificate_bytes
    signature = signature or sign(signer.seed, "icecore 1 object", hash32(covered))
    digest = digest or hash32(covered + signature)
    return covered[:64] + left_out + covered[64:] + signature + digest


def part(head: bytes, number: int, plain: bytes) -> bytes:
    epoch = int.from_bytes(head[48:52], "little")
    return seal(derive("icecore 1 object part", STRUCTURE_KEYS[epoch] + head + u32(number)), ZERO_NONCE, plain)


def one_part(name: Name, plain: bytes, signer: Signer, head: Optional[bytes] = None, **how) -> bytes:
    """An object whose body is one sealed part."""
    head = head or header(name)
    return finish(head + part(head, 0, plain), signer, **how)


# Config and slots

def cutter(ident: int, kind: int, low: int, average: int, high: int, reserved: bytes = bytes(3)) -> bytes:
    return u32(ident) + u8(kind) + reserved + u32(low) + u32(average) + u32(high)


def restore_key(epoch: int, kem: int = KEM_XWING, reserved: int = 0, key: Optional[bytes] = None) -> bytes:
    return u32(epoch) + u16(kem) + u16(reserved) + (key or RESTORE_KEYS[epoch])


CUTTERS = (cutter(1, 1, 16_384, 32_768, 131_072), cutter(2, 2, 4096, 4096, 4096))


def config_body(optional: int = 0, write: int = 0, required: int = 0, created: Tuple[int, int] = NOW, predecessor: bytes = bytes(32),
                second: bytes = bytes(32), admin: bytes = ADMIN, structure_epoch: int = 1, restore_epoch: int = 1, pack: int = 1 << 24,
                data_frame: int = 1 << 20, meta_frame: int = 1 << 18, cutters: Sequence[bytes] = CUTTERS,
                restore_keys: Optional[Sequence[bytes]] = None, revoked: Sequence[Tuple[bytes, int]] = (), reserved: int = 0) -> bytes:
    keys = [restore_key(1)] if restore_keys is None else restore_keys
    return (u64(optional) + u64(write) + u64(required) + time(created) + predecessor + second + admin + u32(structure_epoch)
            + u32(restore_epoch) + u32(pack) + u32(data_frame) + u32(meta_frame) + u16(len(cutters)) + u16(len(keys))
            + u16(len(revoked)) + u16(reserved) + b"".join(cutters) + b"".join(keys)
            + b"".join(credential + u32(epoch) for credential, epoch in revoked))


def credential_fields(signer: Signer, roles: int) -> List[Tuple[int, bytes]]:
    fields = [(1, ADMIN)] + [(2, u32(epoch) + key) for epoch, key in STRUCTURE_KEYS.items()]
    fields += [(3, TOKEN_KEY), (4, signer.certificate + signer.seed)]
    fields += [(5, CHUNK_ID_KEY)] if roles & 5 else []
    fields += [(6, CUTTING_KEY)] if roles & 1 else []
    fields += [(7, u32(epoch) + u16(KEM_XWING) + seed) for epoch, seed in RESTORE_SEEDS.items()] if roles & 4 else []
    return fields + ([(8, ADMIN_SEED)] if roles & 8 else [])


def credential_bytes(fields: Iterable[Tuple[int, bytes]]) -> bytes:
    return b"".join(u8(tag) + u16(len(value)) + value for tag, value in fields)


SLOT_SALT = fixed("slot salt")


def slot_seed(memory: int = 64, passes: int = 1, lanes: int = 1) -> bytes:
    from argon2.low_level import Type, hash_secret_raw
    return hash_secret_raw(PASSPHRASE, SLOT_SALT, passes, memory, lanes, 32, Type.ID, 0x13)


def slot_pin(seed: bytes, repository: bytes = REPOSITORY, admin: bytes = ADMIN) -> bytes:
    return keyed(derive("icecore 1 slot pin", seed), repository + admin)


def slot(name: Name, seed: bytes, kind: int = 2, state: int = 1, roles: int = 15, reserved: int = 0, costs: Tuple[int, int, int] = (0, 0, 0),
         salt: bytes = bytes(32), signer: Signer = ALL, credential: Optional[bytes] = None, plain: Optional[bytes] = None,
         sealed_length: Optional[int] = None, head: Optional[bytes] = None, sealed: Optional[Tuple[bytes, bytes]] = None, pin: Optional[bytes] = None,
         **how) -> bytes:
    head = head or header(name, 0)
    public = xwing_public(seed)
    front = (u8(kind) + u8(state) + u8(roles) + u8(reserved) + b"".join(map(u32, costs)) + salt
             + (signer.credential if credential is None else credential) + (slot_pin(seed) if pin is None else pin) + public)
    plain = credential_bytes(credential_fields(signer, roles)) if plain is None else plain
    if state == 1 or sealed:
        encapsulated, ciphertext = sealed or HPKE.seal(public, b"icecore 1 slot" + head + front, plain)
    else:
        encapsulated, ciphertext = bytes(1120), b""
    length = len(ciphertext) if sealed_length is None else sealed_length
    return finish(head + front + encapsulated + u32(length) + ciphertext, ADMIN_SIGNER, **how)


# Sessions

@dataclass
class Session:
    """A session of the vectors. Its nonce and secret follow from its name."""
    name: str
    signer: Signer = field(default_factory=lambda: ALL)
    kind: int = 1
    structure_epoch: int = 1
    restore_epochs: Tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        self.nonce = fixed(f"nonce of {self.name}")
        self.secret = bytes(32) if self.kind == 2 else fixed(f"secret of {self.name}")
        self.id = derive("icecore 1 session id", self.signer.key + self.nonce)[:16]
        self.commitment = bytes(32) if self.kind == 2 else derive("icecore 1 session commitment", self.secret + self.id)

    def wrap(self, epoch: int, kem: int = KEM_XWING, reserved: int = 0, info_epoch: Optional[int] = None) -> bytes:
        info = b"icecore 1 wrap" + self.id + u32(epoch if info_epoch is None else info_epoch)
        return u32(epoch) + u16(kem) + u16(reserved) + b"".join(HPKE.seal(RESTORE_KEYS[epoch], info, self.secret))

    def record(self, length: Optional[int] = None, suite: int = 1, kind: Optional[int] = None, wraps: Optional[Sequence[bytes]] = None,
               epoch: Optional[int] = None, reserved: int = 0, commitment: Optional[bytes] = None, certificate_bytes: Optional[bytes] = None,
               signature: Optional[bytes] = None) -> bytes:
        if wraps is None:
            wraps = [] if self.kind == 2 else [self.wrap(e) for e in self.restore_epochs]
        front = (u8(suite) + u8(self.kind if kind is None else kind) + u16(len(wraps))
                 + u32(self.structure_epoch if epoch is None else epoch) + u32(reserved) + self.nonce
                 + (commitment or self.commitment) + (certificate_bytes or self.signer.certificate) + b"".join(wraps))
        front = u32(4 + len(front) + 64 if length is None else length) + front
        return front + (signature or sign(self.signer.seed, "icecore 1 session record", front))

    def frame_key(self, frame_class: int) -> bytes:
        if frame_class == 2:
            return derive("icecore 1 refs frame", STRUCTURE_KEYS[self.structure_epoch] + self.id + u8(1))
        return derive("icecore 1 frame", self.secret + self.id + u8(1) + u8(frame_class))

    def body_key(self, snapshot: bytes) -> bytes:
        return derive("icecore 1 snapshot body", self.secret + self.id + snapshot)


# Chunks and frames

def chunk_id(kind: int, data: bytes) -> bytes:
    if kind == 4:
        return keyed(derive("icecore 1 refs id", TOKEN_KEY), data)
    return keyed(derive("icecore 1 chunk id", CHUNK_ID_KEY + u8(kind)), data)


def chunk_kind(frame_class: int, data: bytes) -> int:
    return {0: 1, 2: 4}.get(frame_class) or (2 if data[:1] in (b"\1", b"\2") else 3)


def frame_plaintext(chunks: Sequence[bytes]) -> bytes:
    return varint(len(chunks)) + b"".join(varint(len(c)) for c in chunks) + b"".join(chunks)


@dataclass
class Frame:
    """A sealed frame and what a contents table says of it."""
    session: Session
    frame_class: int
    counter: int
    chunks: List[bytes]
    method: int = 1
    bases: Optional[bytes] = None
    plain: Optional[bytes] = None
    payload: Optional[bytes] = None

    def __post_init__(self) -> None:
        self.number = self.frame_class << 30 | self.counter
        self.plain = frame_plaintext(self.chunks) if self.plain is None else self.plain
        prefix = self.bases and zstandard.ZstdCompressionDict(self.bases, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        data = zstandard.ZstdCompressor(level=3, dict_data=prefix).compress(self.plain) if self.method else self.plain
        payload = u8(self.method) + data if self.payload is None else self.payload
        self.sealed = seal(self.session.frame_key(self.frame_class), u32(self.number) + bytes(8), payload)
        self.ids = [chunk_id(chunk_kind(self.frame_class, c), c) for c in self.chunks]
        self.hash = hash32(self.sealed)


def table_entry(position: int, frame: Frame, **over) -> bytes:
    value = {"counter": frame.counter, "sealed": len(frame.sealed), "plain": len(frame.plain), "hash": frame.hash, "bases": [],
             "ids": frame.ids, **over}
    bases = varint(len(value["bases"])) + b"".join(value["bases"])
    return (varint(position) + varint(value["counter"]) + varint(value["sealed"]) + varint(value["plain"]) + value["hash"]
            + bases + varint(len(value["ids"])) + b"".join(value["ids"]))


def base(session: int, counter: int, chunk: int, offset: int, length: int) -> bytes:
    """`session` is a position in the base sessions."""
    return varint(session) + varint(counter) + varint(chunk) + varint(offset) + varint(length)


def used_sessions(frames: Iterable[Frame]) -> List[Session]:
    found: List[Session] = []
    for frame in frames:
        if frame.session not in found:
            found.append(frame.session)
    return found


def sessions_bytes(records: Sequence[bytes], base_sessions: Sequence[bytes]) -> bytes:
    return varint(len(records)) + b"".join(records) + varint(len(base_sessions)) + b"".join(base_sessions)


def tables_bytes(records: Sequence[bytes], entries: Sequence[bytes], base_sessions: Sequence[bytes] = ()) -> bytes:
    return sessions_bytes(records, base_sessions) + varint(len(entries)) + b"".join(entries)


def tables_of(frames: Sequence[Frame]) -> bytes:
    sessions = used_sessions(frames)
    return tables_bytes([s.record() for s in sessions], [table_entry(sessions.index(f.session), f) for f in frames])


def group_hashes(region: bytes) -> List[bytes]:
    return [hash32(region[at:at + (1 << 20)]) for at in range(0, len(region), 1 << 20)]


def pack(name: Name, frames: Sequence[Frame], signer: Signer, tables: Optional[bytes] = None, region: Optional[bytes] = None,
         groups: Optional[Sequence[bytes]] = None, footer: Optional[Sequence[int]] = None, **how) -> bytes:
    head = header(name)
    region = b"".join(f.sealed for f in frames) if region is None else region
    sealed = part(head, 0, tables_of(frames) if tables is None else tables)
    groups = group_hashes(region) if groups is None else groups
    numbers = footer or (len(region), len(sealed), len(groups), 0)
    return finish(head + sealed + b"".join(groups) + b"".join(map(u32, numbers)), signer, left_out=region, **how)


def index_plain(sessions: Sequence[bytes], packs: Sequence[bytes], level: int = 0, reserved: bytes = bytes(7), first: bytes = bytes(32),
                last: bytes = b"\xff" * 32, base_sessions: Sequence[bytes] = ()) -> bytes:
    return u8(level) + reserved + first + last + sessions_bytes(sessions, base_sessions) + varint(len(packs)) + b"".join(packs)


def index_pack(name: Name, entries: Sequence[bytes]) -> bytes:
    return u8(name.kind) + name.id + varint(len(entries)) + b"".join(entries)


def index_of(packs_: Sequence[Tuple[Name, Sequence[Frame]]]) -> bytes:
    packs_ = sorted(packs_, key=lambda p: (p[0].kind, p[0].id))
    sessions = used_sessions(f for _, frames in packs_ for f in frames)
    return index_plain([s.record() for s in sessions],
                       [index_pack(n, [table_entry(sessions.index(f.session), f) for f in frames]) for n, frames in packs_])


# Trees

def common(a: bytes, b: bytes) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def keys_column(keys: Sequence[bytes]) -> bytes:
    out, before = b"", b""
    for key in keys:
        shared = common(before, key)
        out += varint(shared) + blob(key[shared:])
        before = key
    return out


def runs(values: Sequence[bytes]) -> bytes:
    """Values that are already encoded, as runs."""
    out, at = b"", 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at]:
            end += 1
        out += varint(end - at) + values[at]
        at = end
    return out


def attribute_list(pairs: Sequence[Tuple[bytes, bytes]]) -> bytes:
    return varint(len(pairs)) + b"".join(blob(name) + blob(value) for name, value in pairs)


def times_column(times: Sequence[Tuple[int, int]]) -> bytes:
    out, before = b"", 0
    for seconds, nanoseconds in times:
        difference = (seconds - before + (1 << 63)) % (1 << 64) - (1 << 63)
        out += zigzag(difference) + varint(nanoseconds)
        before = seconds
    return out


def holes_of(holes: Sequence[Tuple[int, int]]) -> bytes:
    out, end = varint(len(holes)), 0
    for offset, length in holes:
        out += varint(offset - end) + varint(length)
        end = offset + length
    return out


def chunks_of(entry: Entry) -> bytes:
    if entry.recipe is not None:
        return varint(0) + entry.recipe
    return varint(1 + len(entry.chunks)) + b"".join(ident + varint(length) for ident, length in entry.chunks)


def leaf_columns(entries: Sequence[Entry]) -> Dict[int, bytes]:
    rest = [e for e in entries if e.kind != trees.HARD_LINK]
    files = [e for e in entries if e.kind == trees.FILE]
    devices = [e for e in entries if e.kind in trees.DEVICES]
    columns = {1: keys_column([e.key for e in entries]), 2: bytes(e.kind for e in entries)}
    for number, name in ((3, "mode"), (4, "owner"), (5, "group"), (9, "flags")):
        columns[number] = runs([varint(getattr(e, name)) for e in rest])
    for number, name in ((6, "owner_name"), (7, "group_name")):
        columns[number] = runs([blob(getattr(e, name)) for e in rest])
    columns[8] = times_column([e.time for e in rest])
    columns[10] = runs([attribute_list(e.attributes) for e in rest])
    columns[11] = b"".join(varint(e.size) for e in files)
    columns[12] = b"".join(holes_of(e.holes) for e in files)
    columns[13] = runs([varint(e.cutter) for e in files])
    columns[14] = b"".join(chunks_of(e) for e in files)
    columns[15] = b"".join(blob(e.target) for e in entries if e.kind == trees.SYMLINK)
    columns[16] = b"".join(varint(e.device[0]) + varint(e.device[1]) for e in devices)
    columns[17] = b"".join(blob(e.link) for e in entries if e.kind == trees.HARD_LINK)
    return {number: content for number, content in columns.items() if content}


def leaf_bytes(count: int, columns: Sequence[Tuple[int, bytes]], node: int = 1, level: int = 0) -> bytes:
    """Columns by tag."""
    return u8(node) + u8(level) + varint(count) + varint(len(columns)) + b"".join(varint(t) + blob(c) for t, c in columns)


def tagged(columns: Dict[int, bytes]) -> List[Tuple[int, bytes]]:
    return [(2 * number + 1, content) for number, content in sorted(columns.items())]


def tree_leaf(entries: Sequence[Entry], **over: Optional[bytes]) -> bytes:
    """A leaf; `c3=...` puts another content (None: nothing) into column 3."""
    columns = leaf_columns(entries)
    columns.update({int(name[1:]): content for name, content in over.items()})
    return leaf_bytes(len(entries), tagged({n: c for n, c in columns.items() if c is not None}))


def tree_inner(level: int, children: Sequence[Tuple[bytes, bytes, int, int]], node: int = 2) -> bytes:
    out, before = u8(node) + u8(level) + varint(len(children)), b""
    for key, ident, entries, size in children:
        shared = common(before, key)
        out += varint(shared) + blob(key[shared:]) + ident + varint(entries) + varint(size)
        before = key
    return out


def recipe_leaf(chunks: Sequence[Tuple[bytes, int]], node: int = 3, level: int = 0) -> bytes:
    return u8(node) + u8(level) + varint(len(chunks)) + b"".join(ident + varint(length) for ident, length in chunks)


def recipe_inner(level: int, children: Sequence[Tuple[bytes, int, int]], node: int = 4) -> bytes:
    return u8(node) + u8(level) + varint(len(children)) + b"".join(i + varint(c) + varint(b) for i, c, b in children)


# Refs

def whole(gap: int, frames: int) -> bytes:
    return varint(gap) + varint(2 * frames)


def as_base(gap: int) -> bytes:
    return varint(gap) + varint(1)


def partial(gap: int, used: Sequence[bool], bitmap: Optional[bytes] = None) -> bytes:
    value = sum(1 << at for at, bit in enumerate(used) if bit)
    return varint(gap) + varint(2 * len(used) + 1) + (value.to_bytes(-(-len(used) // 8), "little") if bitmap is None else bitmap)


def refs_leaf(sessions: Sequence[Tuple[bytes, Sequence[bytes]]], node: int = 5, level: int = 0) -> bytes:
    return u8(node) + u8(level) + varint(len(sessions)) + b"".join(s + varint(len(r)) + b"".join(r) for s, r in sessions)


def refs_inner(level: int, children: Sequence[Tuple[bytes, int, bytes, int]], node: int = 6) -> bytes:
    return u8(node) + u8(level) + varint(len(children)) + b"".join(s + u32(n) + i + varint(f) for s, n, i, f in children)


# Snapshots

def token(context: str, text: str) -> bytes:
    return keyed(derive(f"icecore 1 {context} token", TOKEN_KEY), text.encode())[:16]


@dataclass
class SnapshotText:
    series: str = "host /home"
    tags: Tuple[str, ...] = ("daily", "t\u00e4g")
    host: str = "host"
    program: str = "vectors 1"
    paths: Tuple[bytes, ...] = (b"/home", b"/srv/\xff")


def snapshot_header(text: SnapshotText, record: bytes, refs_root: bytes, sequence: int = 1, previous: bytes = bytes(16),
                    when: Tuple[int, int] = NOW, source: int = 1, retention: int = 0, reserved: int = 0, epoch: int = 0,
                    totals: Sequence[int] = (3, 1000, 2, 900), series_token: Optional[bytes] = None, tokens: Optional[Sequence[bytes]] = None) -> bytes:
    tokens = sorted(token("tag", tag) for tag in text.tags) if tokens is None else tokens
    return ((series_token or token("series", text.series)) + u64(sequence) + previous + time(when) + u8(source) + u8(retention)
            + u16(reserved) + u32(epoch) + refs_root + b"".join(map(u64, totals)) + varint(len(tokens)) + b"".join(tokens) + blob(record))


def snapshot_body(text: SnapshotText, tree_root: bytes, key_kind: int = 1, whole_: int = 1, reserved: int = 0,
                  started: Tuple[int, int] = NOW, ended: Tuple[int, int] = (NOW[0] + 60, 0), series: Optional[bytes] = None,
                  tags: Optional[Sequence[bytes]] = None, paths: Optional[Sequence[bytes]] = None) -> bytes:
    tags = [tag.encode() for tag in text.tags] if tags is None else tags
    paths = text.paths if paths is None else paths
    return (tree_root + u8(key_kind) + u8(whole_) + u16(reserved) + time(started) + time(ended)
            + blob(text.series.encode() if series is None else series) + blob(text.host.encode()) + blob(text.program.encode())
            + varint(len(paths)) + b"".join(map(blob, paths)) + varint(len(tags)) + b"".join(map(blob, tags)))


def snapshot(name: Name, session: Session, header_plain: bytes, body_plain: bytes, lengths: Optional[Tuple[int, int]] = None,
             sealed_header: Optional[bytes] = None, sealed_body: Optional[bytes] = None, signer: Optional[Signer] = None, **how) -> bytes:
    head = header(name)
    first = part(head, 0, header_plain) if sealed_header is None else sealed_header
    second = seal(session.body_key(name.id), ZERO_NONCE, body_plain) if sealed_body is None else sealed_body
    lengths = lengths or (len(first), len(second))
    return finish(head + u32(lengths[0]) + u32(lengths[1]) + first + second, signer or session.signer, **how)


# Companions and epochs

def session_plain(session: Session, record: Optional[bytes] = None, epoch: int = 0, label: bytes = b"host 1234") -> bytes:
    return u32(epoch) + time(NOW) + blob(record or session.record()) + blob(label)


def closed_plain(snapshots: Sequence[bytes], outcome: int = 1) -> bytes:
    return u8(outcome) + time(NOW) + varint(len(snapshots)) + b"".join(snapshots)


def tombstone_plain(epoch: int = 1) -> bytes:
    return u32(epoch) + time(NOW)


def withdrawn_plain(session: bytes, reason: int = 1) -> bytes:
    return session + u8(reason) + time(NOW)


def hold_plain(action: int, snapshots: Sequence[Tuple[bytes, bytes, bytes]] = (), until: Tuple[int, int] = (0, 0), released: bytes = bytes(16),
               note: bytes = b"case 4711") -> bytes:
    """Each snapshot: itself, its session, its series token."""
    return u8(action) + time(NOW) + time(until) + released + varint(len(note)) + note + varint(len(snapshots)) + b"".join(map(b"".join, snapshots))


def relocations_plain(session: bytes, frames: Sequence[Tuple[bytes, int, int, Sequence[Tuple[int, int, int]]]], bitmaps: Sequence[bytes] = ()) -> bytes:
    """Each frame: session, number, chunk count, and for each mapped chunk its position, its new counter and position."""
    plain = session + time(NOW) + varint(len(frames))
    for at, (old, number, chunks, moved) in enumerate(frames):
        bits = sum(1 << position for position, _, _ in moved)
        bitmap = bitmaps[at] if bitmaps else bits.to_bytes(-(-chunks // 8), "little")
        plain += old + u32(number) + varint(chunks) + bitmap + b"".join(varint(counter) + varint(to) for _, counter, to in moved)
    return plain


def tier_plain(tier: bytes, form: int = 1, rank: int = 1, properties: int = 0, reserved: int = 0, revision: int = 1, days: int = 90, latency: int = 5,
               prices: Sequence[int] = (1_000_000, 2_000_000, 3_000_000, 4_000_000), name: bytes = b"cold", label: bytes = b"", address: bytes = b"/mnt/cold",
               storage_class: bytes = b"", classes: Sequence[Tuple[bytes, int, int, int]] = ()) -> bytes:
    plain = bytes([form, rank, properties, reserved]) + tier + u32(revision) + u32(days) + u32(latency) + b"".join(map(u64, prices))
    plain += b"".join(map(blob, (name, label, address, storage_class))) + varint(len(classes))
    return plain + b"".join(blob(thaw) + u32(seconds) + u64(price) + u64(requests) for thaw, seconds, price, requests in classes)


def placed_plain(tier: bytes, packs_: Sequence[Tuple[bytes, int, bytes, int, int]], form: int = 2, reserved: bytes = bytes(3)) -> bytes:
    """Each pack: id, size, hash, since, until."""
    plain = bytes([form]) + reserved + tier + varint(len(packs_))
    return plain + b"".join(ident + u32(size) + digest + u64(since) + u64(until) for ident, size, digest, since, until in packs_)


def epoch_plain(session: bytes, packs_: Sequence[Tuple[int, bytes]], predecessor: bytes = bytes(32), snapshots: Sequence[bytes] = ()) -> bytes:
    packed = varint(len(packs_)) + b"".join(u8(kind) + ident for kind, ident in packs_)
    return predecessor + session + time(NOW) + packed + varint(len(snapshots)) + b"".join(snapshots)


# Cutting

MASKS = {5: 0x1804110, 6: 0x1803110, 7: 0x18035100, 8: 0x1800035300, 9: 0x19000353000, 10: 0x590003530000, 11: 0xd90003530000,
         12: 0xd90103530000, 13: 0xd90303530000, 14: 0xd90313530000, 15: 0xd90f03530000, 16: 0xd90303537000, 17: 0xd90703537000,
         18: 0xd90707537000, 19: 0xd91707537000, 20: 0xd91747537000, 21: 0xd91767537000, 22: 0xd93767537000, 23: 0xd93777537000}


def gear_table(cutting_key: bytes) -> Tuple[int, ...]:
    return struct.unpack("<256Q", derive("icecore 1 gear table", cutting_key, 2048))


def cut(data: bytes, gear: Sequence[int], low: int, average: int, high: int) -> List[int]:
    """The lengths of the chunks of one data range, content-defined."""
    bits, lengths, at = average.bit_length() - 1, [], 0
    while at < len(data):
        lengths.append(_next_cut(data, at, gear, low, average, high, MASKS[bits + 1], MASKS[bits - 1]))
        at += lengths[-1]
    return lengths


def _next_cut(data: bytes, at: int, gear: Sequence[int], low: int, average: int, high: int, small: int, large: int) -> int:
    left = len(data) - at
    if left <= low:
        return left
    end, h = min(left, high), 0
    for i in range(low, end):
        h = ((h << 1) + gear[data[at + i]]) & 0xFFFFFFFFFFFFFFFF
        if h & (small if i < average else large) == 0:
            return i + 1
    return end


def cut_fixed(size: int, length: int) -> List[int]:
    return [min(size, length - at) for at in range(0, length, size)]


# Sidecars

def sidecar_head(of: Name, data: bytes, form: int = 1, block_size: int = 0, recovery: int = 0, kind: Optional[int] = None,
                 size: Optional[int] = None, reserved: int = 0) -> bytes:
    return (u8(of.kind if kind is None else kind) + u8(form) + u16(recovery) + u32(of.number) + of.id
            + u64(len(data) if size is None else size) + data[-32:] + u32(block_size) + u32(reserved))


def sidecar_code(data: bytes, block_size: int, recovery: int) -> bytes:
    """Hashes and recovery blocks. As the page says it: each byte by itself."""
    blocks = [data[at:at + block_size] for at in range(0, len(data), block_size)]
    codewords = -(-len(blocks) // 220)
    data_blocks = -(-len(blocks) // codewords)
    out = [hash32(block) for block in blocks]
    for codeword in range(codewords):
        own = [block.ljust(block_size, b"\0") for block in blocks[codeword::codewords]]
        own += [bytes(block_size)] * (data_blocks - len(own))
        columns = [remainder(column, recovery) for column in zip(*own)]
        out += [bytes(column[number] for column in columns) for number in range(recovery)]
    return b"".join(out)


def remainder(column: Sequence[int], recovery: int) -> List[int]:
    """What makes the polynomial of a column divisible by the one that is 0 at 2^0 ... 2^(recovery-1): long division."""
    generator = [1]
    for power in range(recovery):
        root = 1
        for _ in range(power):
            root = parity.times_two(root)
        generator = [a ^ parity.times(b, root) for a, b in zip(generator + [0], [0] + generator)]
    rest = list(column) + [0] * recovery
    for at, _ in enumerate(column):
        lead = rest[at]
        if lead:
            for offset, factor in enumerate(generator):
                rest[at + offset] ^= parity.times(factor, lead)
    return rest[len(column):]
