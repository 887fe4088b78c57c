"""Tree, recipe and refs nodes: the pages `tree`, `recipe`, `refs`.

`decode_*` looks at one node alone. `walk_*` goes through all nodes from a root, in order, and checks what nodes say of
one another; it takes chunks from a function `get(kind, id)` that has checked the id.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from conventions import Cursor, Time, need, unsupported_unless
from packs import CHUNK_MAX, KIND_RECIPE, KIND_REFS, KIND_TREE

FILE, FOLDER, SYMLINK, FIFO, SOCKET, BLOCK, CHARACTER, HARD_LINK = range(1, 9)
PATHS, OBJECT_KEYS = 1, 2
KEY_MAX, NODE_MAX, ITEMS_MAX, INLINE_MAX, TARGET_MAX, ATTRIBUTES_MAX = 65_536, 2_097_152, 4096, 64, 65_536, 1 << 20

Get = Callable[[int, bytes], bytes]


@dataclass
class Entry:
    """One entry. Fields that are not for its kind are None."""
    key: bytes
    kind: int = 0
    mode: Optional[int] = None
    owner: Optional[int] = None
    group: Optional[int] = None
    owner_name: Optional[bytes] = None
    group_name: Optional[bytes] = None
    time: Optional[Time] = None
    flags: Optional[int] = None
    attributes: Optional[List[Tuple[bytes, bytes]]] = None
    size: Optional[int] = None
    holes: Optional[List[Tuple[int, int]]] = None           # offset, length
    cutter: Optional[int] = None
    recipe: Optional[bytes] = None
    chunks: Optional[List[Tuple[bytes, int]]] = None        # id, length; None where there is a recipe
    target: Optional[bytes] = None
    device: Optional[Tuple[int, int]] = None
    link: Optional[bytes] = None


@dataclass(frozen=True)
class TreeLeaf:
    entries: List[Entry]


@dataclass(frozen=True)
class TreeChild:
    last_key: bytes
    id: bytes
    entries: int
    file_bytes: int


@dataclass(frozen=True)
class TreeInner:
    level: int
    children: List[TreeChild]


def _level(cursor: Cursor, leaf: int, inner: int, parent: Optional[int], rule: str) -> int:
    """Node type and level; gives the level."""
    node, level = cursor.u8(), cursor.u8()
    unsupported_unless(node in (leaf, inner), rule, f"node type {node}")
    need(level == 0 if node == leaf else 1 <= level <= 10, rule, f"level {level} of node type {node}")
    need(parent is None or level == parent - 1, rule, f"level {level} below {parent}")
    return level


def _common(a: bytes, b: bytes) -> int:
    length = 0
    for x, y in zip(a, b):
        if x != y:
            break
        length += 1
    return length


def _key(cursor: Cursor, before: Optional[bytes], key_kind: int) -> bytes:
    """One key of a node, of which only what it does not share with the key before is stored: TREE-5, TREE-6."""
    shared = cursor.varint()
    previous = before or b""
    need(shared <= len(previous), "TREE-5", f"{shared} bytes shared with a key of {len(previous)}")
    key = previous[:shared] + cursor.blob()
    need(len(key) <= KEY_MAX, "TREE-5", f"key of {len(key)} bytes")
    need(before is None or key > before, "TREE-5", "keys not ascending")
    need(shared == _common(previous, key), "TREE-5", "shared length is not as long as it can be")
    check_components(key, key_kind)
    return key


def check_components(key: bytes, key_kind: int) -> None:
    if key_kind == PATHS and key:
        for component in key.split(b"\0"):
            bad = component in (b"", b".", b"..") or b"/" in component
            need(not bad, "TREE-6", f"component {component!r}")


def decode_tree(data: bytes, key_kind: int, parent: Optional[int] = None) -> "TreeLeaf | TreeInner":
    cursor = Cursor(data)
    level = _level(cursor, 1, 2, parent, "TREE-1")
    count = cursor.varint()
    need(1 <= count <= ITEMS_MAX and len(data) <= NODE_MAX, "TREE-2", f"{count} items, {len(data)} bytes")
    return _decode_leaf(cursor, count, key_kind) if level == 0 else _decode_inner(cursor, level, count, key_kind)


def _decode_inner(cursor: Cursor, level: int, count: int, key_kind: int) -> TreeInner:
    cursor.fits(count)
    children: List[TreeChild] = []
    for _ in range(count):
        key = _key(cursor, children[-1].last_key if children else None, key_kind)
        children.append(TreeChild(key, cursor.take(32), cursor.varint(), cursor.varint()))
    cursor.end()
    return TreeInner(level, children)


# Columns of a leaf

Values = Callable[[Cursor], Any]


def _runs(cursor: Cursor, count: int, value: Values) -> Iterator[Any]:
    """TREE-8. Runs go on to the end of their column."""
    done, before = 0, None
    while cursor.left():
        length = cursor.varint()
        need(1 <= length <= count - done, "TREE-8", f"run of {length}, {count - done} entries left")
        item = value(cursor)
        need(done == 0 or item != before, "TREE-8", "neighbouring runs are equal")
        yield from (item for _ in range(length))
        done, before = done + length, item
    need(done == count, "TREE-8", f"runs of {done} entries, {count} are meant")


def _below(limit: int) -> Values:
    def value(cursor: Cursor) -> int:
        number = cursor.varint()
        need(number < limit, "TREE-9", f"value {number}")
        return number
    return value


def _attributes(cursor: Cursor) -> List[Tuple[bytes, bytes]]:
    count = cursor.varint()
    cursor.fits(count)
    found: List[Tuple[bytes, bytes]] = []
    for _ in range(count):
        name, value = cursor.blob(), cursor.blob()
        need(name and (not found or name > found[-1][0]), "TREE-11", "attribute names empty or not ascending")
        found.append((name, value))
    weight = sum(len(name) + len(value) for name, value in found)
    need(weight <= ATTRIBUTES_MAX, "TREE-11", f"attributes of {weight} bytes")
    return found


def _times(cursor: Cursor, entries: List[Entry]) -> None:
    seconds = 0
    for entry in entries:
        seconds = (seconds + cursor.zigzag() + (1 << 63)) % (1 << 64) - (1 << 63)
        nanoseconds = cursor.varint()
        need(nanoseconds < 1_000_000_000, "TREE-10", f"{nanoseconds} nanoseconds")
        entry.time = (seconds, nanoseconds)


def _holes(cursor: Cursor, entries: List[Entry]) -> None:
    for entry in entries:
        count, end, holes = cursor.varint(), 0, []
        cursor.fits(count)
        for number in range(count):
            distance, length = cursor.varint(), cursor.varint()
            need(length and (distance or not number), "TREE-12", "empty hole, or holes that touch")
            holes.append((end + distance, length))
            end += distance + length
            need(end <= entry.size, "TREE-12", f"hole ends at {end} in a file of {entry.size}")
        entry.holes = holes


def _chunks(cursor: Cursor, entries: List[Entry]) -> None:
    for entry in entries:
        count = cursor.varint()
        if count == 0:
            entry.recipe = cursor.take(32)
            continue
        need(count - 1 <= INLINE_MAX, "TREE-13", f"{count - 1} chunks inline")
        cursor.fits(count - 1)
        entry.chunks = []
        for _ in range(count - 1):
            ident, length = cursor.take(32), cursor.varint()
            need(1 <= length <= CHUNK_MAX, "TREE-13", f"chunk of {length} bytes")
            entry.chunks.append((ident, length))
        total = sum(length for _, length in entry.chunks) + hole_bytes(entry)
        need(total == entry.size, "TREE-13", f"chunks and holes of {total} bytes in a file of {entry.size}")


def hole_bytes(entry: Entry) -> int:
    return sum(length for _, length in entry.holes)


def _target(cursor: Cursor) -> bytes:
    target = cursor.blob()
    need(1 <= len(target) <= TARGET_MAX and b"\0" not in target, "TREE-14", f"target of {len(target)} bytes")
    return target


def _device(cursor: Cursor) -> Tuple[int, int]:
    return _below(1 << 32)(cursor), _below(1 << 32)(cursor)


def _run_column(name: str, value: Values) -> Callable[[Cursor, List[Entry]], None]:
    def column(cursor: Cursor, entries: List[Entry]) -> None:
        for entry, item in zip(entries, list(_runs(cursor, len(entries), value))):
            setattr(entry, name, item)
    return column


def _each_column(name: str, value: Values) -> Callable[[Cursor, List[Entry]], None]:
    def column(cursor: Cursor, entries: List[Entry]) -> None:
        for entry in entries:
            setattr(entry, name, value(cursor))
    return column


NOT_LINKS = frozenset(range(FILE, HARD_LINK))
FILES, DEVICES = frozenset([FILE]), frozenset([BLOCK, CHARACTER])
NUMBER = 1 << 32
# Column number -> (kinds of entry that it is for, how it is read). Keys (1), kinds (2) and links (17) stand apart.
COLUMNS = {
    3: (NOT_LINKS, _run_column("mode", _below(0o10000))),
    4: (NOT_LINKS, _run_column("owner", _below(NUMBER))),
    5: (NOT_LINKS, _run_column("group", _below(NUMBER))),
    6: (NOT_LINKS, _run_column("owner_name", Cursor.blob)),
    7: (NOT_LINKS, _run_column("group_name", Cursor.blob)),
    8: (NOT_LINKS, _times),
    9: (NOT_LINKS, _run_column("flags", _below(NUMBER))),
    10: (NOT_LINKS, _run_column("attributes", _attributes)),
    11: (FILES, _each_column("size", Cursor.varint)),
    12: (FILES, _holes),
    13: (FILES, _run_column("cutter", _below(NUMBER))),
    14: (FILES, _chunks),
    15: (frozenset([SYMLINK]), _each_column("target", _target)),
    16: (DEVICES, _each_column("device", _device)),
}


def _scan_columns(cursor: Cursor) -> Dict[int, bytes]:
    """The contents of the known columns by number: TREE-3."""
    count, last, found = cursor.varint(), -1, {}
    cursor.fits(count)
    for _ in range(count):
        tag, content = cursor.varint(), cursor.blob()
        need(tag > last, "TREE-3", f"column tag {tag} after {last}")
        last = tag
        if 1 <= tag >> 1 <= 17:
            need(tag & 1, "TREE-3", f"column {tag >> 1} not marked critical")
            found[tag >> 1] = content
        else:
            unsupported_unless(not tag & 1, "TREE-3", f"critical column {tag >> 1}")
    cursor.end()
    return found


def _decode_leaf(cursor: Cursor, count: int, key_kind: int) -> TreeLeaf:
    columns = _scan_columns(cursor)
    entries = _decode_keys(_column(columns, 1, count), count, key_kind)
    kinds = _column(columns, 2, count)
    for entry in entries:
        entry.kind = kinds.u8()
        unsupported_unless(1 <= entry.kind <= 8, "TREE-7", f"entry kind {entry.kind}")
    kinds.end()
    for number, (for_kinds, read) in COLUMNS.items():
        meant = [entry for entry in entries if entry.kind in for_kinds]
        content = _column(columns, number, len(meant))
        if meant:
            read(content, meant)
            content.end()
    _decode_links(columns, [entry for entry in entries if entry.kind == HARD_LINK], key_kind)
    return TreeLeaf(entries)


def _column(columns: Dict[int, bytes], number: int, meant: int) -> Cursor:
    need((number in columns) == bool(meant), "TREE-4", f"column {number} for {meant} entries")
    return Cursor(columns.get(number, b""))


def _decode_keys(cursor: Cursor, count: int, key_kind: int) -> List[Entry]:
    cursor.fits(count)
    entries: List[Entry] = []
    for _ in range(count):
        entries.append(Entry(_key(cursor, entries[-1].key if entries else None, key_kind)))
    cursor.end()
    return entries


def _decode_links(columns: Dict[int, bytes], links: List[Entry], key_kind: int) -> None:
    cursor = _column(columns, 17, len(links))
    for entry in links:
        entry.link = cursor.blob()
        need(entry.link < entry.key, "TREE-15", "link to a key that is not before")
        need(len(entry.link) <= KEY_MAX, "TREE-5", "key of a link too long")
        check_components(entry.link, key_kind)
    cursor.end()


# Whole trees

class TreeWalk:
    """All entries of a tree from its root, with the checks that take more than one node."""

    def __init__(self, root: bytes, key_kind: int, get: Get):
        self.root, self.key_kind, self.get = root, key_kind, get
        self.last: Optional[Entry] = None
        self.kinds: Dict[bytes, int] = {}
        self.entries = self.file_bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        yield from self._node(self.root, None)

    def _node(self, ident: bytes, parent: Optional[int]) -> Iterator[Entry]:
        node = decode_tree(self.get(KIND_TREE, ident), self.key_kind, parent)
        if isinstance(node, TreeInner):
            for child in node.children:
                yield from self._child(child, node.level)
            return
        for entry in node.entries:
            self._check(entry)
            yield entry

    def _child(self, child: TreeChild, level: int) -> Iterator[Entry]:
        entries, file_bytes = self.entries, self.file_bytes
        yield from self._node(child.id, level)
        true = (self.entries - entries, (self.file_bytes - file_bytes) % (1 << 64), self.last.key)
        need((child.entries, child.file_bytes, child.last_key) == true, "TREE-16", "an inner node says other than is")

    def _check(self, entry: Entry) -> None:
        last = self.last
        if last:
            need(entry.key > last.key, "TREE-16", "keys of a child not above the child before")
            inside = not last.key or entry.key.startswith(last.key + b"\0")
            below = self.key_kind == PATHS and last.kind != FOLDER and inside
            need(not below, "TREE-17", f"{entry.key!r} lies below an entry that is no folder")
        if entry.kind == HARD_LINK:
            kind = self.kinds.get(entry.link, FOLDER)
            need(kind not in (FOLDER, HARD_LINK), "TREE-15", f"link to {entry.link!r}, which is no file")
        self.kinds[entry.key] = entry.kind
        self.last = entry
        self.entries += 1
        self.file_bytes = (self.file_bytes + (entry.size or 0)) % (1 << 64)


# Recipes

@dataclass(frozen=True)
class RecipeLeaf:
    chunks: List[Tuple[bytes, int]]


@dataclass(frozen=True)
class RecipeChild:
    id: bytes
    chunks: int
    bytes: int


@dataclass(frozen=True)
class RecipeInner:
    level: int
    children: List[RecipeChild]


def decode_recipe(data: bytes, parent: Optional[int] = None) -> "RecipeLeaf | RecipeInner":
    cursor = Cursor(data)
    level = _level(cursor, 3, 4, parent, "RECIPE-1")
    count = cursor.varint()
    need(1 <= count <= ITEMS_MAX, "RECIPE-2", f"{count} items")
    cursor.fits(count)
    if level:
        node = RecipeInner(level, [RecipeChild(cursor.take(32), cursor.varint(), cursor.varint()) for _ in range(count)])
    else:
        node = RecipeLeaf([_recipe_chunk(cursor) for _ in range(count)])
    cursor.end()
    return node


def _recipe_chunk(cursor: Cursor) -> Tuple[bytes, int]:
    ident, length = cursor.take(32), cursor.varint()
    need(1 <= length <= CHUNK_MAX, "RECIPE-3", f"chunk of {length} bytes")
    return ident, length


class RecipeWalk:
    def __init__(self, root: bytes, get: Get):
        self.root, self.get, self.chunks, self.bytes = root, get, 0, 0

    def __iter__(self) -> Iterator[Tuple[bytes, int]]:
        yield from self._node(self.root, None)

    def _node(self, ident: bytes, parent: Optional[int]) -> Iterator[Tuple[bytes, int]]:
        node = decode_recipe(self.get(KIND_RECIPE, ident), parent)
        if isinstance(node, RecipeLeaf):
            for chunk in node.chunks:
                self.chunks += 1
                self.bytes += chunk[1]
                yield chunk
            return
        for child in node.children:
            chunks, size = self.chunks, self.bytes
            yield from self._node(child.id, node.level)
            need((child.chunks, child.bytes) == (self.chunks - chunks, self.bytes - size), "RECIPE-4",
                 "an inner node says other than is")


def file_chunks(entry: Entry, get: Get) -> Iterator[Tuple[bytes, int]]:
    """The chunks of a file, out of the entry or its recipe."""
    if entry.chunks is not None:
        yield from entry.chunks
        return
    walk = RecipeWalk(entry.recipe, get)
    yield from walk
    need(walk.bytes + hole_bytes(entry) == entry.size, "RECIPE-4", "the recipe and the holes are not the size")


# Refs

@dataclass(frozen=True)
class RefsFrame:
    """A frame that is needed: `used` is None where it is used whole, otherwise one truth value for each chunk. A base is needed whole, as it is."""
    session: bytes
    number: int
    used: Optional[Tuple[bool, ...]]
    is_base: bool = False


@dataclass(frozen=True)
class RefsLeaf:
    frames: List[RefsFrame]


@dataclass(frozen=True)
class RefsChild:
    session: bytes
    number: int
    id: bytes
    frames: int


@dataclass(frozen=True)
class RefsInner:
    level: int
    children: List[RefsChild]


def decode_refs(data: bytes, parent: Optional[int] = None) -> "RefsLeaf | RefsInner":
    cursor = Cursor(data)
    level = _level(cursor, 5, 6, parent, "REFS-1")
    count = cursor.varint()
    rule = "REFS-5" if level else "REFS-2"
    need(1 <= count <= ITEMS_MAX, rule, f"{count} items")
    cursor.fits(count)
    node = _refs_inner(cursor, level, count) if level else _refs_leaf(cursor, count)
    cursor.end()
    return node


def _refs_inner(cursor: Cursor, level: int, count: int) -> RefsInner:
    children: List[RefsChild] = []
    for _ in range(count):
        child = RefsChild(cursor.take(16), cursor.u32(), cursor.take(32), cursor.varint())
        before = children and (children[-1].session, children[-1].number)
        need(not before or before < (child.session, child.number), "REFS-5", "children not ascending")
        children.append(child)
    return RefsInner(level, children)


def _refs_leaf(cursor: Cursor, count: int) -> RefsLeaf:
    frames: List[RefsFrame] = []
    last = b""
    for _ in range(count):
        session, runs = cursor.take(16), cursor.varint()
        need(session > last and runs, "REFS-2", "sessions not ascending, or one without runs")
        cursor.fits(runs)
        _refs_runs(cursor, session, runs, frames)
        last = session
    return RefsLeaf(frames)


def _refs_runs(cursor: Cursor, session: bytes, runs: int, frames: List[RefsFrame]) -> None:
    end, after_whole = 0, False
    for _ in range(runs):
        gap, head = cursor.varint(), cursor.varint()
        is_base, partial, count = head == 1, bool(head & 1), head >> 1
        need(partial or count, "REFS-3", "empty run")
        need(partial or gap or not after_whole, "REFS-3", "run of whole frames that touches the one before")
        length = 1 if partial else count
        need(len(frames) + length <= ITEMS_MAX, "REFS-2", "too many frames in a leaf")
        first = end + gap
        end = first + length
        need(end <= 1 << 31, "REFS-3", f"number {end - 1}, or its class")
        used = _bitmap(cursor, count) if partial and not is_base else None
        frames.extend(RefsFrame(session, number, used, is_base) for number in range(first, end))
        after_whole = not partial


def _bitmap(cursor: Cursor, count: int) -> Tuple[bool, ...]:
    need(2 <= count <= 16_384, "REFS-4", f"partial run of {count} chunks")
    value = int.from_bytes(cursor.take(-(-count // 8)), "little")
    need(0 < value < (1 << count) - 1, "REFS-4", "no bit set, none clear, or unused bits")
    return tuple(bool(value >> bit & 1) for bit in range(count))


class RefsWalk:
    def __init__(self, root: bytes, get: Get):
        self.root, self.get, self.frames, self.last = root, get, 0, (b"", 0)

    def __iter__(self) -> Iterator[RefsFrame]:
        yield from self._node(self.root, None)

    def _node(self, ident: bytes, parent: Optional[int]) -> Iterator[RefsFrame]:
        node = decode_refs(self.get(KIND_REFS, ident), parent)
        if isinstance(node, RefsLeaf):
            for frame in node.frames:
                need((frame.session, frame.number) > self.last, "REFS-5", "frames not ascending")
                self.frames += 1
                self.last = (frame.session, frame.number)
                yield frame
            return
        for child in node.children:
            before = self.frames
            yield from self._node(child.id, node.level)
            need((child.session, child.number, child.frames) == (*self.last, self.frames - before), "REFS-5",
                 "an inner node says other than is")
