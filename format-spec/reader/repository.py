"""A repository in a folder: opened with a passphrase or key file, its packs looked through, its chunks found.

Everything is read when it is needed and held no longer than needed; of packs only the tables are kept.
"""
from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

import bodies
import names
import packs
import parity
from bodies import Config, Credential, Snapshot
from conventions import RuleError, need
from names import Name
from objects import MAINTAIN, Object, Record, Source, Trust, check_object, check_outside, check_writer, open_secret
from packs import ChunkIds, FrameEntry
from trees import RefsFrame, RefsWalk

CACHE_BYTES = 64 << 20
STEPS_MAX = 16                          # from a chunk to where it stands now
NOT_DAMAGE = ("OBJ-12", "SLOT-6")      # what these rules say is that the key is another one

FrameId = Tuple[bytes, int]


class NoRepository(Exception):
    """The folder holds no repository."""


class NoKey(Exception):
    """The passphrase, key file or credential does not open what is asked for."""


@dataclass
class Problem:
    where: str
    rule: str
    message: str
    unsupported: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.message}" + (" (unsupported)" if self.unsupported else "")


class Problems:
    """What was found wrong; the exit code follows from it."""

    def __init__(self) -> None:
        self.found: List[Problem] = []
        self.notes: List[str] = []

    def add(self, where: object, error: RuleError) -> None:
        error.reported = True
        self.found.append(Problem(str(where), error.rule, error.message, error.unsupported))

    @contextmanager
    def at(self, where: object) -> Iterator[None]:
        """Takes note of a broken rule and goes on."""
        try:
            yield
        except RuleError as error:
            self.add(where, error)

    @contextmanager
    def stops_at(self, where: object) -> Iterator[None]:
        """Takes note of a broken rule that nothing can go on after."""
        try:
            yield
        except RuleError as error:
            self.add(where, error)
            raise

    def exit_code(self) -> int:
        if any(not p.unsupported and p.rule not in NOT_DAMAGE for p in self.found):
            return 14
        if any(p.rule in NOT_DAMAGE for p in self.found):
            return 12
        return 1 if self.found else 0


@dataclass
class Frame:
    """A frame, wherever it lies. `lengths` of its chunks are known once it was opened."""
    record: Record
    entry: FrameEntry
    places: List[Tuple[Name, int]]
    lengths: Optional[Tuple[int, ...]] = None


class Repository:
    def __init__(self, folder: Path, problems: Problems):
        self.folder, self.problems = folder, problems
        self.names: Dict[int, List[Name]] = {kind: [] for kind in range(1, len(names.FOLDERS) + 1)}
        self.strangers: List[str] = []
        self._list()
        self.frames: Dict[FrameId, Frame] = {}
        self.refs_chunks: Dict[bytes, FrameId] = {}
        self.tiers: Dict[bytes, bodies.Tier] = {}
        self.placed: Dict[bytes, List[bytes]] = {}
        self.given_tiers: Dict[str, str] = {}
        self.relocations: Dict[FrameId, List[Tuple[bytes, bodies.Relocated]]] = {}
        self._secrets: Dict[bytes, Optional[bytes]] = {}
        self._cache: "OrderedDict[FrameId, List[bytes]]" = OrderedDict()
        self._cached_bytes = 0

    # Listing and reading

    def _list(self) -> None:
        for base, folders, files in os.walk(self.folder):
            relative = os.path.relpath(base, self.folder).replace(os.sep, "/")
            if relative == ".":
                folders[:] = sorted(folder for folder in folders if folder != "tmp")
            prefix = "" if relative == "." else relative + "/"
            for file in sorted(files) + [f for f in folders if os.path.islink(os.path.join(base, f))]:
                self._listed(prefix + file)

    def _listed(self, path: str) -> None:
        name = names.parse(path)
        if name and stat.S_ISREG(os.lstat(self.folder / path).st_mode):
            self.names[name.kind].append(name)
        else:
            self.strangers.append(path)

    @contextmanager
    def source(self, name: Name) -> Iterator[Source]:
        with open(self._place(name), "rb") as file:
            yield Source(file=file)

    def _place(self, name: Name) -> Path:
        """The file of an object: of a pack that is not in the repository's own folder, in the tier of the lowest rank that has it."""
        own = self.folder / str(name)
        if name.kind != names.DATA_PACK or name.id not in self.placed or own.exists():
            return own
        places = [self.tier_place(tier) / str(name) for tier in sorted(self.placed[name.id], key=lambda tier: self.tiers[tier].rank)]
        return next((place for place in places if place.exists()), places[0])

    def tier_place(self, tier: bytes) -> Path:
        body = self.tiers[tier]
        place = Path(self.given_tiers.get(body.name, body.address))
        if not (place / str(Name(names.PLACEMENT, tier, 0))).exists():
            raise FileNotFoundError(f"{place} is not tier {body.name} ({body.label}): plug it in, or say --tier {body.name}=FOLDER")
        return place

    def load_placement(self) -> None:
        """Learns which tiers there are and which packs lie in them; objects that break a rule say nothing."""
        found: List[Tuple[bytes, bodies.PlacedPacks]] = []
        for name in sorted(self.names[names.PLACEMENT], key=lambda name: name.id):
            with self.problems.at(name):
                body = self.part(name, bodies.decode_placement)
                if isinstance(body, bodies.PlacedPacks):
                    found.append((name.id, body))
                elif body.tier not in self.tiers or self.tiers[body.tier].revision < body.revision:
                    self.tiers[body.tier] = body
        listed = {name.id for name in self.names[names.DATA_PACK]}
        for _, body in found:
            for placed in body.packs if body.tier in self.tiers else []:
                self.placed.setdefault(placed.pack, []).append(body.tier)
                if placed.pack not in listed:
                    listed.add(placed.pack)
                    self.names[names.DATA_PACK].append(Name(names.DATA_PACK, placed.pack, 0))

    def object(self, name: Name) -> Object:
        """An object that keeps all rules but those of its body. Of packs the frames are not read."""
        with self.source(name) as source:
            return check_object(name, source, self.trust)

    # Healing

    def sidecar(self, name: Name) -> parity.Sidecar:
        return parity.decode_sidecar(name, self.object(name).body)

    def heal(self, name: Name) -> bytes:
        """The object's own bytes, out of its sidecar and what is left of it."""
        place = parity.sidecar_of(name)
        sidecar = self.sidecar(place)
        try:
            with open(self.folder / str(name), "rb") as file:
                source = Source(file=file)
                healed = parity.heal(sidecar, source.read)
        except FileNotFoundError:
            healed = parity.heal(sidecar, lambda offset, size: None)
        need(healed is not None, "PARITY-6", "too much is lost")
        self.check_healed(sidecar, healed)
        return healed

    def check_healed(self, sidecar: parity.Sidecar, healed: bytes) -> None:
        packs.check_healed(sidecar, self.object(parity.sidecar_of(sidecar.object)), healed, self.trust)

    # Opening

    def open(self, secret: bytes, is_key_file: bool) -> None:
        """Finds our slot, and through it everything that is believed afterwards."""
        config_names = sorted((name for name in self.names[names.CONFIG] if name.number), key=lambda name: name.number)
        if not config_names:
            raise NoRepository(f"{self.folder} holds no config")
        need(config_names[0].number == 1, "CFG-2", "config generation 1 is missing")
        with self.problems.stops_at(config_names[0]), self.source(config_names[0]) as source:
            repository = source.read(32, 16)
            check_outside(config_names[0], source, repository)
        self.credential = self._find_slot(secret, is_key_file, repository)
        self.trust = Trust(repository, self.credential.admin, self.credential.structure_keys)
        self.configs = self._read_configs(config_names)
        self.trust.revoked = dict(self.configs[-1].revoked)
        self.ids = ChunkIds(self.credential.chunk_id_key, self.credential.token_key)
        self.load_placement()

    def _find_slot(self, secret: bytes, is_key_file: bool, repository: bytes) -> Credential:
        seen, damage = set(), []
        for name in sorted(self.names[names.SLOT], key=lambda name: (name.id, -name.number)):
            if name.id in seen:
                continue
            try:
                with self.source(name) as source:
                    obj = check_outside(name, source, repository)
                slot = bodies.decode_slot(obj.body)
                if slot.state == 1 and slot.kind == (2 if is_key_file else 1):
                    return self._open_slot(obj, slot, self._seed(secret, slot))
                seen.add(name.id)
            except RuleError as error:
                if error.rule == "SLOT-6":
                    seen.add(name.id)
                else:
                    damage.append((name, error))
        for name, error in damage:
            self.problems.add(name, error)
        if any(not error.unsupported for _, error in damage):
            raise damage[0][1]
        raise NoKey("no key slot opens with this passphrase or key file")

    @staticmethod
    def _open_slot(obj: Object, slot: bodies.Slot, seed: bytes) -> Credential:
        credential = bodies.open_slot(obj, slot, seed)
        check_writer(obj, Trust(obj.header[32:48], credential.admin))
        bodies.check_pin(obj, slot, seed, credential)
        return credential

    @staticmethod
    def _seed(secret: bytes, slot: bodies.Slot) -> bytes:
        if slot.kind == 1:
            return bodies.passphrase_seed(bodies.passphrase_of_file(secret), slot)
        try:
            return bodies.key_file_seed(secret)
        except ValueError as error:
            raise NoKey(str(error)) from None

    def _read_configs(self, config_names: List[Name]) -> List[Config]:
        """All generations: what admin did not sign is passed over."""
        configs, before, passed_over = [], None, None
        for name in config_names:
            try:
                obj = self.object(name)
            except RuleError as error:
                self.problems.add(name, error)
                if error.unsupported:
                    raise
                passed_over = passed_over or error
                continue
            with self.problems.stops_at(name):
                need(before or name.number == 1, "CFG-2", "config generation 1 is missing")
                configs.append(bodies.decode_config(obj.body, name.number, before, self.trust.admin))
            before = obj.hash
        if not configs:
            raise passed_over
        return configs

    def secret_of(self, record: Record) -> Optional[bytes]:
        if record.data not in self._secrets:
            self._secrets[record.data] = open_secret(record, self.credential.restore_seeds)
        return self._secrets[record.data]

    # Packs

    def pack_names(self) -> Iterator[Name]:
        for kind in names.PACKS:
            yield from self.names[kind]

    def tables(self, name: Name) -> packs.Tables:
        with self.source(name) as source:
            return packs.open_tables(source, check_object(name, source, self.trust), self.trust)

    def load_tables(self) -> None:
        """Learns which frames there are. Packs that break a rule are left out."""
        for name in self.pack_names():
            with self.problems.at(name):
                self.add_tables(name, self.tables(name))
        self.load_relocations()

    def load_relocations(self) -> None:
        """Learns where chunks of frames that were re-made stand now; objects that break a rule say nothing."""
        for name in sorted(self.names[names.RELOCATION], key=lambda name: name.id):
            with self.problems.at(name):
                relocations = self.part(name, bodies.decode_relocations)
                for frame in relocations.frames:
                    self.relocations.setdefault((frame.session, frame.number), []).append((relocations.session, frame))

    def home_of(self, ident: FrameId, position: int, chunks: int) -> Optional[Tuple[FrameId, int]]:
        """The place in a frame that is there to which a chunk of a frame that is not leads."""
        places, seen = [(ident, position)], set()
        for step in range(STEPS_MAX):
            reached = []
            for at in places:
                for session, frame in self.relocations.get(at[0], ()):
                    if step or frame.chunks == chunks:
                        reached += [((session, at[0][1] >> 30 << 30 | counter), to) for old, counter, to in frame.moved if old == at[1]]
            for frame_id, to in reached:
                if frame_id in self.frames and to < len(self.frames[frame_id].entry.chunks):
                    return frame_id, to
            places = [place for place in dict.fromkeys(reached) if place not in seen]
            seen.update(places)
        return None

    def add_tables(self, name: Name, tables: packs.Tables) -> None:
        for offset, record, entry in tables.placed():
            ident = (record.session, entry.number)
            frame = self.frames.setdefault(ident, Frame(record, entry, []))
            if (frame.entry.hash, frame.entry.chunks, frame.entry.bases) == (entry.hash, entry.chunks, entry.bases):
                frame.places.append((name, offset))
            if entry.number >> 30 == packs.REFS:
                self.refs_chunks.update((chunk, ident) for chunk in entry.chunks)

    def frame_key(self, frame: Frame) -> bytes:
        frame_class = frame.entry.number >> 30
        secret = self.secret_of(frame.record) if frame_class != packs.REFS else None
        key = frame.record.frame_key(frame_class, secret, self.trust.structure_keys)
        if key is None or (frame_class != packs.REFS and not self.credential.chunk_id_key):
            raise NoKey(f"our credential does not open frames of session {frame.record.session.hex()}")
        return key

    def chunks_of(self, ident: FrameId) -> List[bytes]:
        """The chunks of a frame, from the first of its places where it is sound."""
        if ident in self._cache:
            self._cache.move_to_end(ident)
            return self._cache[ident]
        frame, failed = self.frames[ident], None
        for name, offset in frame.places:
            try:
                chunks = self._read_frame(frame, name, offset)
                self._keep(ident, chunks)
                return chunks
            except RuleError as error:
                self.problems.add(name, error)
                failed = error
        raise failed or RuleError("REFS-6", f"frame {ident[1]:08x} of session {ident[0].hex()} is nowhere")

    def _read_frame(self, frame: Frame, name: Name, offset: int) -> List[bytes]:
        with self.source(name) as source:
            sealed = source.read(offset, frame.entry.sealed_length)
        chunks = packs.open_frame(sealed, frame.entry, self.frame_key(frame), self.ids, self.bases_of(frame.entry))
        frame.lengths = tuple(map(len, chunks))
        return chunks

    def bases_of(self, entry: FrameEntry) -> Optional[bytes]:
        """The bytes of a frame's bases, one behind the other (FRAME-8); None where it has none."""
        if not entry.bases:
            return None
        found = []
        for base in entry.bases:
            ident = (base.session, base.number)
            need(ident in self.frames, "FRAME-8", f"base {base.number:08x} of session {base.session.hex()} is nowhere")
            need(not self.frames[ident].entry.bases, "FRAME-8", "a base that has bases itself")
            found.append(packs.stretch(self.frames[ident].entry, self.chunks_of(ident), base))
        return b"".join(found)

    def _keep(self, ident: FrameId, chunks: List[bytes]) -> None:
        self._cache[ident] = chunks
        self._cached_bytes += sum(map(len, chunks))
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= sum(map(len, dropped))

    # Snapshots

    def part(self, name: Name, decode: Callable) -> object:
        """The body of an object that is one sealed part."""
        obj = self.object(name)
        return decode(obj.part(0, obj.body, self.trust), obj, self.trust)

    def snapshot(self, name: Name) -> Snapshot:
        return bodies.decode_snapshot(self.object(name), self.trust, self.credential.token_key, self.secret_of)

    def _companions(self, kind: int, decode: Callable) -> Dict[bytes, Object]:
        """The objects of `closed/` or `withdrawn/` by the id in their names."""
        found = {}
        for name in self.names[kind]:
            with self.problems.at(name):
                obj = self.object(name)
                decode(obj.part(0, obj.body, self.trust))
                found[name.id] = obj
        return found

    def _holds(self, companion: Optional[Object], record: Record, check: Callable[[], None] = lambda: None) -> bool:
        """Whether there is such a companion, from someone who may write it, that passes `check`."""
        if companion:
            with self.problems.at(companion.name):
                written_by(companion, record, True)
                check()
                return True
        return False

    def held(self, closed: Iterable[Object]) -> Set[bytes]:
        """The snapshots that must not go; `closed` are those objects of this kind that are believed. Withdrawals were listed before."""
        holds: Dict[bytes, bodies.Hold] = {}
        for name in self.names[names.HOLD]:
            with self.problems.at(name):
                holds[name.id] = self.part(name, bodies.decode_hold)
        told = [hold.now for hold in holds.values()]
        told += [bodies.decode_closed(obj.part(0, obj.body, self.trust)).now for obj in closed]
        day_ago = (int(time.time()) - 86_400, 0)
        proven = max((moment for moment in told if moment <= day_ago), default=None)
        released = {hold.released for hold in holds.values() if hold.action == bodies.RELEASE}
        ended = {ident for ident, hold in holds.items() if hold.action == bodies.LOCK and proven is not None and hold.until <= proven}
        ended |= {ident for ident, hold in holds.items() if hold.action == bodies.LEGAL and ident in released}
        return {held[0] for ident, hold in holds.items() if ident not in ended for held in hold.snapshots}

    def snapshots(self) -> List[Tuple[Snapshot, bool]]:
        """The snapshots that are shown, oldest first, and whether each is suspect. Needs the tables."""
        closed = self._companions(names.CLOSED, bodies.decode_closed)
        withdrawn = self._companions(names.WITHDRAWN, bodies.decode_withdrawn)
        held = self.held(closed.values())
        found = []
        for name in self.names[names.SNAPSHOT]:
            with self.problems.at(name):
                snapshot = self.snapshot(name)
                record = snapshot.header.record
                end, marker = closed.get(record.session), withdrawn.get(name.id)
                if self._holds(marker, record, lambda: may_be_withdrawn(marker, end, name.id, self.trust, held)):
                    continue
                suspect = not self._holds(end, record)
                if suspect and not self._all_there(snapshot):
                    self.problems.notes.append(f"{name}: suspect, and not all of its frames are there")
                    continue
                found.append((snapshot, suspect))
        return sorted(found, key=lambda pair: (pair[0].header.time, pair[0].id))

    def _all_there(self, snapshot: Snapshot) -> bool:
        try:
            return bool(SnapshotFrames(self, snapshot))
        except RuleError:
            return False


class SnapshotFrames:
    """The frames that a snapshot's refs name, and the chunks that may be taken from them (REFS-6, REFS-7)."""

    def __init__(self, repository: Repository, snapshot: Snapshot):
        self.repository = repository
        self.places: Dict[bytes, Tuple[FrameId, int]] = {}
        self.count = 0
        bases, wanted = set(), set()
        for needed in RefsWalk(snapshot.header.refs_root, self._get_refs):
            self._add(needed)
            self.count += 1
            frame = repository.frames.get((needed.session, needed.number))
            wanted.update((base.session, base.number) for base in (frame.entry.bases if frame else ()))
            if needed.is_base:
                bases.add((needed.session, needed.number))
        need(wanted <= bases, "REFS-8", "a base of a frame is not named as one")

    def _get_refs(self, kind: int, ident: bytes) -> bytes:
        frame = self.repository.refs_chunks.get(ident)
        need(frame, "REFS-6", f"refs node {ident.hex()} is nowhere")
        chunks = self.repository.chunks_of(frame)
        data = chunks[self.repository.frames[frame].entry.chunks.index(ident)]
        packs.check_chunk(self.repository.ids, kind, data, ident)
        return data

    def _add(self, needed: RefsFrame) -> None:
        ident = (needed.session, needed.number)
        frame = self.repository.frames.get(ident)
        if not frame:
            need(not needed.is_base, "REFS-6", f"base {ident[1]:08x} of session {ident[0].hex()} is nowhere")
            self._add_relocated(ident, needed.used)
            return
        chunks, used = frame.entry.chunks, needed.used
        need(used is None or len(used) == len(chunks), "REFS-6", f"frame {needed.number:08x} has {len(chunks)} chunks")
        for position, chunk in enumerate(chunks):
            if used is None or used[position]:
                self.places.setdefault(chunk, (ident, position))

    def _add_relocated(self, ident: FrameId, used: Optional[Tuple[bool, ...]]) -> None:
        """The chunks of a frame that was re-made may be taken from where they lead."""
        entries = self.repository.relocations.get(ident)
        need(entries, "REFS-6", f"frame {ident[1]:08x} of session {ident[0].hex()} is nowhere")
        used = used or (True,) * entries[0][1].chunks
        for position in (position for position, bit in enumerate(used) if bit):
            home = self.repository.home_of(ident, position, len(used))
            need(home, "REFS-6", f"frame {ident[1]:08x} of session {ident[0].hex()} is nowhere, nor is its chunk {position}")
            self.places.setdefault(self.repository.frames[home[0]].entry.chunks[home[1]], home)

    def find(self, ident: bytes, frame_class: int) -> Tuple[FrameId, int]:
        place = self.places.get(ident)
        need(place and place[0][1] >> 30 == frame_class, "REFS-7", f"the refs name no frame with chunk {ident.hex()}")
        return place

    def length(self, ident: bytes) -> Optional[int]:
        """The length of a data chunk, where its frame could be opened."""
        frame, position = self.find(ident, packs.DATA)
        lengths = self.repository.frames[frame].lengths
        return lengths[position] if lengths else None

    def get(self, kind: int, ident: bytes) -> bytes:
        """The bytes of a chunk, with its id checked."""
        frame, position = self.find(ident, packs.DATA if kind == packs.KIND_DATA else packs.META)
        data = self.repository.chunks_of(frame)[position]
        packs.check_chunk(self.repository.ids, kind, data, ident)
        return data


def written_by(companion: Object, record: Optional[Record], or_maintain: bool) -> None:
    """SESS-3, where the record of the session is known."""
    own = record is None or companion.certificate_bytes == record.certificate_bytes
    allowed = own or (or_maintain and companion.certificate.roles & MAINTAIN)
    need(allowed, "SESS-3", "certificate is not that of the session")


def may_be_withdrawn(withdrawn: Object, closed: Optional[Object], snapshot: bytes, trust: Trust, held: Set[bytes]) -> None:
    """SESS-5 and HOLD-7."""
    not_finished(withdrawn, closed, snapshot, trust)
    need(snapshot not in held, "HOLD-7", "the snapshot is held")


def not_finished(withdrawn: Object, closed: Optional[Object], snapshot: bytes, trust: Trust) -> None:
    """SESS-5: `closed` is that of the snapshot's session, if there is one."""
    if closed and not (withdrawn.certificate.roles | closed.certificate.roles) & MAINTAIN:
        body = bodies.decode_closed(closed.part(0, closed.body, trust))
        need(snapshot not in body.snapshots, "SESS-5", "its own session has finished the snapshot")
