"""Runs all vectors and known answers through the reader, and a whole tiny repository through its commands.

    python3 -m unittest format-spec/reader/test_reader.py

ICECORE_FLIPS tells how many bytes of each object are flipped one after the other; `all` takes every byte (hours).
"""
from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import stat
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent / "vectors")]

import bodies
import conventions
import icecore_reader
import names
import parity
import tiny
import trees
import writer
from check_vectors import VECTORS, Given, load
from conventions import Cursor, RuleError
from objects import open_secret, record_of_blob

AS_ROOT = os.geteuid() == 0
FLIPS = os.environ.get("ICECORE_FLIPS", "4")


def b(text: str) -> bytes:
    return bytes.fromhex(text)


class Vectors(unittest.TestCase):
    maxDiff = 2000

    def test_every_vector(self) -> None:
        given = Given(load("context.json"))
        for entry in load("index.json"):
            with self.subTest(entry["file"]):
                self._check(given, entry)

    def _check(self, given: Given, entry: Dict) -> None:
        data, expect = (VECTORS / entry["file"]).read_bytes(), entry["expect"]
        try:
            found = {"ok": given.decode(entry["structure"], data, entry["object"], entry["context"])}
        except RuleError as error:
            found = {"rule": error.rule, "unsupported": error.unsupported}
        self.assertEqual(found, expect)

    def test_every_file_is_listed(self) -> None:
        files = {str(path.relative_to(VECTORS)) for folder in ("valid", "invalid") for path in (VECTORS / folder).iterdir()}
        self.assertEqual(files, {entry["file"] for entry in load("index.json")})


class Damaged(unittest.TestCase):
    """Bytes at random must end in RuleError, never in another error."""

    def test_flipped_and_cut_vectors(self) -> None:
        given, rng = Given(load("context.json")), random.Random(1)
        for entry in load("index.json"):
            data = (VECTORS / entry["file"]).read_bytes()
            if entry["structure"].endswith("walk") or not data:
                continue
            for _ in range(4):
                at = rng.randrange(len(data))
                altered = data[:at] + bytes([rng.randrange(256)]) + data[at + 1:] if rng.random() < 0.7 else data[:at]
                with contextlib.suppress(RuleError):
                    given.decode(entry["structure"], altered, entry["object"], entry["context"])


class KnownAnswers(unittest.TestCase):
    known = load("known.json")

    def test_hashes(self) -> None:
        for row in self.known["hashes"]:
            data = b(row["input"])
            found = {"hash": lambda: conventions.hash32(data), "keyed": lambda: conventions.keyed(b(row["key"]), data),
                     "derive": lambda: conventions.derive(row["context"], data)}[row["use"]]()
            self.assertEqual(found.hex(), row["output"])

    def _numbers(self, rows: Iterable[Dict], read) -> None:
        for row in rows:
            cursor = Cursor(b(row["bytes"]))
            if row.get("rule"):
                with self.assertRaises(RuleError) as caught:
                    read(cursor)
                self.assertEqual(caught.exception.rule, row["rule"])
            else:
                found = read(cursor)
                cursor.end()
                self.assertEqual(list(found) if isinstance(found, tuple) else found, row["value"])

    def test_numbers(self) -> None:
        self._numbers(self.known["varints"], Cursor.varint)
        self._numbers(self.known["zigzags"], Cursor.zigzag)
        self._numbers(self.known["times"], Cursor.time)

    def test_names(self) -> None:
        for row in self.known["names"]:
            name = names.parse(row["path"])
            self.assertEqual((name.kind, name.id.hex(), name.number) if name else (None, None, None), (row["kind"], row["id"], row["number"]))

    def test_seals_and_signatures(self) -> None:
        for row in self.known["seals"]:
            self.assertEqual(conventions.unseal(b(row["key"]), b(row["nonce"]), b(row["sealed"])), b(row["plaintext"]))
        for row in self.known["object_parts"]:
            self.assertEqual(conventions.unseal(b(row["key"]), bytes(12), b(row["sealed"])), b(row["plaintext"]))
        for row in self.known["signatures"]:
            self.assertTrue(conventions.signed(writer.ADMIN, row["context"], b(row["data"]), b(row["signature"])))

    def test_chunk_ids(self) -> None:
        ids = Given(load("context.json")).ids
        for row in self.known["chunk_ids"]:
            self.assertEqual(ids.id(row["kind"], b(row["data"])).hex(), row["id"])

    def test_sessions(self) -> None:
        context = load("context.json")
        given, named = Given(context), {session["name"]: session for session in context["sessions"]}
        for row in self.known["sessions"]:
            session = named[row["session"]]
            record = record_of_blob(b(session["record"]), given.trust({}))
            secret = open_secret(record, given.restore_seeds)
            found = [record.session, record.commitment, *(record.frame_key(n, secret, given.structure_keys) for n in range(3)),
                     record.body_key(secret, b(row["snapshot"]))]
            keys = ("id", "commitment", "data_key", "meta_key", "refs_key", "snapshot_body_key")
            self.assertEqual([value.hex() for value in found], [row[key] for key in keys])

    def test_tokens(self) -> None:
        key = b(load("context.json")["token_key"])
        for row in self.known["tokens"]:
            token = bodies.series_token if row["kind"] == "series" else bodies.tag_token
            self.assertEqual(token(key, row["text"].encode()).hex(), row["token"])

    def test_key_files_and_passphrases(self) -> None:
        for row in self.known["key_files"]:
            if row["seed"]:
                self.assertEqual(bodies.key_file_seed(row["text"].encode()).hex(), row["seed"])
            else:
                self.assertRaises(ValueError, bodies.key_file_seed, row["text"].encode())
        for row in self.known["passphrases"]:
            slot = bodies.Slot(1, 1, 7, row["memory"], row["passes"], row["lanes"], b(row["salt"]), b"", b"", b"", b"", b"")
            self.assertEqual(bodies.passphrase_seed(bodies.passphrase_of_file(b(row["file"])), slot).hex(), row["seed"])

    def test_sidecars_and_codewords(self) -> None:
        for row in self.known["sidecars"]:
            self.assertEqual(str(parity.sidecar_of(names.parse(row["object"]))), row["sidecar"])
        for row in self.known["codewords"]:
            data, recovery = [b(block) for block in row["data"]], [b(block) for block in row["recovery"]]
            size = len(data[0])
            self.assertEqual(parity.recovery_blocks(data, len(recovery), size), recovery)
            for seed in range(5):
                blocks = [*data, *recovery]
                lost = random.Random(seed).sample(range(len(blocks)), len(recovery))
                for place in lost:
                    blocks[place] = None
                self.assertEqual(parity.missing_blocks(blocks, len(recovery), size), {n: [*data, *recovery][n] for n in sorted(lost)})

    def test_xwing_and_hpke(self) -> None:
        for row in self.known["xwing"]:
            self.assertEqual(conventions.xwing_public(b(row["seed"])).hex(), row["public_key"])
        for row in self.known["hpke"]:
            found = conventions.hpke_open(b(row["seed"]), b(row["info"]), b(row["encapsulated"]), b(row["ciphertext"]))
            self.assertEqual(found, b(row["plaintext"]))


class TinyRepository(unittest.TestCase):
    tiny = tiny.build(devices=AS_ROOT)

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base)
        self.repository = self.base / "repository"
        self.write(self.tiny)
        self.passphrase, self.key_file = self.base / "passphrase", self.base / "key"
        self.passphrase.write_bytes(writer.PASSPHRASE + b"\n")
        self.key_file.write_bytes(writer.key_file(writer.KEY_FILE_SEED))

    def write(self, what: tiny.Tiny) -> None:
        for name, data in what.objects.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def added(self, *args, **how) -> Tuple[bytes, tiny.Tiny]:
        """The repository with one more snapshot by the first session."""
        more = tiny.build(devices=AS_ROOT)
        ident = tiny.add_snapshot(more, tiny.FIRST, *args, **how)
        self.write(more)
        return ident, more

    def assert_broken(self, rule: str, name: object) -> None:
        code, _, err = self.run_reader("verify")
        self.assertEqual(code, 14)
        self.assertRegex(err, f"(?m)^error: {name}[^\n]*: {rule}: ")

    def run_reader(self, *args: str, key: bool = False) -> Tuple[int, str, str]:
        secret = ["--key-file", str(self.key_file)] if key else ["--password-file", str(self.passphrase)]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = icecore_reader.main(["-r", str(self.repository), *secret, *args])
        return code, out.getvalue(), err.getvalue()

    def restored(self, snapshot: str, code: int = 0) -> Path:
        target = Path(tempfile.mkdtemp(dir=self.base)) / "target"
        found, _, err = self.run_reader("restore", snapshot, "--target", str(target))
        self.assertEqual(found, code, err)
        return target

    def test_snapshots(self) -> None:
        code, out, _ = self.run_reader("snapshots")
        lines = [line.split("\t") for line in out.splitlines()]
        self.assertEqual(code, 0)
        self.assertEqual([line[0] for line in lines], [tiny.SNAPSHOT_FILES.hex(), tiny.SNAPSHOT_STREAM.hex()])
        self.assertEqual(lines[0][1:], ["2026-09-21T14:13:20.123456789Z", "host /home", "/home /srv/\\xff", "daily,t\u00e4g"])
        self.assertEqual(lines[1][-1], "suspect")

    def test_restore(self) -> None:
        target = os.fsencode(self.restored(tiny.SNAPSHOT_FILES.hex()[:8]))
        found = {os.path.relpath(os.path.join(base, name), target).replace(b"/", b"\0")
                 for base, folders, files in os.walk(target) for name in folders + files} | {b""}
        self.assertEqual(found, {entry.key for entry in self.tiny.entries})
        for entry in self.tiny.entries:
            with self.subTest(entry.key):
                self._compare(entry, os.path.join(target, *entry.key.split(b"\0")))

    def _compare(self, entry: trees.Entry, path: bytes) -> None:
        about = os.lstat(path)
        if entry.kind == trees.HARD_LINK:
            linked = os.lstat(os.path.join(path[:-len(entry.key)], entry.link))
            self.assertEqual((about.st_dev, about.st_ino), (linked.st_dev, linked.st_ino))
            return
        kinds = {trees.FILE: stat.S_ISREG, trees.FOLDER: stat.S_ISDIR, trees.SYMLINK: stat.S_ISLNK, trees.FIFO: stat.S_ISFIFO,
                 trees.SOCKET: stat.S_ISSOCK, trees.BLOCK: stat.S_ISBLK, trees.CHARACTER: stat.S_ISCHR}
        self.assertTrue(kinds[entry.kind](about.st_mode))
        self.assertEqual(about.st_mtime_ns, entry.time[0] * 10**9 + entry.time[1])
        if entry.kind != trees.SYMLINK:
            self.assertEqual(stat.S_IMODE(about.st_mode), entry.mode)
        if AS_ROOT:
            self.assertEqual((about.st_uid, about.st_gid), (entry.owner, entry.group))
        if entry.kind == trees.FILE:
            self.assertEqual(Path(os.fsdecode(path)).read_bytes(), self.tiny.content[entry.key])
            if sum(length for _, length in entry.holes) >= 8192:
                self.assertLess(about.st_blocks * 512, entry.size)
        if entry.kind == trees.SYMLINK:
            self.assertEqual(os.readlink(path), entry.target)
        if entry.device:
            self.assertEqual(about.st_rdev, os.makedev(*entry.device))
        found = sorted((os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False))
        self.assertEqual([pair for pair in found if pair[0].startswith(b"user.")], entry.attributes)

    def test_restore_of_a_stream(self) -> None:
        target = self.restored("latest")
        self.assertEqual((target / "dump.sql").read_bytes(), self.tiny.stream)

    def test_verify(self) -> None:
        (self.repository / "packs" / "stranger").write_bytes(b"x")
        (self.repository / "tmp").mkdir()
        (self.repository / "tmp" / "unfinished").write_bytes(b"x")
        code, _, err = self.run_reader("verify")
        self.assertEqual(code, 0, err)
        self.assertIn("packs/stranger: stranger", err)
        self.assertNotIn("unfinished", err)
        code, _, err = self.run_reader("verify", key=True)
        self.assertEqual(code, 0, err)

    def test_other_exit_codes(self) -> None:
        self.assertEqual(self.run_reader("restore", "00", "--target", str(self.base / "x"))[0], 1)
        self.assertEqual(self.run_reader("restore", "latest", "--target", str(self.repository))[0], 1)
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
            icecore_reader.main(["verify"])
        self.assertEqual(caught.exception.code, 2)
        self.passphrase.write_bytes(b"wrong")
        self.assertEqual(self.run_reader("verify")[0], 12)
        self.key_file.write_bytes(writer.key_file(writer.fixed("another seed")))
        self.assertEqual(self.run_reader("verify", key=True)[0], 12)
        shutil.rmtree(self.repository / "config")
        self.assertEqual(self.run_reader("verify")[0], 10)
        shutil.rmtree(self.repository)
        self.assertEqual(self.run_reader("verify")[0], 10)

    def test_missing_objects(self) -> None:
        """Whatever a snapshot needs is missed when it is gone."""
        for name, rule in ((tiny.pack_name(3, "data"), "REFS-6"), (tiny.pack_name(4, "meta"), "REFS-6"), (tiny.pack_name(5, "refs"), "REFS-6"),
                           (tiny.Name(7, tiny.SNAPSHOT_FILES, 0), "CLOSED-3"), (tiny.Name(12, tiny.SNAPSHOT_GONE, 0), "CLOSED-3"),
                           (tiny.number(1, 1), "CFG-2")):
            path = self.repository / str(name)
            data = path.read_bytes()
            path.unlink()
            code, _, err = self.run_reader("verify")
            self.assertEqual(code, 14, str(name))
            self.assertIn(rule, err)
            path.write_bytes(data)

    def put(self, name: tiny.Name, data: bytes) -> tiny.Name:
        path = self.repository / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return name

    def test_bases(self) -> None:
        """The stream's data, compressed against a frame that its refs do not name as a base, and against frames that cannot be one."""
        w, second = writer, tiny.SECOND
        name, zeros = tiny.pack_name(3, "stream 3"), bytes(100)
        chunks = tiny.pieces("stream", (3000, 2000))
        snapshot = tiny.Name(7, tiny.SNAPSHOT_STREAM, 0)

        def put(frame: w.Frame, *bases: bytes) -> None:
            tables = w.tables_bytes([second.record()], [w.table_entry(0, frame, bases=bases)], [second.id])
            self.put(name, w.pack(name, [frame], w.BACKUP, tables))
        put(w.Frame(second, 0, 1, chunks, 2, zeros), w.base(0, 0, 0, 5, 100))
        self.assert_broken("REFS-8", snapshot)
        put(w.Frame(second, 0, 1, chunks, 2, zeros), w.base(0, 77, 0, 0, 100))
        self.assert_broken("FRAME-8", name)
        put(w.Frame(second, 0, 1, chunks, 2, zeros), w.base(0, 0, 0, 4_000_000, 100))
        self.assert_broken("FRAME-8", name)

    def test_companions_of_others(self) -> None:
        w = writer
        name = tiny.number(9, 2, tiny.FIRST.id)
        self.assert_broken("SESS-3", self.put(name, w.one_part(name, w.time(w.NOW), w.MAINTAIN)))
        (self.repository / str(name)).unlink()
        name = tiny.Name(10, tiny.FIRST.id, 0)
        self.assert_broken("SESS-3", self.put(name, w.one_part(name, w.closed_plain([]), w.BACKUP)))
        self.assertEqual(self.run_reader("snapshots")[0], 14)
        self.put(name, self.tiny.objects[str(name)])
        name = tiny.Name(12, tiny.SNAPSHOT_STREAM, 0)
        self.assert_broken("SESS-4", self.put(name, w.one_part(name, w.withdrawn_plain(tiny.FIRST.id), w.MAINTAIN)))

    def test_finished_and_taken_back(self) -> None:
        w = writer
        name = tiny.Name(12, tiny.SNAPSHOT_STREAM, 0)
        self.put(name, w.one_part(name, w.withdrawn_plain(tiny.SECOND.id), w.BACKUP))
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.assertNotIn(tiny.SNAPSHOT_STREAM.hex(), self.run_reader("snapshots")[1])
        closed = tiny.Name(10, tiny.SECOND.id, 0)
        self.put(closed, w.one_part(closed, w.closed_plain([tiny.SNAPSHOT_STREAM], 2), w.MAINTAIN))
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.put(closed, w.one_part(closed, w.closed_plain([tiny.SNAPSHOT_STREAM]), w.BACKUP))
        self.assert_broken("SESS-5", name)
        code, out, _ = self.run_reader("snapshots")
        self.assertEqual(code, 14)
        self.assertIn(tiny.SNAPSHOT_STREAM.hex(), out)

    def test_withdrawn_snapshot(self) -> None:
        name = tiny.Name(12, tiny.SNAPSHOT_FILES, 0)
        self.put(name, writer.one_part(name, writer.withdrawn_plain(tiny.FIRST.id), writer.MAINTAIN))
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.assertNotIn(tiny.SNAPSHOT_FILES.hex(), self.run_reader("snapshots")[1])

    def test_held_snapshot(self) -> None:
        w = writer
        marker, hold = tiny.Name(12, tiny.SNAPSHOT_FILES, 0), tiny.Name(17, w.fixed("tiny hold", 16), 0)
        release = tiny.Name(17, w.fixed("tiny release", 16), 0)
        self.put(marker, w.one_part(marker, w.withdrawn_plain(tiny.FIRST.id, 3), w.MAINTAIN))
        some = [(tiny.SNAPSHOT_FILES, tiny.FIRST.id, bytes(16))]
        shown = lambda: tiny.SNAPSHOT_FILES.hex() in self.run_reader("snapshots")[1]  # noqa: E731
        self.assertFalse(shown())
        self.put(hold, w.one_part(hold, w.hold_plain(1, some), w.MAINTAIN))
        self.assert_broken("HOLD-7", marker)
        self.assertTrue(shown())
        # Only admin releases.
        self.put(release, w.one_part(release, w.hold_plain(3, released=hold.id), w.MAINTAIN))
        self.assert_broken("HOLD-6", release)
        self.assertTrue(shown())
        self.put(release, w.one_part(release, w.hold_plain(3, released=hold.id), w.ADMIN_SIGNER))
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.assertFalse(shown())
        # A lock is over when something was told after its end, a day ago at least: here that is not so, then it is.
        now = int(time.time())
        self.put(hold, w.one_part(hold, w.hold_plain(2, some, (now - 1000, 0)), w.MAINTAIN))
        self.assertTrue(shown())
        self.put(hold, w.one_part(hold, w.hold_plain(2, some, (w.NOW[0] - 1, 0)), w.MAINTAIN))
        self.assertFalse(shown())

    def test_suspect_snapshot_without_its_frames(self) -> None:
        (self.repository / str(tiny.pack_name(3, "stream 3"))).unlink()
        code, out, err = self.run_reader("snapshots")
        self.assertEqual((code, len(out.splitlines())), (0, 1))
        self.assertIn(f"{tiny.SNAPSHOT_STREAM.hex()}: suspect", err)

    def test_index_that_says_other_than_is(self) -> None:
        frame = tiny.Frame(tiny.FIRST, 2, 0, [b"another refs node"])
        name = tiny.Name(6, writer.fixed("tiny wrong index", 16), 0)
        self.put(name, writer.one_part(name, writer.index_of([(tiny.pack_name(5, "refs"), [frame])]), writer.MAINTAIN))
        self.assert_broken("INDEX-6", name)

    def _file(self, key: bytes = b"f", length: int = 500) -> Tuple[trees.Entry, bytes]:
        data = writer.fixed("added content", 500)
        return tiny.entry(key, trees.FILE, size=length, chunks=[(writer.chunk_id(1, data), length)]), data

    def test_snapshots_that_say_other_than_is(self) -> None:
        entry, data = self._file()
        ident, _ = self.added([entry], [data])
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.assertEqual((self.restored("latest") / "f").read_bytes(), data)
        for rule, how in (("REFS-7", dict(named=1)), ("SNAP-12", dict(totals=(2, 500, 2))), ("SNAP-12", dict(totals=(1, 501, 2))),
                          ("SNAP-12", dict(totals=(1, 500, 3)))):
            ident, _ = self.added([entry], [data], **how)
            self.assert_broken(rule, f"snapshots/{ident.hex()}")
            target = self.restored(ident.hex(), 14)
            self.assertEqual((target / "f").exists(), rule == "SNAP-12")

    def test_chunk_of_another_length(self) -> None:
        entry, data = self._file(length=499)
        ident, _ = self.added([entry], [data])
        self.assert_broken("TREE-13", f"snapshots/{ident.hex()}")
        self.restored(ident.hex(), 14)

    def test_hostile_trees(self) -> None:
        """Nothing is written outside the target."""
        outside = self.base / "outside"
        outside.mkdir()
        file, data = self._file(b"a\0f")
        up, _ = self._file(b"..\0up")
        link = tiny.entry(b"a", trees.SYMLINK, target=os.fsencode(outside))
        hard = tiny.entry(b"b", trees.HARD_LINK, link=b"..\0passphrase")
        for rule, entries in (("TREE-17", [link, file]), ("TREE-6", [up]), ("TREE-6", [hard]), ("TREE-6", [self._file(b"../up")[0]])):
            ident, _ = self.added(entries, [data])
            self.assert_broken(rule, f"snapshots/{ident.hex()}")
            self.restored(ident.hex(), 14)
            self.assertEqual(os.listdir(outside), [])
        self.assertEqual([p for p in self.base.rglob("up")], [])

    def test_a_pack_in_two_places(self) -> None:
        """A copy of a pack whose first one is gone serves as well."""
        (self.repository / str(tiny.pack_name(3, "second"))).unlink()
        self.assertEqual(self.run_reader("verify")[0], 0)
        self.restored(tiny.SNAPSHOT_FILES.hex())

    def reframed(self, **how) -> List[tiny.Name]:
        shutil.rmtree(self.repository)
        more = tiny.build(devices=AS_ROOT)
        relocations = tiny.reframe(more, **how)
        self.write(more)
        return relocations

    def test_frames_that_were_made_anew(self) -> None:
        relocations = self.reframed()
        code, _, err = self.run_reader("verify")
        self.assertEqual(code, 0, err)
        self.assertNotIn("reserved", err)
        target = self.restored(tiny.SNAPSHOT_FILES.hex())
        for key in (b"a.txt", b"big", b"dir\0sparse"):
            path = os.path.join(os.fsencode(target), *key.split(b"\0"))
            self.assertEqual(Path(os.fsdecode(path)).read_bytes(), self.tiny.content[key])
        for name in relocations:
            path = self.repository / str(name)
            data = path.read_bytes()
            path.unlink()
            self.assert_broken("REFS-6", f"snapshots/{tiny.SNAPSHOT_FILES.hex()}")
            path.write_bytes(data)
        self.reframed(is_mapped=False)
        self.assert_broken("REFS-6", f"snapshots/{tiny.SNAPSHOT_FILES.hex()}")

    def test_packs_in_a_tier(self) -> None:
        cold, tier = self.repository.parent / "cold", tiny.place_in_tier(self.tiny, "/not/there")
        for name in tier.moved + [tier.marker]:
            (cold / name).parent.mkdir(parents=True, exist_ok=True)
            (cold / name).write_bytes(self.tiny.objects[name])
        for name in tier.placement:
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.tiny.objects[name])
        for name in tier.moved:
            (self.repository / name).unlink()
        code, _, err = self.run_reader("verify")
        self.assertEqual(code, 1, err)
        self.assertIn("is not tier cold", err)
        code, _, err = self.run_reader("--tier", f"cold={cold}", "verify")
        self.assertEqual(code, 0, err)
        (cold / tier.moved[0]).unlink()
        code, _, err = self.run_reader("--tier", f"cold={cold}", "verify")
        self.assertNotEqual(code, 0, err)

    def test_restore_with_a_damaged_frame(self) -> None:
        path = self.repository / str(tiny.pack_name(3, "data"))
        data = bytearray(path.read_bytes())
        data[70] ^= 1
        path.write_bytes(data)
        target = self.restored(tiny.SNAPSHOT_FILES.hex(), 14)
        self.assertEqual((target / "big").read_bytes(), self.tiny.content[b"big"])

    def test_every_flipped_byte_is_found(self) -> None:
        rng = random.Random(2)
        for name, data in self.tiny.objects.items():
            for at in flipped_places(data, rng):
                with self.subTest(f"{name} at {at}"):
                    self._flip(name, data, at, rng.randrange(1, 256))

    def _flip(self, name: str, data: bytes, at: int, by: int) -> None:
        path = self.repository / name
        path.write_bytes(data[:at] + bytes([data[at] ^ by]) + data[at + 1:])
        code, _, err = self.run_reader("verify")
        path.write_bytes(data)
        if at in (8, 9):                 # the version, which a newer writer may have meant
            self.assertIn(code, (1, 12, 14))
            self.assertIn("OBJ-4", err)
        else:
            self.assertEqual(code, 14)
        self.assertIn(name, err)


def flipped_places(data: bytes, rng: random.Random) -> List[int]:
    if FLIPS == "all":
        return list(range(len(data)))
    return sorted({rng.randrange(64), len(data) - 1 - rng.randrange(248), *(rng.randrange(len(data)) for _ in range(int(FLIPS)))})


if __name__ == "__main__":
    unittest.main()
