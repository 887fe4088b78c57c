"""A repository whose acknowledged snapshots are known, and the questions that it must answer after whatever befell it."""

import hashlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Optional


class Lost(AssertionError):
    """The repository is not what was promised."""


def digest(folder: Path) -> dict:
    """Each file below a folder, with the hash of its content."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class World:
    """Lies in one folder, which can be copied and gone on with."""

    def __init__(self, icecore: Path, folder: Path, seed: int, repository: Optional[Path] = None) -> None:
        self.icecore, self.folder, self.random = icecore, folder, random.Random(seed)
        self.source, self.repository, self.key = folder / "source", repository or folder / "repository", folder / "key"
        # What was acknowledged, by snapshot; what a stopped forget may have taken; extra key slots that may be there.
        self.acknowledged, self.uncertain = {}, set()
        if not folder.exists():
            for part in ("home", "source"):
                (folder / part).mkdir(parents=True)
            self.must("init", "--new-key-file", self.key, key=False)
            self.change()

    def copy(self, folder: Path) -> "World":
        """The same state in another folder."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True)
        other = World(self.icecore, folder, self.random.getrandbits(60))
        other.acknowledged, other.uncertain = dict(self.acknowledged), set(self.uncertain)
        return other

    # Running

    def command(self, *arguments: object, key: bool = True) -> list:
        options = ["--repository", self.repository] + (["--key-file", self.key] if key else [])
        return [str(word) for word in (self.icecore, *arguments, *options)]

    def environment(self) -> dict:
        return {"HOME": str(self.folder / "home"), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def run(self, *arguments: object, key: bool = True, prefix: tuple = ()) -> subprocess.CompletedProcess:
        command = [*map(str, prefix), *self.command(*arguments, key=key)]
        return subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, timeout=120)

    def start(self, *arguments: object) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(*arguments), cwd=self.folder, env=self.environment(), **pipes)

    def must(self, *arguments: object, key: bool = True) -> bytes:
        done = self.run(*arguments, key=key)
        if done.returncode != 0:
            raise Lost(f"{' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    # What is done to it

    def change(self) -> None:
        """Makes, changes and deletes some files of the source."""
        for number in range(40):
            path = self.source / f"folder {number % 4}" / f"file {number}"
            fate = self.random.random()
            if not path.exists() or fate < 0.2:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(self.random.randbytes(self.random.randrange(1, 60_000)))
            elif fate < 0.25:
                path.unlink()

    def operation(self, name: str) -> list:
        """The arguments of an operation, and what it is about to do is noted."""
        if name == "backup":
            self.change()
            return ["backup", "--series", "crashes", "--json", self.source]
        if name == "forget":
            chosen = self.random.sample(sorted(self.acknowledged), min(2, max(0, len(self.acknowledged) - 2)))
            self.uncertain.update(chosen)
            return ["forget", *chosen] if chosen else self.operation("backup")
        if name == "gc":
            return ["gc", "--max-dead", self.random.choice([0, 10])]
        if name == "key add":
            return ["key", "add", "--role", "restore", "--new-key-file", self.folder / f"key {self.random.getrandbits(40):x}"]
        if name == "key remove":
            slots = [line for line in self.lines("key", "list") if line["message_type"] == "key_slot" and line["active"] and not line["own"]]
            return ["key", "remove", self.random.choice(slots)["id"]] if slots else self.operation("key add")
        return name.split()

    def ended(self, arguments: list, returncode: int) -> None:
        """An operation ended by itself with 0: what it promised is binding."""
        if returncode == 0 and arguments[0] == "forget":
            for chosen in arguments[1:]:
                self.acknowledged.pop(chosen)
                self.uncertain.discard(chosen)

    # What is asked of it

    def lines(self, *arguments: object) -> list:
        return [json.loads(line) for line in self.must(*arguments, "--json").splitlines()]

    def compare(self, backed_up: bool, printed: bytes = b"") -> None:
        """The list of snapshots is right. A backup that was stopped may have made one, of the source as it is."""
        shown = {line["id"] for line in self.lines("snapshots") if line["message_type"] == "snapshot"}
        for line in printed.splitlines():
            summary = json.loads(line) if line.startswith(b"{") and line.endswith(b"}") else {}
            if summary.get("message_type") == "summary" and summary.get("snapshot") and summary["snapshot"] not in shown:
                raise Lost(f"snapshot {summary['snapshot']} was acknowledged and is not shown")
        fresh = shown - set(self.acknowledged)
        if len(fresh) > backed_up:
            raise Lost(f"snapshots that nobody made: {sorted(fresh)}")
        lost = set(self.acknowledged) - shown - self.uncertain
        if lost:
            raise Lost(f"acknowledged snapshots are gone: {sorted(lost)}")
        for gone in self.uncertain - shown:
            self.acknowledged.pop(gone, None)
        self.uncertain.clear()
        for made in fresh:
            self.acknowledged[made] = digest(self.source)

    def verify(self, count: int) -> None:
        """Check finds nothing, and so many snapshots, the newest among them, come back as they were."""
        self.must("check")
        ids = list(self.acknowledged)
        for snapshot in ids[-1:] + self.random.sample(ids[:-1], min(max(count - 1, 0), max(len(ids) - 1, 0))):
            target = self.folder / "restored"
            shutil.rmtree(target, ignore_errors=True)
            self.must("restore", snapshot, "--target", target)
            if digest(target / "source") != self.acknowledged[snapshot]:
                raise Lost(f"snapshot {snapshot} came back with other content")
            shutil.rmtree(target)

    def verify_all(self) -> None:
        """The same of all snapshots, of every byte, and once more after garbage was collected."""
        self.must("scrub")
        self.verify(len(self.acknowledged))
        self.must("gc", "--max-dead", 0)
        self.must("scrub")
        self.verify(len(self.acknowledged))
