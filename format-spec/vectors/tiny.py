"""One complete tiny repository with everything in it that version 1 has, and what a restore of it must give.

`build()` gives the objects by name. Devices are left out unless asked for, since only root can restore them.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Sequence, Tuple

import writer as w
import names
import trees
from names import Name
from trees import Entry
from writer import Frame, Session

FIRST = Session("tiny first", w.ALL, 1, 1, (1, 2))
SECOND = Session("tiny second", w.BACKUP, 1, 2, (2,))
COLLECTOR = Session("tiny collector", w.MAINTAIN, 3, 2, (2,))
READER = Session("tiny reader", w.RESTORE, 2, 2)
LATER_COLLECTOR = Session("tiny later collector", w.MAINTAIN, 3, 2, (2,))
GIVEN_UP = Session("tiny given up", w.ALL, 1, 1, (1,))

SLOT_PASSPHRASE, SLOT_KEY_FILE, SLOT_REMOVED = (w.fixed(f"tiny slot {kind}", 16) for kind in ("passphrase", "key file", "removed"))
SNAPSHOT_FILES, SNAPSHOT_STREAM, SNAPSHOT_GONE = (w.fixed(f"tiny snapshot {kind}", 16) for kind in ("files", "stream", "gone"))


@dataclass
class Tiny:
    objects: Dict[str, bytes] = field(default_factory=dict)
    entries: List[Entry] = field(default_factory=list)
    content: Dict[bytes, bytes] = field(default_factory=dict)
    stream: bytes = b""

    def add(self, name: Name, data: bytes) -> None:
        assert str(name) not in self.objects
        self.objects[str(name)] = data


def number(kind: int, value: int, ident: bytes = bytes(16)) -> Name:
    return Name(kind, ident, value)


def pack_name(kind: int, text: str) -> Name:
    return Name(kind, w.fixed(f"tiny pack {text}", 16), 0)


def entry(key: bytes, kind: int, **fields) -> Entry:
    """An entry with plain values for all that its kind has."""
    if kind != trees.HARD_LINK:
        common = dict(mode=0o755 if kind == trees.FOLDER else 0o640, owner=1000, group=100, owner_name=b"user", group_name=b"users",
                      time=w.NOW, flags=0, attributes=[])
        fields = {**common, **fields}
    if kind == trees.FILE:
        fields = {**dict(size=0, holes=[], cutter=1), **fields}
        if "recipe" not in fields:
            fields.setdefault("chunks", [])
    return Entry(key, kind, **fields)


def pieces(name: str, sizes: Sequence[int]) -> List[bytes]:
    return [w.fixed(f"content {name} {at}", size) for at, size in enumerate(sizes)]


def listed(chunks: Sequence[bytes]) -> List[Tuple[bytes, int]]:
    return [(w.chunk_id(1, chunk), len(chunk)) for chunk in chunks]


def tree_node(data: bytes) -> bytes:
    return w.chunk_id(2, data)


def recipe_tree(chunks: Sequence[bytes]) -> List[bytes]:
    """Nodes of a recipe, the root last."""
    half = len(chunks) // 2
    leaves = [w.recipe_leaf(listed(part)) for part in (chunks[:half], chunks[half:])]
    children = [(w.chunk_id(3, leaf), len(part), sum(map(len, part))) for leaf, part in zip(leaves, (chunks[:half], chunks[half:]))]
    return leaves + [w.recipe_inner(1, children)]


def split_tree(entries: Sequence[Entry], at: int) -> List[bytes]:
    """Nodes of a tree of two leaves, the root last."""
    parts = (entries[:at], entries[at:])
    leaves = [w.tree_leaf(part) for part in parts]
    children = [(part[-1].key, tree_node(leaf), len(part), sum(e.size or 0 for e in part)) for part, leaf in zip(parts, leaves)]
    return leaves + [w.tree_inner(1, children)]


def split_refs(runs: Sequence[Tuple[bytes, Sequence[bytes], int, int]]) -> List[bytes]:
    """Nodes of refs with one session to a leaf, the root last. Each: session, runs, last frame, frames."""
    runs = sorted(runs, key=lambda run: run[0])
    leaves = [w.refs_leaf([(session, items)]) for session, items, _, _ in runs]
    if len(leaves) == 1:
        return leaves
    children = [(session, last, w.chunk_id(4, leaf), count) for (session, _, last, count), leaf in zip(runs, leaves)]
    return leaves + [w.refs_inner(1, children)]


def build(devices: bool = False) -> Tiny:
    tiny = Tiny()
    _config_and_slots(tiny)
    _files(tiny, devices)
    _stream(tiny)
    _companions(tiny)
    return tiny


def _config_and_slots(tiny: Tiny) -> None:
    one = w.finish(w.header(number(1, 1), 0) + w.config_body(), w.ADMIN_SIGNER)
    body = w.config_body(predecessor=one[-32:], structure_epoch=2, restore_epoch=2, restore_keys=[w.restore_key(1), w.restore_key(2)],
                         revoked=[(w.fixed("credential revoked", 16), 2)])
    tiny.add(number(1, 1), one)
    tiny.add(number(1, 2), w.finish(w.header(number(1, 2), 0) + body, w.ADMIN_SIGNER))
    name = number(2, 1, SLOT_PASSPHRASE)
    tiny.add(name, w.slot(name, w.slot_seed(), kind=1, costs=(64, 1, 1), salt=w.SLOT_SALT))
    name = number(2, 1, SLOT_KEY_FILE)
    tiny.add(name, w.slot(name, w.KEY_FILE_SEED, roles=4, signer=w.RESTORE))
    for generation, state in ((1, 1), (2, 2)):
        name = number(2, generation, SLOT_REMOVED)
        tiny.add(name, w.slot(name, w.fixed("seed of the removed slot"), state=state))


def _files(tiny: Tiny, devices: bool) -> None:
    text, sparse, big = pieces("text", (700, 300)), pieces("sparse", (4096, 100)), pieces("big", [900 + 7 * n for n in range(70)])
    zeros, unused = bytes(5000), w.fixed("content unused", 50)
    recipe = recipe_tree(big)
    sparse_size = 8192 + 4096 + 4096 + 100 + 12
    entries = [
        entry(b"", trees.FOLDER, mode=0o750),
        entry(b"a.txt", trees.FILE, size=1000, chunks=listed(text), mode=0o4755, attributes=[(b"user.a", b"1"), (b"user.b", b"\0\xff")]),
        entry(b"big", trees.FILE, size=sum(map(len, big)), recipe=w.chunk_id(3, recipe[-1])),
        entry(b"dir", trees.FOLDER, mode=0o2711, time=(-86_400, 1)),
        entry(b"dir\0empty", trees.FILE),
        entry(b"dir\0fifo", trees.FIFO),
        entry(b"dir\0hard", trees.HARD_LINK, link=b"a.txt"),
        entry(b"dir\0socket", trees.SOCKET),
        entry(b"dir\0sparse", trees.FILE, size=sparse_size, holes=[(0, 8192), (12_288, 4096), (16_484, 12)], chunks=listed(sparse)),
        entry(b"link", trees.SYMLINK, target=b"../nowhere/\xff", mode=0o777),
        entry(b"zero\xff", trees.FILE, size=5000, chunks=listed([zeros]), cutter=2, time=(-5, 500_000_000), owner=0, owner_name=b"root"),
    ]
    if devices:
        entries += [entry(b"\xf0block", trees.BLOCK, device=(7, 200)), entry(b"\xf0char", trees.CHARACTER, device=(1, 3))]
        entries.sort(key=lambda e: e.key)
    tiny.entries = entries
    tiny.content = {b"a.txt": b"".join(text), b"big": b"".join(big), b"dir\0empty": b"", b"zero\xff": zeros,
                    b"dir\0sparse": bytes(8192) + sparse[0] + bytes(4096) + sparse[1] + bytes(12)}
    nodes = split_tree(entries, 5)
    data = [Frame(FIRST, 0, 0, text + [unused] + sparse), Frame(FIRST, 0, 1, big[:40], 0), Frame(FIRST, 0, 2, big[40:])]
    own = Frame(SECOND, 0, 0, [zeros])
    meta = [Frame(FIRST, 1, 0, nodes + recipe)]
    refs_nodes = split_refs([
        (FIRST.id, [w.partial(0, (True, True, False, True, True)), w.whole(0, 2), w.whole((1 << 30) - 3, 1)], 1 << 30, 4),
        (SECOND.id, [w.whole(0, 1)], 0, 1)])
    refs = [Frame(FIRST, 2, 0, refs_nodes)]
    layout = [(pack_name(3, "data"), data[:2], w.ALL), (pack_name(3, "second"), [own], w.BACKUP), (pack_name(4, "meta"), meta, w.ALL),
              (pack_name(5, "refs"), refs, w.ALL), (pack_name(3, "copied"), [own, data[2]], w.MAINTAIN)]
    for name, frames, signer in layout:
        tiny.add(name, w.pack(name, frames, signer))
    index = Name(names.INDEX, w.fixed("tiny index", 16), 0)
    tiny.add(index, w.one_part(index, w.index_of([(n, f) for n, f, _ in layout] + [(pack_name(4, "gone"), meta)]), w.MAINTAIN))
    totals = (len(entries), sum(e.size or 0 for e in entries), 5, 70_000)
    _snapshot(tiny, SNAPSHOT_FILES, FIRST, w.chunk_id(4, refs_nodes[-1]), nodes[-1], totals)


def reframe(tiny: Tiny, is_mapped: bool = True) -> List[Name]:
    """Two collections later: the first data pack is gone. What was used of it stands in new frames, a part of it re-made twice.
    Gives the names of the relocations. One chunk that is used is left out where not `is_mapped`."""
    del tiny.objects[str(pack_name(3, "data"))]
    text, sparse, big = pieces("text", (700, 300)), pieces("sparse", (4096, 100)), pieces("big", [900 + 7 * n for n in range(70)])[:40]
    frames = [Frame(COLLECTOR, 0, 0, text + sparse + big[:20]), Frame(LATER_COLLECTOR, 0, 0, big[:0:-1])]
    name = pack_name(3, "re-made")
    tiny.add(name, w.pack(name, frames, w.MAINTAIN))
    few = [(position, 0, at) for at, position in enumerate((0, 1, 3, 4) if is_mapped else (0, 1, 4))]
    many = [(at, 0, at + 4) if at < 20 else (at, 1, at - 20) for at in range(40)]
    objects = [(COLLECTOR, [(FIRST.id, 0, 5, few), (FIRST.id, 1, 40, many)]),
               (LATER_COLLECTOR, [(COLLECTOR.id, 1, 20, [(at, 0, 19 - at) for at in range(20)])])]
    made = [Name(names.RELOCATION, w.fixed(f"tiny relocations {at}", 16), 0) for at in range(2)]
    for name, (session, moved) in zip(made, objects):
        tiny.add(name, w.one_part(name, w.relocations_plain(session.id, moved), w.MAINTAIN))
    return made


class InTier(NamedTuple):
    """What `place_in_tier` made, and what belongs into the tier: names."""
    placement: List[str]
    moved: List[str]
    marker: str


def place_in_tier(tiny: Tiny, address: str) -> InTier:
    """Says that the data packs of the first session lie in a tier."""
    tier = w.fixed("tiny tier", 16)
    names_ = [Name(names.PLACEMENT, tier, 0), Name(names.PLACEMENT, w.fixed("tiny placed", 16), 0)]
    moved = sorted(str(pack_name(3, text)) for text in ("data", "second"))
    packs = [(bytes.fromhex(name[-32:]), len(tiny.objects[name]), tiny.objects[name][-32:], 1, 2) for name in moved]
    tiny.add(names_[0], w.one_part(names_[0], w.tier_plain(tier, address=address.encode(), label=b"a disk"), w.MAINTAIN))
    tiny.add(names_[1], w.one_part(names_[1], w.placed_plain(tier, sorted(packs)), w.MAINTAIN))
    return InTier([str(name) for name in names_], moved, str(names_[0]))


def _snapshot(tiny: Tiny, ident: bytes, session: Session, refs_root: bytes, root: bytes, totals: Tuple[int, ...], source: int = 1,
              text: w.SnapshotText = w.SnapshotText(), when: Tuple[int, int] = w.NOW) -> None:
    name = Name(names.SNAPSHOT, ident, 0)
    head = w.snapshot_header(text, session.record(), refs_root, totals=totals, source=source, when=when)
    tiny.add(name, w.snapshot(name, session, head, w.snapshot_body(text, tree_node(root))))


def _stream(tiny: Tiny) -> None:
    """A stream by the second session, which is not closed."""
    chunks = pieces("stream", (3000, 2000))
    tiny.stream = b"".join(chunks)
    root = w.tree_leaf([entry(b"dump.sql", trees.FILE, size=5000, chunks=listed(chunks))])
    refs = w.refs_leaf([(SECOND.id, [w.whole(1, 1), w.whole((1 << 30) - 2, 1)])])
    frames = [Frame(SECOND, 0, 1, chunks), Frame(SECOND, 1, 0, [root]), Frame(SECOND, 2, 0, [refs])]
    for kind, frame in zip(names.PACKS, frames):
        name = pack_name(kind, f"stream {kind}")
        tiny.add(name, w.pack(name, [frame], w.BACKUP))
    _snapshot(tiny, SNAPSHOT_STREAM, SECOND, w.chunk_id(4, refs), root, (1, 5000, 2, 5100), 2,
              w.SnapshotText("dump", (), paths=()), (w.NOW[0] + 10, 0))


def add_snapshot(tiny: Tiny, session: Session, entries: Sequence[Entry], chunks: Sequence[bytes], named: int = 2,
                 totals: Tuple[int, ...] = ()) -> bytes:
    """One more snapshot, of entries in one leaf and of these data chunks; gives its id. Its refs name the data frame only
    where `named` is 2. Frames of the session are numbered anew from 100."""
    ident = w.fixed(f"tiny added {len(tiny.objects)}", 16)
    root, at = w.tree_leaf(entries), 100 + len(tiny.objects)
    runs = ([w.whole(at, 1), w.whole((1 << 30) - 1, 1)] if named == 2 else [w.whole((1 << 30) + at, 1)])
    refs = w.refs_leaf([(session.id, runs)])
    frames = [Frame(session, 0, at, list(chunks) or [b"none"]), Frame(session, 1, at, [root]), Frame(session, 2, at, [refs])]
    for kind, frame in zip(names.PACKS, frames):
        name = pack_name(kind, f"added {kind} {ident.hex()}")
        tiny.add(name, w.pack(name, [frame], session.signer))
    totals = totals or (len(entries), sum(e.size or 0 for e in entries), named)
    _snapshot(tiny, ident, session, w.chunk_id(4, refs), root, (*totals, 1), text=w.SnapshotText("added", ()), when=(w.NOW[0] + 99, 0))
    return ident


def _companions(tiny: Tiny) -> None:
    for session in (FIRST, SECOND, COLLECTOR, READER, GIVEN_UP):
        name = Name(names.SESSION, session.id, 0)
        tiny.add(name, w.one_part(name, w.session_plain(session), session.signer))
        name = number(names.BEAT, 1, session.id)
        tiny.add(name, w.one_part(name, w.time(w.NOW), session.signer))
    for session, snapshots, signer in ((FIRST, [SNAPSHOT_FILES], w.ALL), (COLLECTOR, [], w.MAINTAIN), (READER, [], w.RESTORE),
                                       (GIVEN_UP, [SNAPSHOT_GONE], w.MAINTAIN)):
        name = Name(names.CLOSED, session.id, 0)
        tiny.add(name, w.one_part(name, w.closed_plain(snapshots, 2 if session is GIVEN_UP else 1), signer))
    name = Name(names.TOMBSTONE, GIVEN_UP.id, 0)
    tiny.add(name, w.one_part(name, w.tombstone_plain(2), w.MAINTAIN))
    name = Name(names.WITHDRAWN, SNAPSHOT_GONE, 0)
    tiny.add(name, w.one_part(name, w.withdrawn_plain(GIVEN_UP.id, 2), w.MAINTAIN))
    before = bytes(32)
    for generation in (1, 2):
        name = number(names.EPOCH, generation)
        condemned = [(names.DATA_PACK, pack_name(3, "old").id)] if generation == 1 else []
        tiny.add(name, w.one_part(name, w.epoch_plain(COLLECTOR.id, condemned, before), w.MAINTAIN))
        before = tiny.objects[str(name)][-32:]
