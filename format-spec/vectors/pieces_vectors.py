"""Vectors of what lies inside seals: frames, tables, nodes, plaintexts of index objects and snapshots."""
from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import writer as w
import names
import trees
from conventions import u8, u32
from known import SESSIONS
from names import Name
from objects_vectors import TEXT, flipped, ident, sample_frames
from tiny import entry, listed, pieces
from trees import Entry
from writer import ALL, BACKUP, MAINTAIN, Frame, Session

ONE, TWO_EPOCHS, BACKUP_ONLY, COLLECTOR, READER, OTHER_DOMAIN = SESSIONS


def make(c: Any) -> None:
    for part in (chunks, frames, plaintexts, tables, indexes, leaves, columns, inner_nodes, tree_walks, recipes, refs, snapshot_headers, snapshot_bodies):
        part(c)


def chunks(c: Any) -> None:
    data = w.fixed("a chunk", 200)
    for kind in (1, 2, 3, 4):
        c.valid(f"chunk-kind-{kind}", "chunk", data, kind=kind, id=w.chunk_id(kind, data).hex())
    c.invalid("CHUNK-1", "empty", "chunk", b"", kind=1, id=w.chunk_id(1, b"").hex())
    c.invalid("CHUNK-2", "other-kind", "chunk", data, kind=2, id=w.chunk_id(1, data).hex())
    c.invalid("CHUNK-2", "flipped", "chunk", flipped(data, 9), kind=1, id=w.chunk_id(1, data).hex())


# Frames

def frame_context(frame: Frame, **over: Any) -> Any:
    return {"key": frame.session.frame_key(frame.frame_class).hex(), "number": frame.number, "plaintext_length": len(frame.plain),
            "hash": frame.hash.hex(), "bases": None if frame.bases is None else frame.bases.hex(), "chunk_ids": [i.hex() for i in frame.ids], **over}


def zstd_raw(descriptor: int, fields: bytes, data: bytes) -> bytes:
    """A zstd frame of one raw block with a header of one's own."""
    return b"\x28\xb5\x2f\xfd" + u8(descriptor) + fields + (len(data) << 3 | 1).to_bytes(3, "little") + data


def frames(c: Any) -> None:
    chunks_ = [w.fixed(f"frame chunk {n}", 60 + n) for n in range(5)]
    plain = w.frame_plaintext(chunks_)
    samples = {"compressed": Frame(ONE, 0, 5, chunks_), "stored": Frame(ONE, 0, 6, chunks_, 0), "zeros": Frame(ONE, 0, 7, [bytes(100_000)]),
               "meta": Frame(TWO_EPOCHS, 1, (1 << 30) - 1, [b"\1\0tree", b"\4\1recipe"]), "refs": Frame(ONE, 2, 0, [b"\5\0refs"])}
    for what, frame in samples.items():
        c.valid(f"frame-{what}", "frame", frame.sealed, **frame_context(frame))

    def payload(data: bytes, of: Optional[bytes] = None) -> Frame:
        return Frame(ONE, 0, 5, chunks_, payload=data, plain=of)
    dictless = {"window-8-mib": payload(u8(1) + zstd_raw(0, u8(13 << 3), plain)), "no-content-size": payload(u8(1) + zstd_raw(0, u8(0), plain))}
    for what, frame in dictless.items():
        c.valid(f"frame-{what}", "frame", frame.sealed, **frame_context(frame))
    good = samples["compressed"]
    before = w.fixed("what was before", 3000)
    after = Frame(ONE, 0, 8, [before[1000:2000] + b"changed", before[:900]], 2, before)
    c.valid("frame-with-bases", "frame", after.sealed, **frame_context(after))

    def wrong(rule: str, what: str, frame: Frame, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, what, "frame", frame.sealed, None, unsupported, **frame_context(frame, **over))
    wrong("FRAME-1", "hash", good, hash=w.hash32(b"").hex())
    wrong("FRAME-2", "number", good, number=6)
    wrong("FRAME-2", "class", good, number=1 << 30 | 5)
    bad = flipped(good.sealed, 20)
    c.invalid("FRAME-2", "flipped", "frame", bad, **frame_context(good, hash=w.hash32(bad).hex()))
    wrong("FRAME-3", "method-3", payload(u8(3) + plain), True)
    wrong("FRAME-3", "bases-unnamed", after, bases=None)
    wrong("FRAME-3", "bases-unused", good, bases=before.hex())
    wrong("FRAME-4", "bases-too-short", after, bases=before[:500].hex())
    wrong("FRAME-3", "method-255", payload(u8(255) + plain), True)
    compressed = u8(1) + zstd_raw(0, u8(0), plain)
    wrong("FRAME-4", "shorter-than-said", good, plaintext_length=len(plain) + 1)
    wrong("FRAME-4", "longer-than-said", payload(compressed), plaintext_length=len(plain) - 1)
    wrong("FRAME-4", "stored-length", samples["stored"], plaintext_length=len(plain) - 1)
    wrong("FRAME-4", "byte-after", payload(compressed + b"\0"))
    wrong("FRAME-4", "two-frames", payload(u8(1) + zstd_raw(0, u8(0), plain[:9]) + zstd_raw(0, u8(0), plain[9:])))
    wrong("FRAME-4", "skippable-after", payload(compressed + b"\x50\x2a\x4d\x18" + u32(3) + b"abc"))
    wrong("FRAME-4", "skippable-before", payload(u8(1) + b"\x50\x2a\x4d\x18" + u32(3) + b"abc" + compressed[1:]))
    wrong("FRAME-4", "dictionary", payload(u8(1) + zstd_raw(1, u8(0) + u8(7), plain)))
    wrong("FRAME-4", "window-16-mib", payload(u8(1) + zstd_raw(0, u8(14 << 3), plain)))
    wrong("FRAME-4", "window-9-mib", payload(u8(1) + zstd_raw(0, u8(13 << 3 | 1), plain)))
    wrong("FRAME-4", "truncated", payload(compressed[:-1]))
    wrong("FRAME-4", "no-zstd", payload(u8(1) + plain))
    wrong("FRAME-4", "empty", payload(u8(1)))
    wrong("FRAME-5", "count", good, chunk_ids=[i.hex() for i in good.ids[:4]])
    wrong("FRAME-7", "sealed", good, chunk_ids=[i.hex() for i in good.ids[::-1]])


def plaintexts(c: Any) -> None:
    chunks_ = [w.fixed(f"frame chunk {n}", 60 + n) for n in range(5)]
    ids = [w.chunk_id(1, chunk).hex() for chunk in chunks_]
    context = {"class": 0, "chunk_ids": ids}
    c.valid("plaintext", "frame plaintext", w.frame_plaintext(chunks_), **context)
    nodes = [b"\2\1 an inner tree node", b"\3\0 a recipe leaf", b"\1"]
    c.valid("plaintext-meta", "frame plaintext", w.frame_plaintext(nodes), **{"class": 1},
            chunk_ids=[w.chunk_id(k, n).hex() for k, n in zip((2, 3, 2), nodes)])
    lengths = b"".join(w.varint(len(x)) for x in chunks_)
    body = b"".join(chunks_)

    def wrong(rule: str, what: str, data: bytes, **over: Any) -> None:
        c.invalid(rule, f"plaintext-{what}", "frame plaintext", data, **{**context, **over})
    wrong("FRAME-5", "count", w.frame_plaintext(chunks_), chunk_ids=ids[:4])
    wrong("FRAME-5", "count-16385", w.varint(16_385) + lengths + body)
    wrong("FRAME-6", "length-0", w.varint(5) + u8(0) + lengths[1:] + body)
    wrong("FRAME-6", "length-4-mib-1", w.varint(5) + w.varint(4_194_305) + lengths[1:] + body)
    wrong("FRAME-6", "byte-after", w.frame_plaintext(chunks_) + b"\0")
    wrong("FRAME-6", "byte-missing", w.frame_plaintext(chunks_)[:-1])
    wrong("FRAME-7", "order", w.frame_plaintext(chunks_), chunk_ids=ids[::-1])
    wrong("FRAME-7", "class", w.frame_plaintext(chunks_), **{"class": 1})
    wrong("CONV-1", "count", b"\x85\0" + lengths + body)
    wrong("CONV-2", "lengths", w.varint(5) + lengths[:3])
    wrong("CONV-2", "empty", b"")


# Tables and index objects

def tables(c: Any) -> None:
    samples = sample_frames()
    length = sum(len(f.sealed) for f in samples)
    context = dict(kind=names.DATA_PACK, frames_length=length, certificate=ALL.certificate.hex())
    records = [ONE.record(), TWO_EPOCHS.record()]
    entries = [w.table_entry(0, samples[0]), w.table_entry(0, samples[1]), w.table_entry(1, samples[2])]
    c.valid("tables", "tables", w.tables_of(samples), **context)
    c.valid("tables-of-refs", "tables", w.tables_of(samples), **{**context, "kind": names.REFS_PACK})
    c.valid("tables-by-maintain", "tables", w.tables_of(samples), **{**context, "certificate": MAINTAIN.certificate.hex()})

    def wrong(rule: str, what: str, items: Sequence[bytes] = tuple(entries), which: Sequence[bytes] = tuple(records), unsupported: bool = False,
              data: Optional[bytes] = None, **over: Any) -> None:
        data = w.tables_bytes(which, items) if data is None else data
        c.invalid(rule, f"tables-{what}", "tables", data, None, unsupported, **{**context, **over})

    def first(**over: Any) -> List[bytes]:
        return [w.table_entry(over.pop("position", 0), samples[0], **over)] + entries[1:]
    wrong("PACK-5", "no-session", which=[])
    wrong("PACK-5", "sessions-4097", data=w.varint(4097) + records[0])
    wrong("PACK-5", "session-twice", which=records[:1] * 2)
    wrong("PACK-5", "unused-session", entries[:2], frames_length=sum(len(f.sealed) for f in samples[:2]))
    wrong("PACK-5", "order-of-use", [w.table_entry(1, samples[0]), w.table_entry(0, samples[1]), w.table_entry(0, samples[2])])
    wrong("SES-7", "in-tables", which=[ONE.record(signature=bytes(64)), records[1]])
    wrong("SES-2", "in-tables", which=[records[0], TWO_EPOCHS.record(suite=2)], unsupported=True)
    wrong("PACK-6", "no-frame", [])
    wrong("PACK-6", "frames-65537", data=w.sessions_bytes(records, []) + w.varint(65_537) + b"".join(entries))
    wrong("PACK-7", "session-2", first(position=2))
    wrong("PACK-7", "counter", first(counter=1 << 30))
    wrong("PACK-7", "frame-twice", first(counter=7))
    wrong("PACK-8", "sealed-17", first(sealed=17))
    wrong("PACK-8", "sealed-4259858", first(sealed=4_259_858))
    wrong("PACK-8", "plaintext-1", first(plain=1))
    wrong("PACK-8", "plaintext-4259841", first(plain=4_259_841))
    wrong("PACK-9", "sum", frames_length=length + 1)

    def against(rule: str, what: str, bases: Sequence[bytes], base_sessions: Sequence[bytes] = (TWO_EPOCHS.id,), **over: Any) -> None:
        wrong(rule, what, data=w.tables_bytes(records, first(bases=bases), base_sessions), **over)
    own, another = samples[0].session.id, b"another session "
    against("PACK-5", "base-session-twice", [w.base(0, 1, 0, 0, 9), w.base(1, 1, 0, 0, 9)], [another] * 2)
    against("PACK-5", "base-session-unused", [w.base(0, 1, 0, 0, 9)], [another, own])
    against("PACK-5", "base-session-for-none", [], [another])
    against("PACK-5", "base-sessions-order", [w.base(1, 1, 0, 0, 9), w.base(0, 1, 0, 0, 9)], [another, own])
    against("PACK-10", "bases-65", [w.base(0, 1, 0, 0, 9)] * 65)
    against("PACK-10", "base-session-1", [w.base(1, 1, 0, 0, 9)])
    against("PACK-10", "base-session-64-bits", [w.base((1 << 64) - 1, 1, 0, 0, 9)])
    against("PACK-10", "base-counter", [w.base(0, 1 << 30, 0, 0, 9)])
    against("PACK-10", "base-itself", [w.base(0, samples[0].counter, 0, 0, 9)], [own])
    against("PACK-10", "base-order", [w.base(0, 1, 1, 0, 9), w.base(0, 1, 0, 0, 9)])
    against("PACK-10", "base-chunk-16384", [w.base(0, 1, 16_384, 0, 9)])
    against("PACK-10", "base-empty", [w.base(0, 1, 0, 5, 0)])
    against("PACK-10", "base-end", [w.base(0, 1, 0, 4_259_840, 1)])
    against("PACK-10", "base-end-64-bits", [w.base(0, 1, 0, (1 << 64) - 1, 1)])
    against("PACK-10", "bases-long", [w.base(0, n, 0, 0, 4_194_305) for n in (1, 2)])
    against("PACK-10", "bases-in-refs", [w.base(0, 1, 0, 0, 9)], kind=names.REFS_PACK)
    against("PACK-11", "base-for-no-chunk", [w.base(0, 1, len(samples[0].ids), 0, 9)])
    cut_off = w.sessions_bytes(records, [])[:-1] + w.varint(3) + own + another
    wrong("CONV-2", "base-sessions", data=cut_off)
    # Of two sessions, one of which has frames in the same pack.
    most = [w.base(n % 2, 8 + n, min(n, len(samples[0].ids) - 1), 7 * n, 131_072) for n in range(64)]
    c.valid("tables-with-bases", "tables", w.tables_bytes(records, first(bases=most), [another, own]), **context)
    of_meta = w.tables_bytes(records, first(bases=[w.base(0, (1 << 30) - 1, 0, 70, 500)]), [TWO_EPOCHS.id])
    c.valid("tables-of-meta-with-bases", "tables", of_meta, **{**context, "kind": names.META_PACK})
    wrong("PACK-11", "no-chunk", first(ids=[]))
    wrong("PACK-11", "chunk-twice", first(ids=samples[0].ids[:1] * 2))
    many = w.table_entry(0, samples[0], ids=[]).removesuffix(b"\0") + w.varint(16_385)
    wrong("PACK-11", "chunks-16385", [many + b"".join(samples[0].ids)] + entries[1:])
    wrong("PACK-12", "other-session", certificate=BACKUP.certificate.hex())
    wrong("CONV-3", "long", data=w.tables_of(samples) + b"\0")
    wrong("CONV-2", "short", data=w.tables_of(samples)[:-1])
    wrong("CONV-1", "count", data=b"\x82\0" + w.tables_of(samples)[1:])


def indexes(c: Any) -> None:
    samples = sample_frames()
    data, second, meta = (Name(kind, bytes([n]) * 16, 0) for kind, n in ((3, 1), (3, 2), (4, 0)))
    records = [ONE.record(), TWO_EPOCHS.record()]
    entries = [w.table_entry(0, samples[0]), w.table_entry(0, samples[1]), w.table_entry(1, samples[2])]
    context = dict(certificate=ALL.certificate.hex())
    good = [w.index_pack(data, entries[:2]), w.index_pack(second, entries[2:]), w.index_pack(meta, entries[:1])]
    c.valid("index-part", "index part", w.index_plain(records, good), **context)

    def wrong(rule: str, what: str, packs: Sequence[bytes] = tuple(good), which: Sequence[bytes] = tuple(records), unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, f"index-{what}", "index part", w.index_plain(which, packs, **over), None, unsupported, **context)
    wrong("INDEX-1", "level-1", level=1, unsupported=True)
    wrong("INDEX-2", "reserved", reserved=bytes(6) + b"\1")
    wrong("INDEX-2", "first", first=bytes(31) + b"\1")
    wrong("INDEX-2", "last", last=b"\xff" * 31 + b"\xfe")
    wrong("INDEX-4", "no-pack", [])
    wrong("INDEX-4", "order", [good[2], good[0], good[1]])
    wrong("INDEX-4", "pack-twice", [good[0], good[0], good[1]])
    wrong("INDEX-4", "kind-6", [w.index_pack(Name(6, bytes(16), 0), entries)])
    wrong("PACK-5", "no-session", which=[])
    wrong("PACK-5", "unused-session", good[:1])
    wrong("PACK-6", "no-frame", [w.index_pack(data, [])])
    wrong("PACK-7", "frame-twice", [w.index_pack(data, entries[:1] * 2)])
    wrong("PACK-8", "sealed-17", [w.index_pack(data, [w.table_entry(0, samples[0], sealed=17)])])
    based = [w.table_entry(n, samples[2 * n], bases=[w.base(at, 1, 0, 0, 9)]) for n, at in ((0, 0), (1, 1))]
    of_two = [w.index_pack(data, based[:1]), w.index_pack(second, based[1:])]
    c.valid("index-part-with-bases", "index part", w.index_plain(records, of_two, base_sessions=[TWO_EPOCHS.id, ONE.id]), **context)
    wrong("PACK-5", "base-session-unused", of_two[:1] + [good[1]], base_sessions=[TWO_EPOCHS.id, ONE.id])
    wrong("PACK-10", "bases", [w.index_pack(data, [w.table_entry(0, samples[0], bases=[w.base(0, 1, 0, 0, 0)])])], base_sessions=[TWO_EPOCHS.id])
    wrong("PACK-11", "no-chunk", [w.index_pack(data, [w.table_entry(0, samples[0], ids=[])])])
    c.invalid("PACK-12", "index-part", "index part", w.index_plain(records, good), **dict(certificate=BACKUP.certificate.hex()))
    c.invalid("CONV-3", "index-long", "index part", w.index_plain(records, good) + b"\0", **context)


# Trees

CHUNK = listed(pieces("vector", (100, 50)))
SHA = w.fixed("some node")


def sample_entries() -> List[Entry]:
    """Every kind of entry."""
    return [
        entry(b"", trees.FOLDER, mode=0o1777, owner=0, group=0, owner_name=b"root", group_name=b""),
        entry(b"a", trees.FILE, size=150, chunks=CHUNK, attributes=[(b"user.a", b"1"), (b"user.b", b"")]),
        entry(b"a.b", trees.FILE, size=1 << 40, holes=[(0, 4096), (4196, (1 << 40) - 4246)], chunks=CHUNK, cutter=2, flags=0x10),
        entry(b"big", trees.FILE, size=(1 << 64) - 1, recipe=SHA, holes=[(5, 7)], mode=0o4755),
        entry(b"dev", trees.FOLDER, time=(-1, 999_999_999)),
        entry(b"dev\0b", trees.BLOCK, device=(8, 1)),
        entry(b"dev\0c", trees.CHARACTER, device=((1 << 32) - 1, 0)),
        entry(b"dev\0f", trees.FIFO, time=((1 << 63) - 1, 0)),
        entry(b"dev\0h", trees.HARD_LINK, link=b"a"),
        entry(b"dev\0s", trees.SOCKET, time=(-(1 << 63), 0)),
        entry(b"empty", trees.FILE),
        entry(b"link", trees.SYMLINK, target=b"../\xff\n", mode=0o777),
        entry(b"name with \xff and ..", trees.FILE, owner=(1 << 32) - 1),
    ]


def two_files() -> List[Entry]:
    return [entry(b"a", trees.FILE, size=150, chunks=CHUNK), entry(b"b", trees.FILE, size=150, chunks=CHUNK)]


def leaves(c: Any) -> None:
    samples, two = sample_entries(), two_files()
    paths, keys = dict(key_kind=1, parent_level=None), dict(key_kind=2, parent_level=None)
    good = w.leaf_columns(two)
    c.valid("leaf", "tree leaf", w.tree_leaf(samples), **paths)
    c.valid("leaf-below-inner", "tree leaf", w.tree_leaf(two), **{**paths, "parent_level": 1})
    odd = [entry(key, trees.FILE) for key in (b"", b"../x", b"a\0\0", b"a\0\0/", b"a//b")]
    c.valid("leaf-object-keys", "tree leaf", w.tree_leaf(odd), **keys)
    c.valid("leaf-of-links", "tree leaf", w.tree_leaf([entry(b"b", trees.HARD_LINK, link=b"a"), entry(b"c", trees.HARD_LINK, link=b"a")]), **paths)
    later = w.tagged(good) + [(2 * 18, b"later"), (2 * 500, b"")]
    c.valid("leaf-unknown-columns", "tree leaf", w.leaf_bytes(2, later), **paths)

    def wrong(rule: str, what: str, data: bytes, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, what, "tree leaf", data, None, unsupported, **{**paths, **over})
    columns_ = w.tagged(good)
    wrong("TREE-1", "type-7", w.leaf_bytes(2, columns_, node=7), True)
    wrong("TREE-1", "type-recipe", w.leaf_bytes(2, columns_, node=3), True)
    wrong("TREE-1", "leaf-level-1", w.leaf_bytes(2, columns_, level=1))
    wrong("TREE-1", "leaf-below-level-2", w.tree_leaf(two), parent_level=2)
    wrong("TREE-2", "no-entry", w.leaf_bytes(0, columns_))
    wrong("TREE-2", "entries-4097", w.leaf_bytes(4097, columns_))
    wrong("TREE-3", "order", w.leaf_bytes(2, [columns_[1], columns_[0]] + columns_[2:]))
    wrong("TREE-3", "twice", w.leaf_bytes(2, columns_[:1] + columns_))
    wrong("TREE-3", "unknown-critical", w.leaf_bytes(2, columns_ + [(2 * 18 + 1, b"")]), True)
    wrong("TREE-3", "unknown-critical-0", w.leaf_bytes(2, [(1, b"")] + columns_), True)
    wrong("TREE-3", "known-not-critical", w.leaf_bytes(2, [(2, columns_[0][1])] + columns_[1:]))
    for number in (1, 2, 3, 10, 14):
        wrong("TREE-4", f"no-column-{number}", w.tree_leaf(two, **{f"c{number}": None}))
    for number in (15, 16, 17):
        wrong("TREE-4", f"column-{number}-for-nothing", w.tree_leaf(two, **{f"c{number}": b""}))
    wrong("CONV-1", "leaf-count", b"\1\0\x82\0" + w.tree_leaf(two)[3:])
    wrong("CONV-2", "leaf-short", w.tree_leaf(two)[:-1])
    wrong("CONV-2", "leaf-empty", b"")
    wrong("CONV-3", "leaf-long", w.tree_leaf(two) + b"\0")
    wrong("CONV-2", "kinds-short", w.tree_leaf(two, c2=b"\1"))
    wrong("CONV-3", "kinds-long", w.tree_leaf(two, c2=b"\1\1\1"))
    wrong("TREE-7", "kind-0", w.tree_leaf(two, c2=b"\1\0"), True)
    wrong("TREE-7", "kind-9", w.tree_leaf(two, c2=b"\1\x09"), True)
    leaf_keys(wrong, two)


def leaf_keys(wrong: Any, two: List[Entry]) -> None:
    def keys(*pairs: Tuple[int, bytes]) -> bytes:
        return w.tree_leaf(two, c1=b"".join(w.varint(shared) + w.blob(rest) for shared, rest in pairs))
    wrong("TREE-5", "order", keys((0, b"b"), (0, b"a")))
    wrong("TREE-5", "equal", keys((0, b"a"), (1, b"")))
    wrong("TREE-5", "shared-too-short", keys((0, b"ab"), (0, b"ac")))
    wrong("TREE-5", "shared-too-long", keys((0, b"ab"), (3, b"c")))
    wrong("TREE-5", "first-shares", keys((1, b"a"), (0, b"b")))
    wrong("TREE-5", "key-65537", keys((0, b"a" * 65_537), (0, b"b")))
    for what, key in (("dot", b"."), ("dot-dot", b"a\0.."), ("slash", b"a/b"), ("empty-component", b"a\0\0b"), ("empty-at-end", b"a\0"),
                      ("empty-at-begin", b"\0a")):
        wrong("TREE-6", what, keys((0, key), (0, b"b")))


def columns(c: Any) -> None:
    """Faults inside one column each."""
    two, v = two_files(), w.varint
    context = dict(key_kind=1, parent_level=None)

    def wrong(rule: str, what: str, entries: Optional[List[Entry]] = None, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, what, "tree leaf", w.tree_leaf(entries or two, **over), None, unsupported, **context)
    for number, value in ((3, v(0o644)), (4, v(0)), (6, w.blob(b"x")), (10, v(0)), (13, v(1))):
        wrong("TREE-8", f"run-0-column-{number}", **{f"c{number}": v(0) + value + v(2) + value})
        wrong("TREE-8", f"run-too-long-column-{number}", **{f"c{number}": v(3) + value})
        wrong("TREE-8", f"equal-neighbours-column-{number}", **{f"c{number}": (v(1) + value) * 2})
        wrong("TREE-8", f"runs-too-few-column-{number}", **{f"c{number}": v(1) + value})
        wrong("TREE-8", f"no-runs-column-{number}", **{f"c{number}": b""})
        wrong("CONV-2", f"run-cut-off-column-{number}", **{f"c{number}": v(2)})
        wrong("TREE-8", f"runs-too-many-column-{number}", **{f"c{number}": v(2) + value + v(1) + value})
    wrong("TREE-9", "mode", c3=v(2) + v(0o10000))
    for number, name in ((4, "owner"), (5, "group"), (9, "flags"), (13, "cutter")):
        wrong("TREE-9", name, **{f"c{number}": v(2) + v(1 << 32)})
    devices = [entry(b"c", trees.CHARACTER, device=(1, 2))]
    wrong("TREE-9", "major", devices, c16=v(1 << 32) + v(0))
    wrong("TREE-9", "minor", devices, c16=v(0) + v(1 << 32))
    wrong("TREE-10", "nanoseconds", c8=w.zigzag(5) + v(0) + w.zigzag(0) + v(1_000_000_000))

    def attributes(*pairs: Tuple[bytes, bytes]) -> bytes:
        return v(2) + w.attribute_list(pairs)
    wrong("TREE-11", "order", c10=attributes((b"b", b""), (b"a", b"")))
    wrong("TREE-11", "twice", c10=attributes((b"a", b""), (b"a", b"1")))
    wrong("TREE-11", "empty-name", c10=attributes((b"", b"1")))
    one = [entry(b"a", trees.FILE, size=1000, holes=[(0, 850)], chunks=CHUNK)]
    for what, holes in (("empty", v(1) + v(0) + v(0)), ("touch", v(2) + v(0) + v(400) + v(0) + v(450)), ("end", v(1) + v(151) + v(850)),
                        ("end-modulo", v(2) + v(0) + v(850) + v(1) + v((1 << 64) - 851))):
        wrong("TREE-12", what, one, c12=holes)
    plain = [entry(b"a", trees.FILE, size=150, chunks=CHUNK)]
    (first, _), (second, _) = CHUNK
    for what, data in (("length-0", v(3) + first + v(150) + second + v(0)), ("length-4-mib-1", v(2) + first + v(4_194_305)),
                       ("sum-too-small", v(2) + first + v(149)), ("sum-too-large", v(2) + first + v(151)), ("nothing", v(1))):
        wrong("TREE-13", what, plain, c14=data)
    many = [(first, 1)] * 65
    wrong("TREE-13", "inline-65", [entry(b"a", trees.FILE, size=65, chunks=many)])
    link = [entry(b"l", trees.SYMLINK, target=b"x")]
    wrong("TREE-14", "empty", link, c15=v(0))
    wrong("TREE-14", "zero-byte", link, c15=w.blob(b"a\0b"))
    wrong("TREE-14", "target-65537", link, c15=w.blob(b"a" * 65_537))
    hard = [entry(b"h", trees.HARD_LINK, link=b"a")]
    wrong("TREE-15", "itself", hard, c17=w.blob(b"h"))
    wrong("TREE-15", "after", hard, c17=w.blob(b"i"))
    wrong("TREE-6", "link", hard, c17=w.blob(b"a\0.."))


def inner_nodes(c: Any) -> None:
    context = dict(key_kind=1, parent_level=None)
    children = [(b"a\0b", SHA, 3, 1000), (b"a\0c\0d", SHA, 4096, 0), (b"z", SHA, 1, (1 << 64) - 1)]
    c.valid("inner", "tree inner", w.tree_inner(1, children), **context)
    c.valid("inner-level-10", "tree inner", w.tree_inner(10, children[:1]), **context)
    c.valid("inner-below-3", "tree inner", w.tree_inner(2, [(b"", SHA, 1, 0)]), **{**context, "parent_level": 3})

    def wrong(rule: str, what: str, data: bytes, **over: Any) -> None:
        c.invalid(rule, f"inner-{what}", "tree inner", data, **{**context, **over})
    wrong("TREE-1", "level-0", w.tree_inner(0, children))
    wrong("TREE-1", "level-11", w.tree_inner(11, children))
    wrong("TREE-1", "same-level", w.tree_inner(2, children), parent_level=2)
    wrong("TREE-2", "no-child", w.tree_inner(1, []))
    wrong("TREE-2", "children-4097", b"\2\1" + w.varint(4097) + w.tree_inner(1, children)[3:])
    wrong("TREE-5", "order", w.tree_inner(1, children[::-1]))
    wrong("TREE-5", "equal", w.tree_inner(1, children[:1] * 2))
    wrong("TREE-6", "dot-dot", w.tree_inner(1, [(b"a\0..", SHA, 1, 0)]))
    wrong("CONV-2", "short", w.tree_inner(1, children)[:-1])
    wrong("CONV-3", "long", w.tree_inner(1, children) + b"\0")


def walk_of(nodes: Sequence[bytes], kind: int = 2) -> Tuple[bytes, str]:
    """Nodes as a frame's plaintext, and the id of the last one, the root."""
    return w.frame_plaintext(nodes), w.chunk_id(kind, nodes[-1]).hex()


def tree_walks(c: Any) -> None:
    samples = sample_entries()
    samples[3].size = samples[2].size = 0
    samples[3].recipe, samples[3].holes, samples[3].chunks = None, [], []
    samples[2].holes, samples[2].chunks = [], []
    parts = [samples[:4], samples[4:7], samples[7:]]
    leaves_ = [w.tree_leaf(part) for part in parts]
    said = [(p[-1].key, w.chunk_id(2, leaf), len(p), sum(e.size or 0 for e in p)) for p, leaf in zip(parts, leaves_)]
    middle = [w.tree_inner(1, said[:2]), w.tree_inner(1, said[2:])]
    top = [(said[1][0], w.chunk_id(2, middle[0]), 7, 150), (said[2][0], w.chunk_id(2, middle[1]), len(parts[2]), 0)]

    def walk(nodes: Sequence[bytes], key_kind: int = 1) -> Any:
        data, root = walk_of(nodes)
        return data, dict(key_kind=key_kind, root=root)

    def valid(what: str, nodes: Sequence[bytes], key_kind: int = 1) -> None:
        data, context = walk(nodes, key_kind)
        c.valid(f"walk-{what}", "tree walk", data, **context)

    def wrong(rule: str, what: str, nodes: Sequence[bytes], key_kind: int = 1) -> None:
        data, context = walk(nodes, key_kind)
        c.invalid(rule, f"walk-{what}", "tree walk", data, **context)

    def inner(altered: Sequence[Tuple[bytes, bytes, int, int]]) -> List[bytes]:
        return leaves_[:len(altered)] + [w.tree_inner(1, altered)]
    valid("three-levels", leaves_ + middle + [w.tree_inner(2, top)])
    valid("leaf-alone", leaves_[:1])
    key, ident_, entries, size = said[0]
    wrong("TREE-16", "last-key", inner([(key + b"x", ident_, entries, size), said[1]]))
    wrong("TREE-16", "entries", inner([(key, ident_, entries + 1, size), said[1]]))
    wrong("TREE-16", "file-bytes", inner([(key, ident_, entries, size + 1), said[1]]))
    # The second child begins at the key at which the first one ends.
    overlap = [entry(b"big", trees.FILE), entry(b"c", trees.FILE)]
    leaf = w.tree_leaf(overlap)
    wrong("TREE-16", "children-overlap", [leaves_[0], leaf, w.tree_inner(1, [said[0], (b"c", w.chunk_id(2, leaf), 2, 0)])])
    wrong("TREE-1", "level-skipped", leaves_ + [w.tree_inner(2, said)])
    below = [entry(b"a", trees.FILE), entry(b"a\0b", trees.FILE)]
    wrong("TREE-17", "below-file", [w.tree_leaf(below)])
    wrong("TREE-17", "below-link", [w.tree_leaf([entry(b"a", trees.SYMLINK, target=b"/etc"), entry(b"a\0b\0c", trees.FILE)])])
    wrong("TREE-17", "below-root", [w.tree_leaf([entry(b"", trees.FILE), entry(b"b", trees.FILE)])])
    halves = [w.tree_leaf(below[:1]), w.tree_leaf(below[1:])]
    wrong("TREE-17", "below-file-in-another-leaf", halves + [w.tree_inner(1, [(e.key, w.chunk_id(2, n), 1, 0) for e, n in zip(below, halves)])])
    valid("object-keys-below", [w.tree_leaf(below)], 2)
    valid("folder-not-stored", [w.tree_leaf([entry(b"a\0b", trees.FILE), entry(b"a\0b.c", trees.FILE)])])
    linked = entry(b"z", trees.HARD_LINK, link=b"m")
    wrong("TREE-15", "not-there", [w.tree_leaf([linked])])
    wrong("TREE-15", "folder", [w.tree_leaf([entry(b"m", trees.FOLDER), linked])])
    wrong("TREE-15", "link-to-link", [w.tree_leaf([entry(b"a", trees.FILE), entry(b"m", trees.HARD_LINK, link=b"a"), linked])])


# Recipes and refs

def recipes(c: Any) -> None:
    context: Any = dict(parent_level=None)
    chunks_ = listed(pieces("recipe", [10 + n for n in range(70)]))
    leaf = w.recipe_leaf(chunks_)
    children = [(SHA, 4096, 1 << 40), (SHA, 1, 1)]
    c.valid("recipe-leaf", "recipe leaf", leaf, **context)
    c.valid("recipe-inner", "recipe inner", w.recipe_inner(3, children), parent_level=4)

    def wrong(rule: str, what: str, structure: str, data: bytes, unsupported: bool = False, **over: Any) -> None:
        c.invalid(rule, what, structure, data, None, unsupported, **{**context, **over})
    wrong("RECIPE-1", "type-5", "recipe leaf", w.recipe_leaf(chunks_[:2], node=5), True)
    wrong("RECIPE-1", "leaf-level-1", "recipe leaf", w.recipe_leaf(chunks_[:2], level=1))
    wrong("RECIPE-1", "leaf-below-2", "recipe leaf", w.recipe_leaf(chunks_[:2]), parent_level=2)
    wrong("RECIPE-1", "inner-level-0", "recipe inner", w.recipe_inner(0, children))
    wrong("RECIPE-1", "inner-level-11", "recipe inner", w.recipe_inner(11, children))
    wrong("RECIPE-2", "no-chunk", "recipe leaf", w.recipe_leaf([]))
    wrong("RECIPE-2", "chunks-4097", "recipe leaf", b"\3\0" + w.varint(4097) + leaf[3:])
    wrong("RECIPE-3", "length-0", "recipe leaf", w.recipe_leaf([(SHA, 0)]))
    wrong("RECIPE-3", "length-4-mib-1", "recipe leaf", w.recipe_leaf([(SHA, 4_194_305)]))
    wrong("CONV-2", "recipe-short", "recipe leaf", leaf[:-1])
    wrong("CONV-3", "recipe-long", "recipe inner", w.recipe_inner(3, children) + b"\0")
    parts = [chunks_[:30], chunks_[30:]]
    leaves_ = [w.recipe_leaf(part) for part in parts]
    said = [(w.chunk_id(3, node), len(part), sum(n for _, n in part)) for part, node in zip(parts, leaves_)]
    total = sum(n for _, n in chunks_)

    def walk(altered: Any, size: int = total + 5) -> Any:
        data, root = walk_of(leaves_ + [w.recipe_inner(1, altered)], 3)
        return data, dict(root=root, size=size, hole_bytes=5)
    data, about = walk(said)
    c.valid("recipe-walk", "recipe walk", data, **about)
    (ident_, count, size), rest = said[0], said[1:]
    for what, altered, whole in (("chunks", [(ident_, count + 1, size)] + rest, total + 5), ("bytes", [(ident_, count, size - 1)] + rest, total + 5),
                                 ("file-size", said, total + 4)):
        data, about = walk(altered, whole)
        c.invalid("RECIPE-4", what, "recipe walk", data, **about)


def refs(c: Any) -> None:
    context: Any = dict(parent_level=None)
    a, b = sorted([ONE.id, TWO_EPOCHS.id])
    bits = (True, False, True, True, True, True, True, True, False)
    runs = [w.whole(3, 2), w.partial(0, bits), w.whole(0, 1), w.whole(1, 4), w.partial(5, (False, True)), w.whole((1 << 31) - 19, 1)]
    leaf = w.refs_leaf([(a, runs), (b, [w.whole(1 << 30, 1)])])
    c.valid("refs-leaf", "refs leaf", leaf, **context)
    with_bases = [w.whole(0, 2), w.as_base(0), w.as_base(0), w.whole(0, 1), w.partial(0, bits), w.as_base((1 << 30) - 7)]
    c.valid("refs-leaf-bases", "refs leaf", w.refs_leaf([(a, with_bases), (b, [w.as_base(0), w.as_base(1 << 30)])]), **context)
    children = [(a, 5, SHA, 4096), (a, 300, SHA, 1), (b, 4, SHA, 2)]
    c.valid("refs-inner", "refs inner", w.refs_inner(1, children), parent_level=2)

    def wrong(rule: str, what: str, data: bytes, unsupported: bool = False, structure: str = "refs leaf", **over: Any) -> None:
        c.invalid(rule, what, structure, data, None, unsupported, **{**context, **over})

    def one(*items: bytes) -> bytes:
        return w.refs_leaf([(a, items)])
    wrong("REFS-1", "type-7", w.refs_leaf([(a, runs)], node=7), True)
    wrong("REFS-1", "leaf-level-1", w.refs_leaf([(a, runs)], level=1))
    wrong("REFS-1", "leaf-below-3", leaf, parent_level=3)
    wrong("REFS-1", "inner-level-0", w.refs_inner(0, children), structure="refs inner")
    wrong("REFS-2", "no-session", w.refs_leaf([]))
    wrong("REFS-2", "sessions-4097", b"\5\0" + w.varint(4097) + leaf[3:])
    wrong("REFS-2", "order", w.refs_leaf([(b, runs), (a, runs)]))
    wrong("REFS-2", "twice", w.refs_leaf([(a, runs), (a, runs)]))
    wrong("REFS-2", "no-run", w.refs_leaf([(a, [])]))
    wrong("REFS-2", "frames-4097", one(w.whole(0, 4097)))
    wrong("REFS-3", "empty-run", one(w.whole(0, 0)))
    wrong("REFS-3", "runs-touch", one(w.whole(0, 2), w.whole(0, 1)))
    wrong("REFS-3", "class-2", one(w.whole(1 << 31, 1)))
    wrong("REFS-3", "into-class-2", one(w.whole((1 << 31) - 1, 2)))
    wrong("REFS-3", "class-3", one(w.partial(3 << 30, (True, False))))
    wrong("REFS-3", "over-32-bits", one(w.whole(1 << 32, 1)))
    wrong("REFS-3", "gap-64-bits", one(w.whole((1 << 64) - 1, 1)))
    wrong("REFS-4", "one-chunk", one(w.partial(0, (True,))))
    wrong("REFS-3", "base-of-refs", one(w.as_base(1 << 31)))
    wrong("REFS-4", "chunks-16385", one(w.partial(0, (True,) * 16_384 + (False,))))
    wrong("REFS-4", "none-set", one(w.partial(0, (False,) * 9)))
    wrong("REFS-4", "all-set", one(w.partial(0, (True,) * 9)))
    wrong("REFS-4", "unused-bit", one(w.partial(0, bits, b"\x0f\x04")))
    wrong("CONV-2", "refs-bitmap-short", one(w.partial(0, bits, b"\x0f")))
    wrong("CONV-3", "refs-long", leaf + b"\0")
    wrong("REFS-5", "no-child", w.refs_inner(1, []), structure="refs inner")
    wrong("REFS-5", "children-4097", b"\6\1" + w.varint(4097) + bytes(60), structure="refs inner")
    wrong("REFS-5", "order", w.refs_inner(1, children[::-1]), structure="refs inner")
    wrong("REFS-5", "order-of-numbers", w.refs_inner(1, [(a, 1, SHA, 1), (a, 256, SHA, 1), (a, 255, SHA, 1)]), structure="refs inner")
    leaves_ = [w.refs_leaf([(a, [w.whole(0, 3)])]), w.refs_leaf([(a, [w.whole(3, 1)]), (b, [w.partial(0, bits)])])]
    said = [(a, 2, w.chunk_id(4, leaves_[0]), 3), (b, 0, w.chunk_id(4, leaves_[1]), 2)]

    def walk(nodes: Sequence[bytes], altered: Any) -> Any:
        data, root = walk_of([*nodes, w.refs_inner(1, altered)], 4)
        return data, dict(root=root)
    data, about = walk(leaves_, said)
    c.valid("refs-walk", "refs walk", data, **about)
    overlap = [leaves_[0], w.refs_leaf([(a, [w.whole(2, 2)])])]
    for what, nodes, altered in (
            ("last-frame", leaves_, [(a, 3, said[0][2], 3), said[1]]), ("frames", leaves_, [said[0], (b, 0, said[1][2], 3)]),
            ("children-overlap", overlap, [said[0], (a, 3, w.chunk_id(4, overlap[1]), 2)])):
        data, about = walk(nodes, altered)
        c.invalid("REFS-5", f"walk-{what}", "refs walk", data, **about)


# Snapshots

def snapshot_headers(c: Any) -> None:
    context = dict(certificate=ALL.certificate.hex())
    root, record = w.fixed("refs root"), ONE.record()
    c.valid("snapshot-header", "snapshot header", w.snapshot_header(TEXT, record, root), **context)
    c.valid("snapshot-header-no-tags", "snapshot header", w.snapshot_header(w.SnapshotText(tags=()), record, root, 2, ident("before")), **context)

    def wrong(rule: str, what: str, unsupported: bool = False, which: bytes = record, **over: Any) -> None:
        c.invalid(rule, f"header-{what}", "snapshot header", w.snapshot_header(TEXT, which, root, **over), None, unsupported, **context)
    tokens = sorted(ident(f"token {n}") for n in range(2))
    wrong("SNAP-3", "sequence-0", sequence=0)
    wrong("SNAP-3", "first-with-previous", previous=ident("before"))
    wrong("SNAP-3", "second-without-previous", sequence=2)
    wrong("SNAP-4", "source-0", True, source=0)
    wrong("SNAP-4", "source-5", True, source=5)
    wrong("SNAP-5", "reserved", reserved=1)
    wrong("SNAP-6", "order", tokens=tokens[::-1])
    wrong("SNAP-6", "twice", tokens=tokens[:1] * 2)
    wrong("SNAP-6", "tags-257", tokens=[n.to_bytes(16, "big") for n in range(257)])
    wrong("SNAP-7", "certificate", which=OTHER_DOMAIN.record())
    wrong("SNAP-7", "collector", which=Session("all collects", ALL, 3).record())
    wrong("SES-7", "in-header", which=ONE.record(signature=bytes(64)))
    wrong("SES-2", "in-header", True, which=ONE.record(suite=2))
    wrong("CONV-5", "time", when=(0, 1_000_000_000))
    wrong("CONV-3", "record-long", which=record + b"\0")
    good = w.snapshot_header(TEXT, record, root)
    c.invalid("CONV-2", "header-short", "snapshot header", good[:-1], **context)
    c.invalid("CONV-3", "header-long", "snapshot header", good + b"\0", **context)


def snapshot_bodies(c: Any) -> None:
    root = w.fixed("tree root")
    context = dict(series_token=w.token("series", TEXT.series).hex(), tag_tokens=sorted(w.token("tag", t).hex() for t in TEXT.tags))
    c.valid("snapshot-body", "snapshot body", w.snapshot_body(TEXT, root), **context)
    c.valid("snapshot-body-object-keys", "snapshot body", w.snapshot_body(TEXT, root, 2, 0, paths=()), **context)

    def wrong(rule: str, what: str, unsupported: bool = False, text: w.SnapshotText = TEXT, **over: Any) -> None:
        c.invalid(rule, f"body-{what}", "snapshot body", w.snapshot_body(text, root, **over), None, unsupported, **context)
    wrong("SNAP-9", "key-kind-0", True, key_kind=0)
    wrong("SNAP-9", "key-kind-3", True, key_kind=3)
    wrong("SNAP-9", "whole-2", whole_=2)
    wrong("SNAP-9", "reserved", reserved=256)
    wrong("SNAP-10", "series-not-utf-8", series=b"\xff")
    wrong("SNAP-10", "host-4097", text=w.SnapshotText(host="h" * 4097))
    wrong("SNAP-10", "path-65537", paths=[b"/" * 65_537])
    wrong("SNAP-10", "paths-4097", paths=[b""] * 4097)
    wrong("SNAP-10", "tags-order", tags=[b"b", b"a"])
    wrong("SNAP-10", "tags-twice", tags=[b"a", b"a"])
    wrong("SNAP-10", "tag-empty", tags=[b"", b"a"])
    wrong("SNAP-10", "tag-not-utf-8", tags=[b"\xc0\x80"])
    wrong("SNAP-10", "tags-257", tags=[b"%03d" % n for n in range(257)])
    wrong("SNAP-11", "series", text=w.SnapshotText("other"))
    wrong("SNAP-11", "tags", text=w.SnapshotText(tags=("daily",)))
    wrong("CONV-5", "ended", ended=(0, 1_000_000_000))
    good = w.snapshot_body(TEXT, root)
    c.invalid("CONV-2", "body-short", "snapshot body", good[:-1], **context)
    c.invalid("CONV-3", "body-long", "snapshot body", good + b"\0", **context)
