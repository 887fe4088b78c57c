"""Reads one vector the way its entry in `vectors/index.json` says, with the keys in `vectors/context.json`.

`decode` gives what the file means in plain JSON values, or raises `RuleError`.
"""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict

import bodies
import names
import packs
import parity
import trees
from conventions import RuleError, need
from objects import Object, Source, Trust, check_certificate, check_object, check_outside, check_writer, open_secret, \
    record_of_blob
from packs import ChunkIds, FrameEntry

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
LEFT_OUT = ("data", "certificate_bytes")


def as_json(value: Any) -> Any:
    """Bytes as hex, classes as objects, dicts by epoch as lists of pairs."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if dataclasses.is_dataclass(value):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in LEFT_OUT}
    if isinstance(value, dict):
        return [[as_json(key), as_json(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


class Given:
    """The keys of context.json, and the readers of all structures."""

    def __init__(self, context: Dict[str, Any]):
        self.repository = bytes.fromhex(context["repository"])
        self.admin = bytes.fromhex(context["admin"]["verifying_key"])
        self.structure_keys = {epoch: bytes.fromhex(key) for epoch, key in context["structure_keys"]}
        self.restore_seeds = {item["epoch"]: bytes.fromhex(item["seed"]) for item in context["restore_keys"]}
        self.token_key = bytes.fromhex(context["token_key"])
        self.ids = ChunkIds(bytes.fromhex(context["chunk_id_key"]), self.token_key)

    def trust(self, context: Dict[str, Any]) -> Trust:
        keys = {epoch: self.structure_keys[epoch] for epoch in context.get("structure_epochs", self.structure_keys)}
        revoked = {bytes.fromhex(credential): epoch for credential, epoch in context.get("revoked", [])}
        return Trust(self.repository, self.admin, keys, revoked)

    def decode(self, structure: str, data: bytes, name: "str | None", context: Dict[str, Any]) -> Any:
        if name is not None:
            return as_json(self._object(structure, data, names.parse(name), context))
        return as_json(PIECES[structure](self, data, context))

    # Objects

    def _object(self, structure: str, data: bytes, name: names.Name, context: Dict[str, Any]) -> Any:
        trust, source = self.trust(context), Source(data)
        if structure == "slot":
            return self._slot(name, source, trust, context)
        obj = check_object(name, source, trust)
        return self._told(obj, self._body(structure, obj, source, trust, context))

    @staticmethod
    def _told(obj: Object, body: Any) -> Dict[str, Any]:
        return _Plain(structure_epoch=obj.structure_epoch, certificate=obj.certificate, hash=obj.hash, body=body)

    def _slot(self, name: names.Name, source: Source, trust: Trust, context: Dict[str, Any]) -> Any:
        obj = check_outside(name, source, trust.repository)
        slot = bodies.decode_slot(obj.body)
        seed = context["seed"]
        credential = bodies.open_slot(obj, slot, bytes.fromhex(seed)) if seed else None
        check_writer(obj, trust)
        if credential:
            bodies.check_pin(obj, slot, bytes.fromhex(seed), credential)
        return self._told(obj, _Plain(slot=slot, credential=credential))

    def _body(self, structure: str, obj: Object, source: Source, trust: Trust, context: Dict[str, Any]) -> Any:
        before = bytes.fromhex(context["before"]) if context.get("before") else None
        if structure == "config":
            return bodies.decode_config(obj.body, obj.name.number, before, trust.admin)
        if structure in ("data pack", "meta pack", "refs pack"):
            obj.part(0, source.read(obj.layout.tables_at(), obj.layout.tables), trust)
            packs.check_groups(source, obj)
            return packs.open_tables(source, obj, trust)
        if structure == "snapshot":
            return bodies.decode_snapshot(obj, trust, self.token_key, lambda r: open_secret(r, self.restore_seeds))
        if structure == "sidecar":
            sidecar = parity.decode_sidecar(obj.name, obj.body)
            if context.get("beside"):
                if sidecar.form == parity.COPY:
                    packs.check_healed(sidecar, obj, sidecar.data, trust)
                need(bytes.fromhex(context["beside"])[-32:] == sidecar.hash, "PARITY-8", "of another object than the one that is there")
            return _Plain(object=str(sidecar.object), size=sidecar.size, hash=sidecar.hash, form=sidecar.form,
                          block_size=sidecar.block_size, recovery=sidecar.recovery)
        plain = obj.part(0, obj.body, trust)
        if structure == "index":
            return packs.decode_index(plain, obj, trust)
        if structure == "epoch":
            return bodies.decode_epoch(plain, obj.name.number, before)
        return {"session": bodies.decode_session, "beat": bodies.decode_beat, "closed": bodies.decode_closed,
                "tombstone": bodies.decode_tombstone, "withdrawn": bodies.decode_withdrawn,
                "relocations": bodies.decode_relocations, "placement": bodies.decode_placement,
                "hold": bodies.decode_hold}[structure](plain, obj, trust)

    # Pieces

    def certificate(self, data: bytes, context: Dict[str, Any]) -> Any:
        return check_certificate(data, self.repository, self.admin)

    def record(self, data: bytes, context: Dict[str, Any]) -> Any:
        record = record_of_blob(data, self.trust(context))
        secret = open_secret(record, {epoch: self.restore_seeds[epoch] for epoch in context["restore_epochs"]})
        return _Plain(record=record, secret=secret)

    def credential(self, data: bytes, context: Dict[str, Any]) -> Any:
        return bodies.decode_credential(data, context["slot_roles"], bytes.fromhex(context["credential"]), self.repository)

    def frame(self, data: bytes, context: Dict[str, Any]) -> Any:
        ids = tuple(map(bytes.fromhex, context["chunk_ids"]))
        entry = FrameEntry(0, context["number"], len(data), context["plaintext_length"], bytes.fromhex(context["hash"]), ids)
        bases = None if context["bases"] is None else bytes.fromhex(context["bases"])
        return _Plain(chunks=packs.open_frame(data, entry, bytes.fromhex(context["key"]), self.ids, bases))

    def frame_plaintext(self, data: bytes, context: Dict[str, Any]) -> Any:
        ids = list(map(bytes.fromhex, context["chunk_ids"]))
        return _Plain(chunks=packs.decode_plaintext(data, context["class"], ids, self.ids))

    def _piece_of(self, kind: int, context: Dict[str, Any]) -> Object:
        """What the plaintext of a part needs to know of its object."""
        certificate = bytes.fromhex(context["certificate"])
        obj = Object(names.Name(kind, bytes(16), 0), b"", 1, b"", None, certificate, b"", b"", b"")
        obj.certificate = check_certificate(certificate, self.repository, self.admin)
        return obj

    def tables(self, data: bytes, context: Dict[str, Any]) -> Any:
        obj = self._piece_of(context["kind"], context)
        return packs.decode_tables(data, obj, context["frames_length"], self.trust(context))

    def index_part(self, data: bytes, context: Dict[str, Any]) -> Any:
        return packs.decode_index(data, self._piece_of(names.INDEX, context), self.trust(context))

    def snapshot_header(self, data: bytes, context: Dict[str, Any]) -> Any:
        return bodies.decode_snapshot_header(data, bytes.fromhex(context["certificate"]), self.trust(context))

    def snapshot_body(self, data: bytes, context: Dict[str, Any]) -> Any:
        tokens = list(map(bytes.fromhex, context["tag_tokens"]))
        header = bodies.SnapshotHeader(bytes.fromhex(context["series_token"]), 1, b"", (0, 0), 1, 0, 0, b"", 0, 0, 0, 0, tokens, None)
        return bodies.decode_snapshot_body(data, header, self.token_key)

    def tree(self, data: bytes, context: Dict[str, Any]) -> Any:
        return trees.decode_tree(data, context["key_kind"], context["parent_level"])

    def recipe(self, data: bytes, context: Dict[str, Any]) -> Any:
        return trees.decode_recipe(data, context["parent_level"])

    def refs(self, data: bytes, context: Dict[str, Any]) -> Any:
        return trees.decode_refs(data, context["parent_level"])

    def chunk(self, data: bytes, context: Dict[str, Any]) -> Any:
        packs.check_chunk(self.ids, context["kind"], data, bytes.fromhex(context["id"]))
        return _Plain(length=len(data))

    # Walks: the file holds the nodes as the plaintext of a frame

    def _nodes(self, data: bytes) -> trees.Get:
        chunks = packs.split_plaintext(data)

        def get(kind: int, ident: bytes) -> bytes:
            return next(chunk for chunk in chunks if self.ids.id(kind, chunk) == ident)
        return get

    def tree_walk(self, data: bytes, context: Dict[str, Any]) -> Any:
        walk = trees.TreeWalk(bytes.fromhex(context["root"]), context["key_kind"], self._nodes(data))
        entries = list(walk)
        return _Plain(entries=entries, file_bytes=walk.file_bytes)

    def recipe_walk(self, data: bytes, context: Dict[str, Any]) -> Any:
        root = bytes.fromhex(context["root"])
        entry = trees.Entry(b"", trees.FILE, size=context["size"], holes=[(0, context["hole_bytes"])], recipe=root)
        return _Plain(chunks=list(trees.file_chunks(entry, self._nodes(data))))

    def refs_walk(self, data: bytes, context: Dict[str, Any]) -> Any:
        return _Plain(frames=list(trees.RefsWalk(bytes.fromhex(context["root"]), self._nodes(data))))


def _Plain(**fields: Any) -> Any:
    """A small object with these fields."""
    return dataclasses.make_dataclass("Plain", list(fields))(**fields)


PIECES: Dict[str, Callable[[Given, bytes, Dict[str, Any]], Any]] = {
    "certificate": Given.certificate, "session record": Given.record, "credential": Given.credential, "frame": Given.frame,
    "frame plaintext": Given.frame_plaintext, "tables": Given.tables, "index part": Given.index_part,
    "snapshot header": Given.snapshot_header, "snapshot body": Given.snapshot_body, "tree leaf": Given.tree,
    "tree inner": Given.tree, "recipe leaf": Given.recipe, "recipe inner": Given.recipe, "refs leaf": Given.refs,
    "refs inner": Given.refs, "chunk": Given.chunk, "tree walk": Given.tree_walk, "recipe walk": Given.recipe_walk,
    "refs walk": Given.refs_walk}


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text("utf-8"))
