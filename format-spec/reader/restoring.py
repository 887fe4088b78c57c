"""Writes the entries of a snapshot below a target folder.

The target must be new or empty, names are kept safe by TREE-6, and nothing is written below an entry that is no folder
(TREE-17), so that no link that a snapshot brings is ever followed. Folders get their modes and times last, and inode flags
(`chattr`), some of which forbid every later change, come after everything else.
"""
from __future__ import annotations

import os
import stat
import struct
from typing import Callable, Iterator, List

import trees
from conventions import RuleError, need
from packs import KIND_DATA
from repository import Problems, SnapshotFrames
from bodies import Snapshot
from trees import Entry, TreeWalk

try:
    import fcntl
except ImportError:  # No such flags on this system.
    fcntl = None

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


class Restore:
    def __init__(self, snapshot: Snapshot, frames: SnapshotFrames, target: bytes, problems: Problems):
        self.snapshot, self.frames, self.target, self.problems = snapshot, frames, target, problems
        self.folders: List[Entry] = []
        self.flagged: List[Entry] = []
        self.failures = 0

    def run(self) -> None:
        os.makedirs(self.target, exist_ok=True)
        if os.listdir(self.target):
            raise OSError("the target folder is not empty")
        body = self.snapshot.body
        walk = TreeWalk(body.tree_root, body.key_kind, self.frames.get)
        for entry in walk:
            self._guarded(entry, self._entry)
        for entry in reversed(self.folders):
            self._guarded(entry, self._attributes)
        for entry in reversed(self.flagged):
            self._guarded(entry, self._flags)
        header = self.snapshot.header
        told = (header.entries, header.file_bytes, header.frames)
        need(told == (walk.entries, walk.file_bytes, self.frames.count), "SNAP-12", "totals are not those of the tree")

    def _guarded(self, entry: Entry, action: Callable[[Entry], None]) -> None:
        shown = entry.key.replace(b"\0", b"/").decode("utf-8", "backslashreplace")
        try:
            action(entry)
        except RuleError as error:
            self.problems.add(shown, error)
        except OSError as error:
            self.failures += 1
            self.problems.notes.append(f"{shown}: {error}")

    def path(self, key: bytes) -> bytes:
        if self.snapshot.body.key_kind == trees.OBJECT_KEYS:
            return os.path.join(self.target, _file_name(key))
        return os.path.join(self.target, *key.split(b"\0")) if key else self.target

    def _entry(self, entry: Entry) -> None:
        path = self.path(entry.key)
        if entry.key:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        elif entry.kind != trees.FOLDER:
            raise OSError("the root of the snapshot is no folder")
        self._create(entry, path)
        if entry.flags and entry.kind in (trees.FILE, trees.FOLDER):
            self.flagged.append(entry)
        if entry.kind == trees.FOLDER:
            self.folders.append(entry)
        elif entry.kind != trees.HARD_LINK:
            self._attributes(entry)

    def _create(self, entry: Entry, path: bytes) -> None:
        if entry.kind == trees.FILE:
            self._file(entry, path)
        elif entry.kind == trees.FOLDER:
            os.makedirs(path, mode=0o700, exist_ok=True)
        elif entry.kind == trees.SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind == trees.FIFO:
            os.mkfifo(path, 0o600)
        elif entry.kind == trees.SOCKET:
            os.mknod(path, stat.S_IFSOCK | 0o600)
        elif entry.kind == trees.HARD_LINK:
            os.link(self.path(entry.link), path, follow_symlinks=False)
        else:
            kind = stat.S_IFBLK if entry.kind == trees.BLOCK else stat.S_IFCHR
            os.mknod(path, kind | 0o600, os.makedev(*entry.device))

    def _file(self, entry: Entry, path: bytes) -> None:
        """A file that cannot be restored whole is taken away again."""
        try:
            self._write_file(entry, path)
        except RuleError:
            os.unlink(path)
            raise

    def _write_file(self, entry: Entry, path: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with open(fd, "wb") as file:
            os.ftruncate(file.fileno(), entry.size)
            holes = iter(entry.holes + [(entry.size, 0)])
            hole, length = next(holes)
            position = 0
            for data in self._content(entry):
                while data:
                    while position == hole and length:
                        position, (hole, length) = hole + length, next(holes)
                    piece = data[:hole - position]
                    need(piece, "TREE-13", "more content than the entry has room for")
                    file.seek(position)
                    file.write(piece)
                    position, data = position + len(piece), data[len(piece):]

    def _content(self, entry: Entry) -> Iterator[bytes]:
        rule = "TREE-13" if entry.chunks is not None else "RECIPE-3"
        for ident, length in trees.file_chunks(entry, self.frames.get):
            data = self.frames.get(KIND_DATA, ident)
            need(len(data) == length, rule, f"chunk {ident.hex()} has {len(data)} bytes, not {length}")
            yield data

    def _attributes(self, entry: Entry) -> None:
        """Owner first, since changing it takes away mode bits and capabilities; times last."""
        path = self.path(entry.key)
        if AS_ROOT:
            os.chown(path, entry.owner, entry.group, follow_symlinks=False)
        for name, value in entry.attributes:
            self._extended_attribute(path, name, value)
        if entry.kind != trees.SYMLINK:
            os.chmod(path, entry.mode)
        time = entry.time[0] * 1_000_000_000 + entry.time[1]
        try:
            os.utime(path, ns=(time, time), follow_symlinks=False)
        except OverflowError:
            raise OSError("time out of range of this system") from None

    def _flags(self, entry: Entry) -> None:
        """Adds the flags to those that the file system gave."""
        if fcntl is None:
            raise OSError("inode flags cannot be set on this system")
        fd = os.open(self.path(entry.key), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            # The call is named for a long and takes an int.
            found = struct.unpack("@II", fcntl.ioctl(fd, GET_FLAGS, struct.pack("@II", 0, 0)))[0]
            fcntl.ioctl(fd, SET_FLAGS, struct.pack("@II", found | entry.flags, 0))
        finally:
            os.close(fd)

    def _extended_attribute(self, path: bytes, name: bytes, value: bytes) -> None:
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            if AS_ROOT or name.startswith(b"user."):
                self.failures += 1
            self.problems.notes.append(f"{path.decode('utf-8', 'backslashreplace')}: attribute {name!r}: {error}")


def _file_name(key: bytes) -> bytes:
    """One safe file name for an object key: other bytes than letters, digits and a few signs as %XX."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=,@"
    name = b"".join(bytes([c]) if c in plain or (c == 46 and at) else b"%%%02X" % c for at, c in enumerate(key)) or b"%"
    if len(name) > 255:
        raise OSError("object key too long for a file name")
    return name
