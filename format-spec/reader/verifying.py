"""Reads everything that is in a repository and says what breaks a rule.

First every object alone, packs with all their frames; then what objects say of one another; then every snapshot
through its refs, tree and recipes.
"""
from __future__ import annotations

from typing import Dict, List, Tuple

import bodies
import names
import packs
import parity
import trees
from bodies import Snapshot
from conventions import need
from names import Name
from objects import Object, Record, check_object, check_outside, check_writer
from repository import Frame, NoKey, Repository, SnapshotFrames, may_be_withdrawn, written_by


class Verify:
    def __init__(self, repository: Repository):
        self.repository, self.problems = repository, repository.problems
        self.tables: Dict[Name, packs.Tables] = {}
        self.records: Dict[bytes, Record] = {}
        self.snapshots: Dict[bytes, Snapshot] = {}
        self.withdrawn: Dict[bytes, bodies.Withdrawn] = {}
        self.closed: Dict[bytes, Object] = {}
        self.unopened = 0
        self.later: List[Tuple[Name, int, Record, packs.FrameEntry]] = []

    def run(self) -> None:
        self._slots()
        for name in self.repository.pack_names():
            with self.problems.at(name):
                self._pack(name)
        self._frames_with_bases()
        for name in self.repository.names[names.SESSION]:
            with self.problems.at(name):
                session = self.repository.part(name, bodies.decode_session)
                self.records[session.record.session] = session.record
        for name in self.repository.names[names.SNAPSHOT]:
            with self.problems.at(name):
                snapshot = self.repository.snapshot(name)
                self.snapshots[name.id] = snapshot
                self.records.setdefault(snapshot.header.record.session, snapshot.header.record)
        self.repository.load_relocations()
        self._companions()
        self._withdrawn()
        self._epochs()
        self._indexes()
        self._sidecars()
        for ident, snapshot in self.snapshots.items():
            if ident not in self.withdrawn:
                with self.problems.at(Name(names.SNAPSHOT, ident, 0)):
                    self._snapshot(snapshot)
        self._notes()

    def _notes(self) -> None:
        notes = self.problems.notes
        notes += [f"{stranger}: stranger (NAME-1)" for stranger in self.repository.strangers]
        for kind in names.RESERVED:
            notes += [f"{name}: of a reserved kind, not looked at" for name in self.repository.names[kind]]
        if self.unopened:
            notes.append(f"{self.unopened} frames or snapshots that this credential does not open")

    # Objects

    def _slots(self) -> None:
        trust = self.repository.trust
        for name in self.repository.names[names.SLOT]:
            with self.problems.at(name), self.repository.source(name) as source:
                obj = check_outside(name, source, trust.repository)
                bodies.decode_slot(obj.body)
                check_writer(obj, trust)

    def _pack(self, name: Name) -> None:
        repository = self.repository
        with repository.source(name) as source:
            obj = check_object(name, source, repository.trust)
            with self.problems.at(name):
                packs.check_groups(source, obj)
            tables = packs.open_tables(source, obj, repository.trust)
            self.tables[name] = tables
            repository.add_tables(name, tables)
            for record in tables.sessions:
                self.records.setdefault(record.session, record)
            for offset, record, entry in tables.placed():
                if entry.bases:
                    # The frames in which these lie may stand in packs that come later.
                    self.later.append((name, offset, record, entry))
                    continue
                with self.problems.at(name):
                    self._frame(repository.frames[record.session, entry.number], record, entry,
                                source.read(offset, entry.sealed_length))

    def _frames_with_bases(self) -> None:
        for name, offset, record, entry in self.later:
            with self.problems.at(name), self.repository.source(name) as source:
                self._frame(self.repository.frames[record.session, entry.number], record, entry, source.read(offset, entry.sealed_length))

    def _frame(self, frame: Frame, record: Record, entry: packs.FrameEntry, sealed: bytes) -> None:
        try:
            key = self.repository.frame_key(Frame(record, entry, []))
        except NoKey:
            packs.check_sealed(sealed, entry)
            self.unopened += 1
            return
        packs.check_sealed(sealed, entry)
        chunks = packs.open_frame(sealed, entry, key, self.repository.ids, self.repository.bases_of(entry))
        if frame.entry.hash == entry.hash:
            frame.lengths = tuple(map(len, chunks))

    # Companions

    def _companion(self, name: Name, decode, or_maintain: bool) -> Tuple[Object, object]:
        obj = self.repository.object(name)
        body = decode(obj.part(0, obj.body, self.repository.trust))
        written_by(obj, self.records.get(name.id), or_maintain)
        return obj, body

    def _withdrawn(self) -> None:
        held = self.repository.held(self.closed.values())
        for name in self.repository.names[names.WITHDRAWN]:
            with self.problems.at(name):
                obj = self.repository.object(name)
                body = bodies.decode_withdrawn(obj.part(0, obj.body, self.repository.trust))
                snapshot = self.snapshots.get(name.id)
                need(not snapshot or snapshot.header.record.session == body.session, "SESS-4", "session is not the snapshot's")
                written_by(obj, self.records.get(body.session), True)
                may_be_withdrawn(obj, self.closed.get(body.session), name.id, self.repository.trust, held)
                self.withdrawn[name.id] = body

    def _companions(self) -> None:
        repository = self.repository
        for name in repository.names[names.BEAT]:
            with self.problems.at(name):
                self._companion(name, bodies.decode_beat, False)
        for name in repository.names[names.TOMBSTONE]:
            with self.problems.at(name):
                repository.part(name, bodies.decode_tombstone)
        there = {name.id for kind in (names.SNAPSHOT, names.WITHDRAWN) for name in repository.names[kind]}
        for name in repository.names[names.CLOSED]:
            with self.problems.at(name):
                self.closed[name.id], closed = self._companion(name, bodies.decode_closed, True)
                missing = [ident.hex() for ident in closed.snapshots if ident not in there]
                need(not missing, "CLOSED-3", f"snapshots neither there nor withdrawn: {' '.join(missing)}")

    def _epochs(self) -> None:
        before, last = None, 0
        for name in sorted(self.repository.names[names.EPOCH], key=lambda name: name.number):
            before = before if name.number == last + 1 else None
            with self.problems.at(name):
                obj = self.repository.object(name)
                plain = obj.part(0, obj.body, self.repository.trust)
                bodies.decode_epoch(plain, name.number, before)
                before, last = obj.hash, name.number

    def _indexes(self) -> None:
        for name in self.repository.names[names.INDEX]:
            with self.problems.at(name):
                obj = self.repository.object(name)
                index = packs.decode_index(obj.part(0, obj.body, self.repository.trust), obj, self.repository.trust)
                for pack in index.packs:
                    self._index_pack(index, pack)

    def _index_pack(self, index: packs.Index, pack: packs.IndexPack) -> None:
        tables = self.tables.get(Name(pack.kind, pack.id, 0))
        if tables is None:
            return
        said = [(index.sessions[entry.session].data, _apart_from_session(entry)) for entry in pack.frames]
        true = [(tables.sessions[entry.session].data, _apart_from_session(entry)) for entry in tables.frames]
        need(said == true, "INDEX-6", f"other than the table of pack {pack.id.hex()}")

    def _sidecars(self) -> None:
        repository = self.repository
        here = {name for kind, listed in repository.names.items() if kind != names.PARITY for name in listed}
        for name in repository.names[names.PARITY]:
            with self.problems.at(name):
                sidecar = repository.sidecar(name)
                if sidecar.form == parity.COPY:
                    repository.check_healed(sidecar, sidecar.data)
                if sidecar.object in here:
                    with repository.source(sidecar.object) as source:
                        digest = source.read(source.size - 32, 32)
                    need(digest == sidecar.hash, "PARITY-8", f"of another {sidecar.object}")
                else:
                    self.problems.notes.append(f"{sidecar.object}: lost, and its sidecar {name} stands")

    # Snapshots

    def _snapshot(self, snapshot: Snapshot) -> None:
        frames = SnapshotFrames(self.repository, snapshot)
        header = snapshot.header
        need(header.frames == frames.count, "SNAP-12", f"refs name {frames.count} frames, not {header.frames}")
        if snapshot.body is None or not self.repository.credential.chunk_id_key:
            self.unopened += 1
            return
        walk = trees.TreeWalk(snapshot.body.tree_root, snapshot.body.key_kind, frames.get)
        for entry in walk:
            if entry.kind == trees.FILE:
                with self.problems.at(f"{Name(names.SNAPSHOT, snapshot.id, 0)} entry {entry.key!r}"):
                    self._content(entry, frames)
        need((header.entries, header.file_bytes) == (walk.entries, walk.file_bytes), "SNAP-12",
             "entries or file bytes are not those of the tree")

    @staticmethod
    def _content(entry: trees.Entry, frames: SnapshotFrames) -> None:
        rule = "TREE-13" if entry.chunks is not None else "RECIPE-3"
        for ident, length in trees.file_chunks(entry, frames.get):
            need(frames.length(ident) in (None, length), rule, f"length of chunk {ident.hex()} is not {length}")


def _apart_from_session(entry: packs.FrameEntry) -> tuple:
    return entry.number, entry.sealed_length, entry.plaintext_length, entry.hash, entry.chunks, entry.bases
