"""What a traced program did to the files below a folder, and what of it is left when the power fails.

A simple file system that promises no more than POSIX does: content lasts after fsync of the file, names after fsync of their folder. What was not
synced may be there, in part, or not. Names of one folder that were not synced last up to some point, in the order of the calls, or some of them last and
others do not. Only a rename is never so torn that neither name is there.
"""

import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

CALLS = "openat,write,pwrite64,fsync,fdatasync,syncfs,linkat,renameat2,renameat,rename,unlinkat,unlink,mkdirat,mkdir,rmdir,ftruncate"
LINE = re.compile(r"^(?:\[pid +(\d+)\] |(\d+) +)?(\w+)\((.*)\) += (-?\d+|\?)(.*)$", re.S)
UNFINISHED = re.compile(r"^(?:\[pid +(\d+)\] |(\d+) +)?(\w+)\((.*) <unfinished \.\.\.>$", re.S)
RESUMED = re.compile(r"^(?:\[pid +(\d+)\] |(\d+) +)?<\.\.\. (\w+) resumed>(.*)$", re.S)
HEX = re.compile(r"\\x([0-9a-f]{2})")


def unhex(text: str) -> bytes:
    return bytes.fromhex("".join(HEX.findall(text)))


@dataclass
class Call:
    """One system call that succeeded. `start` is how many calls had ended when it began."""
    name: str
    arguments: str
    result: int
    rest: str
    start: int

    def descriptor_paths(self) -> List[str]:
        return [unhex(path).decode("utf-8", "surrogateescape") for path in re.findall(r"(?:\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>", self.arguments)]

    def strings(self) -> List[bytes]:
        return [unhex(text) for text in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', self.arguments)]


def calls_of(text: str) -> List[Call]:
    """The calls of an strace log (`-f -y -xx`), in the order in which they ended."""
    calls, waiting = [], {}
    for line in text.splitlines():
        if match := UNFINISHED.match(line):
            waiting[match[1] or match[2]] = (match[4], len(calls))
            continue
        if match := RESUMED.match(line):
            begun, start = waiting.pop(match[1] or match[2])
            line, number = f"{match[3]}({begun}{match[4]}", start
        else:
            number = len(calls)
        match = LINE.match(line)
        if match and not match[5].startswith(("-", "?")):
            calls.append(Call(match[3], match[4], int(match[5]), match[6], number))
    return calls


@dataclass
class File:
    written: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    written_at: List[Tuple[int, int]] = field(default_factory=list)


@dataclass
class Change:
    """A name in a folder that came (`file`, or a folder where that is None) or went."""
    at: int
    name: str
    comes: bool
    file: Optional[File]
    lasts: bool = False
    # Of a name that went by a rename: the one that came.
    became: Optional["Change"] = None


class Disk:
    """The files below `root` as the calls leave them."""

    def __init__(self, root: Path, skip_fsync: bool = False) -> None:
        self.root, self.skip_fsync = root, skip_fsync
        self.names: Dict[str, File] = {}
        self.changes: Dict[str, List[Change]] = {}
        self.old = {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.old_folders = {str(path) for path in root.rglob("*") if path.is_dir()}
        for path, content in self.old.items():
            self.names[path] = File(bytearray(content), content)

    def inside(self, path: str) -> bool:
        return path.startswith(f"{self.root}/")

    def note(self, at: int, path: str, comes: bool, file: Optional[File], became: Optional[Change] = None) -> Change:
        folder, _, name = path.rpartition("/")
        change = Change(at, name, comes, file, became=became)
        self.changes.setdefault(folder, []).append(change)
        return change

    def apply(self, at: int, call: Call) -> bool:
        """Whether it changed anything that could be lost, or made it last."""
        folders = call.descriptor_paths()
        paths = []
        strings = [text.decode("utf-8", "surrogateescape") for text in call.strings()] if call.name not in ("write", "pwrite64") else []
        for number, text in enumerate(strings):
            base = folders[number] if number < len(folders) else ""
            paths.append(text if text.startswith("/") else f"{base}/{text}")
        if call.name == "openat" and "O_CREAT" in call.arguments and self.inside(paths[0]) and paths[0] not in self.names:
            self.names[paths[0]] = File()
            self.note(at, paths[0], True, self.names[paths[0]])
        elif call.name == "openat" and "O_TRUNC" in call.arguments and paths[0] in self.names:
            raise NotImplementedError("no file is emptied and written again")
        elif call.name in ("write", "pwrite64") and folders and folders[0] in self.names:
            file, data = self.names[folders[0]], call.strings()[0][: call.result]
            if call.name == "pwrite64":
                raise NotImplementedError("objects are written from beginning to end")
            file.written += data
            file.written_at.append((at, len(file.written)))
        elif call.name in ("fsync", "fdatasync") and folders and self.inside(folders[0] + "/") and not self.skip_fsync:
            if folders[0] in self.names:
                self.sync(self.names[folders[0]], call)
            for change in self.changes.get(folders[0], []):
                change.lasts |= change.at < call.start
        elif call.name == "syncfs" and folders and self.inside(folders[0] + "/") and not self.skip_fsync:
            for file in self.names.values():
                self.sync(file, call)
            for change in [change for changes in self.changes.values() for change in changes]:
                change.lasts |= change.at < call.start
        elif call.name == "linkat" and self.inside(paths[-1]):
            source = paths[0] if paths[0] in self.names else next((folder for folder in folders if folder in self.names), paths[0])
            if source not in self.names:
                raise ValueError(f"a link from {source}, which nobody made")
            self.names[paths[-1]] = self.names[source]
            self.note(at, paths[-1], True, self.names[source])
        elif call.name.startswith("rename") and self.inside(paths[1]):
            file = self.names.pop(paths[0])
            self.names[paths[1]] = file
            self.note(at, paths[0], False, file, self.note(at, paths[1], True, file))
        elif call.name in ("unlink", "unlinkat", "rmdir") and self.inside(paths[0]):
            self.names.pop(paths[0], None)
            self.note(at, paths[0], False, None)
        elif call.name in ("mkdir", "mkdirat") and self.inside(paths[0]):
            self.note(at, paths[0], True, None)
        else:
            return False
        return True

    @staticmethod
    def sync(file: File, call: Call) -> None:
        """What was written before the call began lasts."""
        length = max((end for when, end in file.written_at if when < call.start), default=0)
        file.synced = bytes(file.written[: max(length, len(file.synced))])

    def after_power_cut(self, target: Path, chance: random.Random, how: str = "") -> str:
        """Writes what is left to `target`, which takes the place of `root`, and says what that is of what was not synced."""
        how = how or chance.choices(("all", "nothing", "the first", "some"), (2, 3, 2, 3))[0]
        lasting = set()
        for changes in self.changes.values():
            unsynced = [change for change in changes if not change.lasts]
            count = {"all": len(unsynced), "nothing": 0}.get(how, chance.randint(0, len(unsynced)))
            lasting.update(id(change) for change in changes if change.lasts)
            lasting.update(map(id, chance.sample(unsynced, count) if how == "some" else unsynced[:count]))

        def happens(changes: List[Change]) -> List[Change]:
            return [change for change in changes if id(change) in lasting and (change.became is None or id(change.became) in lasting)]

        self.lay_out(target, happens, lambda file: bytes(file.written) if how == "all" else self.left_of(file, chance))
        return how

    def must_be(self, root: Path) -> None:
        """The files below `root` are those that the calls made."""
        there = {str(self.root / path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for path in sorted(there.keys() ^ self.names.keys()) + sorted(there.keys() & self.names.keys()):
            if there.get(path) != (bytes(self.names[path].written) if path in self.names else None):
                raise NotImplementedError(f"{path} is not what the calls made")

    def after_drops(self, target: Path, chance: random.Random) -> int:
        """The same of a device that said that everything is durable, and dropped some of it. Gives how much that is."""
        dropped, share = 0, chance.choice((0.02, 0.1, 0.3))

        def is_dropped() -> bool:
            nonlocal dropped
            chosen = chance.random() < share
            dropped += chosen
            return chosen

        def left_of(file: File) -> bytes:
            content = bytearray(file.written)
            if file.written_at and content and is_dropped():
                begin, length = chance.randrange(len(content)), chance.choice((512, 4096, 1 << 20))
                content[begin : begin + length] = b"" if chance.random() < 0.5 else bytes(len(content[begin : begin + length]))
            return bytes(content)

        # A folder's name is made once and used by all that follows: a drop of it is a drop of that.
        happens = lambda changes: [change for change in changes if change.comes and change.file is None or not is_dropped()]
        self.lay_out(target, happens, left_of)
        return dropped

    def lay_out(self, target: Path, happens: Callable[[List[Change]], List[Change]], left_of: Callable[[File], bytes]) -> None:
        """Writes to `target` what is there when of each folder's changes these happen, and this is left of a file that was written."""
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        folders = {str(self.root)} | self.old_folders
        files: Dict[str, File] = {path: File(bytearray(content), content) for path, content in self.old.items()}
        contents: Dict[int, bytes] = {}
        for folder in sorted(self.changes):
            changes = happens(self.changes[folder])
            if folder not in folders:
                continue
            for change in changes:
                path = f"{folder}/{change.name}"
                if not change.comes:
                    files.pop(path, None)
                    folders.discard(path)
                elif change.file is None:
                    folders.add(path)
                else:
                    files[path] = change.file
        for folder in sorted(folders):
            (target / Path(folder).relative_to(self.root)).mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            if id(file) not in contents:
                contents[id(file)] = left_of(file)
            if path.rpartition("/")[0] in folders:
                (target / Path(path).relative_to(self.root)).write_bytes(contents[id(file)])

    @staticmethod
    def left_of(file: File, chance: random.Random) -> bytes:
        extra = bytes(file.written[len(file.synced):])
        kept = chance.randint(0, len(extra))
        # Blocks that were allocated and never written read as zeros.
        zeros = chance.randint(0, len(extra) - kept) if chance.random() < 0.3 else 0
        return file.synced + extra[:kept] + bytes(zeros)
