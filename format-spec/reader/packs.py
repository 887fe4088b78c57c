"""Contents tables, frames, chunk ids and index objects: the pages `pack`, `frame`, `chunking`, `index`."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

import zstandard

import names
from conventions import Cursor, RuleError, derive, hash32, keyed, need, u8, u32, unseal, unsupported_unless
from objects import GROUP, HEADER, MAINTAIN, Object, Record, Source, Trust, check_object, decode_record
from parity import Sidecar

DATA, META, REFS = 0, 1, 2
CHUNK_MAX = 4_194_304
PLAINTEXT_MAX = 4_259_840
SEALED_MAX = 4_259_857
BASES_LENGTH_MAX = 8_388_608
CLASS_OF = {names.DATA_PACK: DATA, names.META_PACK: META, names.REFS_PACK: REFS}
KIND_DATA, KIND_TREE, KIND_RECIPE, KIND_REFS = 1, 2, 3, 4
KINDS_OF = {DATA: (KIND_DATA,), META: (KIND_TREE, KIND_RECIPE), REFS: (KIND_REFS,)}


class ChunkIds:
    """The keys of chunk ids, as far as they are at hand."""

    def __init__(self, chunk_id_key: Optional[bytes], token_key: bytes):
        self.keys = {KIND_REFS: derive("icecore 1 refs id", token_key)}
        for kind in (KIND_DATA, KIND_TREE, KIND_RECIPE):
            if chunk_id_key:
                self.keys[kind] = derive("icecore 1 chunk id", chunk_id_key + u8(kind))

    def id(self, kind: int, data: bytes) -> bytes:
        return keyed(self.keys[kind], data)

    def is_one_of(self, kinds: Sequence[int], data: bytes, ident: bytes) -> bool:
        return any(self.id(kind, data) == ident for kind in kinds)


def check_chunk(ids: ChunkIds, kind: int, data: bytes, ident: bytes) -> None:
    need(1 <= len(data) <= CHUNK_MAX, "CHUNK-1", f"chunk of {len(data)} bytes")
    need(ids.id(kind, data) == ident, "CHUNK-2", f"chunk is not {ident.hex()}")


# Contents tables

@dataclass(frozen=True)
class Base:
    """A stretch of another frame's chunks that a frame goes on behind; `chunk` is the first of its own that it is for."""
    session: bytes
    number: int
    chunk: int
    offset: int
    length: int


@dataclass(frozen=True)
class FrameEntry:
    """One frame of a contents table. `number` has the class in its two highest bits."""
    session: int
    number: int
    sealed_length: int
    plaintext_length: int
    hash: bytes
    chunks: Tuple[bytes, ...]
    bases: Tuple[Base, ...] = ()


@dataclass(frozen=True)
class Tables:
    sessions: Tuple[Record, ...]
    frames: Tuple[FrameEntry, ...]

    def placed(self) -> Iterator[Tuple[int, Record, FrameEntry]]:
        """The frames with the offsets at which they lie in the pack."""
        offset = HEADER
        for entry in self.frames:
            yield offset, self.sessions[entry.session], entry
            offset += entry.sealed_length


def _decode_sessions(cursor: Cursor, trust: Trust) -> Tuple[Record, ...]:
    count = cursor.varint()
    need(1 <= count <= 4096, "PACK-5", f"{count} session records")
    cursor.fits(count)
    records: List[Record] = []
    for _ in range(count):
        records.append(decode_record(cursor, trust))
    need(len({record.session for record in records}) == count, "PACK-5", "a session stands twice")
    return tuple(records)


class _FrameReader:
    """Reads the frames of packs against the sessions in front of them, and sees in which order these are used."""

    def __init__(self, cursor: Cursor, trust: Trust):
        self.cursor, self.sessions, self.used = cursor, _decode_sessions(cursor, trust), 0
        count = cursor.varint()
        cursor.fits(count)
        self.base_sessions, self.base_sessions_used = tuple(cursor.take(16) for _ in range(count)), 0
        need(len(set(self.base_sessions)) == count, "PACK-5", "a session of bases stands twice")

    def frames(self, frame_class: int) -> Tuple[FrameEntry, ...]:
        count = self.cursor.varint()
        need(1 <= count <= 65_536, "PACK-6", f"{count} frames")
        self.cursor.fits(count)
        seen = set()
        entries = []
        for _ in range(count):
            entry = self._frame(frame_class, seen)
            entries.append(entry)
        return tuple(entries)

    def _frame(self, frame_class: int, seen: set) -> FrameEntry:
        cursor = self.cursor
        session = cursor.varint()
        need(session < len(self.sessions), "PACK-7", f"no session {session}")
        need(session <= self.used, "PACK-5", "sessions not in the order of first use")
        self.used = max(self.used, session + 1)
        counter = cursor.varint()
        need(counter < 1 << 30, "PACK-7", f"counter {counter}")
        need((session, counter) not in seen, "PACK-7", "a frame stands twice")
        seen.add((session, counter))
        sealed, plain = cursor.varint(), cursor.varint()
        need(18 <= sealed <= SEALED_MAX and 2 <= plain <= PLAINTEXT_MAX, "PACK-8", f"lengths {sealed} and {plain}")
        digest = cursor.take(32)
        bases = self._bases((self.sessions[session].session, frame_class << 30 | counter))
        chunks = cursor.varint()
        need(1 <= chunks <= 16_384, "PACK-11", f"{chunks} chunks")
        need(not bases or bases[-1].chunk < chunks, "PACK-11", "a base for a chunk that is not there")
        cursor.fits(chunks)
        ids = tuple(cursor.take(32) for _ in range(chunks))
        need(len(set(ids)) == chunks, "PACK-11", "a chunk stands twice in a frame")
        return FrameEntry(session, frame_class << 30 | counter, sealed, plain, digest, ids, bases)

    def _bases(self, ident: Tuple[bytes, int]) -> Tuple[Base, ...]:
        cursor = self.cursor
        count = cursor.varint()
        need(count <= 64 and (not count or ident[1] >> 30 != REFS), "PACK-10", f"{count} bases")
        bases: List[Base] = []
        total, chunk = 0, 0
        for _ in range(count):
            session, counter, *stretch_of = (cursor.varint() for _ in range(5))
            need(session < len(self.base_sessions), "PACK-10", f"no session {session} of bases")
            need(session <= self.base_sessions_used, "PACK-5", "sessions of bases not in the order of first use")
            self.base_sessions_used = max(self.base_sessions_used, session + 1)
            need(counter < 1 << 30, "PACK-10", f"base with the counter {counter}")
            base = Base(self.base_sessions[session], ident[1] >> 30 << 30 | counter, *stretch_of)
            need((base.session, base.number) != ident, "PACK-10", "the frame itself")
            need(chunk <= base.chunk < 16_384, "PACK-10", f"base for chunk {base.chunk}")
            need(base.length and base.offset + base.length <= PLAINTEXT_MAX, "PACK-10", f"{base.length} bytes at {base.offset}")
            total, chunk = total + base.length, base.chunk
            need(total <= BASES_LENGTH_MAX, "PACK-10", f"bases of {total} bytes")
            bases.append(base)
        return tuple(bases)

    def end(self) -> None:
        self.cursor.end()
        need(self.used == len(self.sessions), "PACK-5", "a session that no frame uses")
        need(self.base_sessions_used == len(self.base_sessions), "PACK-5", "a session of bases that none names")


def _check_sessions_of(sessions: Tuple[Record, ...], obj: Object) -> None:
    own = obj.certificate.verifying_key
    others = [record for record in sessions if record.certificate.verifying_key != own]
    need(not others or obj.certificate.roles & MAINTAIN, "PACK-12", "frames of another session, written without maintain")


def decode_tables(plain: bytes, obj: Object, frames_length: int, trust: Trust) -> Tables:
    """The plaintext of a pack's part 0: PACK-5 to PACK-12."""
    cursor = Cursor(plain)
    reader = _FrameReader(cursor, trust)
    frames = reader.frames(CLASS_OF[obj.name.kind])
    reader.end()
    total = sum(entry.sealed_length for entry in frames)
    need(total == frames_length, "PACK-9", f"sealed lengths add up to {total}, not {frames_length}")
    _check_sessions_of(reader.sessions, obj)
    return Tables(reader.sessions, frames)


def check_groups(source: Source, obj: Object) -> None:
    """PACK-4, one group after the other."""
    layout = obj.layout
    hashes = source.read(layout.groups_at(), 32 * layout.groups)
    for group in range(layout.groups):
        size = min(GROUP, layout.frames - group * GROUP)
        data = source.read(HEADER + group * GROUP, size)
        need(hash32(data) == hashes[32 * group:32 * group + 32], "PACK-4", f"group {group} has another hash")


def open_tables(source: Source, obj: Object, trust: Trust) -> Tables:
    plain = obj.part(0, source.read(obj.layout.tables_at(), obj.layout.tables), trust)
    return decode_tables(plain, obj, obj.layout.frames, trust)


# Frames

def _inflate(data: bytes, length: int, bases: Optional[bytes] = None) -> bytes:
    """One zstd frame that unpacks to exactly that length, behind the bases where there are any (FRAME-4)."""
    need(data[:4] == b"\x28\xb5\x2f\xfd", "FRAME-4", "no zstd frame")
    try:
        about = zstandard.get_frame_parameters(data)
        need(about.dict_id == 0, "FRAME-4", "zstd frame with a dictionary")
        need(about.content_size in (length, zstandard.CONTENTSIZE_UNKNOWN), "FRAME-4", "other length in the zstd frame")
        single_segment = data[4] & 0x20
        need(single_segment or about.window_size <= 1 << 23, "FRAME-4", f"window of {about.window_size} bytes")
        prefix = bases and zstandard.ZstdCompressionDict(bases, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        plain = zstandard.ZstdDecompressor(dict_data=prefix).decompress(data, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        need(False, "FRAME-4", str(error))
    need(len(plain) == length, "FRAME-4", f"unpacks to {len(plain)} bytes, not {length}")
    return plain


def decode_payload(payload: bytes, length: int, bases: Optional[bytes] = None) -> bytes:
    """FRAME-3 and FRAME-4: the plaintext of a frame, behind the bytes of its bases where it has any."""
    method = Cursor(payload).u8()
    unsupported_unless(method <= 2, "FRAME-3", f"method {method}")
    need((method == 2) == (bases is not None), "FRAME-3", f"method {method}, and bases or none in the contents table")
    if method:
        return _inflate(payload[1:], length, bases)
    need(len(payload) - 1 == length, "FRAME-4", f"{len(payload) - 1} bytes, not {length}")
    return payload[1:]


def split_plaintext(plain: bytes, count_expected: Optional[int] = None) -> List[bytes]:
    """FRAME-5 and FRAME-6: the chunks of a frame."""
    cursor = Cursor(plain)
    count = cursor.varint()
    need(count <= 16_384 and count_expected in (None, count), "FRAME-5", f"{count} chunks")
    cursor.fits(count)
    lengths = []
    for _ in range(count):
        lengths.append(cursor.varint())
        need(1 <= lengths[-1] <= CHUNK_MAX, "FRAME-6", f"chunk of {lengths[-1]} bytes")
    need(sum(lengths) == cursor.left(), "FRAME-6", f"lengths add up to {sum(lengths)}, {cursor.left()} bytes follow")
    return [cursor.take(length) for length in lengths]


def decode_plaintext(plain: bytes, frame_class: int, chunk_ids: Sequence[bytes], ids: ChunkIds) -> List[bytes]:
    """FRAME-5 to FRAME-7."""
    chunks = split_plaintext(plain, len(chunk_ids))
    for data, ident in zip(chunks, chunk_ids):
        need(ids.is_one_of(KINDS_OF[frame_class], data, ident), "FRAME-7", f"chunk is not {ident.hex()}")
    return chunks


def check_sealed(sealed: bytes, entry: FrameEntry) -> None:
    need(hash32(sealed) == entry.hash, "FRAME-1", f"frame {entry.number:08x} has another hash")


def stretch(entry: FrameEntry, chunks: Sequence[bytes], base: Base) -> bytes:
    """The bytes of a base, out of the frame in which it lies (FRAME-8)."""
    content = b"".join(chunks)
    need(not entry.bases, "FRAME-8", "a base that has bases itself")
    need(base.offset + base.length <= len(content), "FRAME-8", f"base of {base.length} bytes at {base.offset} of {len(content)}")
    return content[base.offset:base.offset + base.length]


def open_frame(sealed: bytes, entry: FrameEntry, key: bytes, ids: ChunkIds, bases: Optional[bytes] = None) -> List[bytes]:
    """The chunks of a sealed frame: FRAME-1 to FRAME-7. `bases` are the bytes of its bases, where it has any."""
    check_sealed(sealed, entry)
    payload = unseal(key, u32(entry.number) + bytes(8), sealed)
    need(payload is not None, "FRAME-2", f"frame {entry.number:08x} does not open")
    plain = decode_payload(payload, entry.plaintext_length, bases)
    return decode_plaintext(plain, entry.number >> 30, entry.chunks, ids)


# Index objects

@dataclass(frozen=True)
class IndexPack:
    kind: int
    id: bytes
    frames: Tuple[FrameEntry, ...]


@dataclass(frozen=True)
class Index:
    sessions: Tuple[Record, ...]
    packs: Tuple[IndexPack, ...]


def decode_index(plain: bytes, obj: Object, trust: Trust) -> Index:
    cursor = Cursor(plain)
    level = cursor.u8()
    unsupported_unless(level == 0, "INDEX-1", f"level {level}")
    cursor.zeros(7, "INDEX-2")
    need(cursor.take(32) == bytes(32) and cursor.take(32) == b"\xff" * 32, "INDEX-2", "first or last")
    reader = _FrameReader(cursor, trust)
    count = cursor.varint()
    need(1 <= count <= 65_536, "INDEX-4", f"{count} packs")
    cursor.fits(count)
    packs: List[IndexPack] = []
    for _ in range(count):
        kind, ident = cursor.u8(), cursor.take(16)
        in_order = not packs or (packs[-1].kind, packs[-1].id) < (kind, ident)
        need(kind in names.PACKS and in_order, "INDEX-4", "kind, or packs not ascending")
        packs.append(IndexPack(kind, ident, reader.frames(CLASS_OF[kind])))
    reader.end()
    _check_sessions_of(reader.sessions, obj)
    return Index(reader.sessions, tuple(packs))


# Healed objects

def check_healed(sidecar: Sidecar, own: Object, healed: bytes, trust: Trust) -> None:
    """PARITY-6 and PARITY-7; `own` is the sidecar as an object."""
    try:
        obj = check_object(sidecar.object, Source(healed), trust)
        if obj.layout:
            check_groups(Source(healed), obj)
    except RuleError as error:
        raise RuleError("PARITY-6", f"{sidecar.object}: {error}", error.unsupported) from error
    need(obj.hash == sidecar.hash, "PARITY-6", "healed to another object than the sidecar tells of")
    good = own.certificate.verifying_key == obj.certificate.verifying_key or own.certificate.roles & MAINTAIN
    need(good, "PARITY-7", "written by another than its object")
