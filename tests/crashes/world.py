"""A repository whose acknowledged snapshots and keys are known, and the questions that it must answer after whatever befell it."""

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
    """Each file and folder below a folder, with its mode, its time and the hash of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def names(folder: Path) -> set:
    """The files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def name_of(arguments: list) -> str:
    """What an operation is called, by its arguments."""
    return " ".join(arguments[:2]) if arguments[0] in ("key", "repair") else arguments[0]


def copy_tree(source: Path, target: Path) -> None:
    """Times included. A process of its own is ten times as fast as shutil."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


def summary_of(printed: bytes) -> Optional[dict]:
    """The JSON line with which an operation acknowledges what it did."""
    for line in printed.splitlines():
        if line.startswith(b"{") and line.endswith(b"}") and json.loads(line).get("message_type") == "summary":
            return json.loads(line)
    return None


class World:
    """Lies in one folder. A copy of it can be put there again, where the caches know it by its path."""

    def __init__(self, icecore: Path, folder: Path, seed: int, repository: Optional[Path] = None, parity: bool = False) -> None:
        self.icecore, self.folder, self.random = icecore, folder, random.Random(seed)
        self.source, self.repository, self.key = folder / "source", repository or folder / "repository", folder / "key"
        # What was acknowledged, by snapshot; what a stopped forget may have taken.
        self.acknowledged, self.uncertain = {}, set()
        # Key files by slot that must open the repository, besides its own; those that must not; the newest generation of the config.
        self.keys, self.removed_keys, self.generation = {}, set(), 1
        # What a repair is to write anew.
        self.missing: Optional[Path] = None
        if not folder.exists():
            for part in ("home", "source"):
                (folder / part).mkdir(parents=True)
            self.must(*self.init(), *(["--parity=10"] if parity else []), key=False)
            self.change()

    def copy(self, folder: Path) -> "World":
        """The same state in another folder."""
        copy_tree(self.folder, folder)
        other = World(self.icecore, folder, self.random.getrandbits(60))
        other.acknowledged, other.uncertain = dict(self.acknowledged), set(self.uncertain)
        other.missing = self.missing
        other.keys, other.removed_keys, other.generation = dict(self.keys), set(self.removed_keys), self.generation
        return other

    # Running

    def command(self, *arguments: object, key: object = True) -> list:
        """With its own key, another file, or none."""
        file = self.key if key is True else key
        options = ["--repository", self.repository] + (["--key-file", file] if file else [])
        return [str(word) for word in (self.icecore, *arguments, *options)]

    def environment(self) -> dict:
        return {"HOME": str(self.folder / "home"), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def run(self, *arguments: object, key: object = True, prefix: tuple = ()) -> subprocess.CompletedProcess:
        command = [*map(str, prefix), *self.command(*arguments, key=key)]
        return subprocess.run(command, cwd=self.folder, env=self.environment(), capture_output=True, timeout=120)

    def start(self, *arguments: object, prefix: tuple = ()) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*map(str, prefix), *self.command(*arguments)], cwd=self.folder, env=self.environment(), **pipes)

    def must(self, *arguments: object, key: object = True) -> bytes:
        done = self.run(*arguments, key=key)
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode(errors="replace")
            raise Lost(f"{' '.join(map(str, arguments))} ended with {done.returncode}: {said}")
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

    def init(self) -> list:
        return ["init", "--new-key-file", self.key, "--json"]

    def operation(self, name: str) -> list:
        """The arguments of an operation, and what it is about to do is noted. Another one where there is nothing for this one to do (`name_of`)."""
        if name == "backup":
            self.change()
            return ["backup", "--series", "crashes", "--json", self.source]
        if name == "forget":
            chosen = self.random.sample(sorted(self.acknowledged), min(2, max(0, len(self.acknowledged) - 2)))
            self.uncertain.update(chosen)
            return ["forget", "--json", *chosen] if chosen else self.operation("backup")
        if name == "gc":
            return ["gc", "--json", "--max-dead", self.random.choice([0, 10])]
        if name == "key add":
            return ["key", "add", "--json", "--role", "restore", "--new-key-file", self.folder / f"key {self.random.getrandbits(40):x}"]
        if name == "key remove":
            return ["key", "remove", "--json", self.random.choice(sorted(self.keys))] if self.keys else self.operation("key add")
        if name == "restore":
            shutil.rmtree(self.folder / "target", ignore_errors=True)
            return ["restore", "--json", list(self.acknowledged)[-1], "--target", self.folder / "target"]
        if name == "repair --apply":
            # A sidecar is what can be missing without anything being lost.
            sidecars = sorted(path for path in (self.repository / "parity").rglob("*") if path.is_file())
            if sidecars:
                self.missing = self.random.choice(sidecars).relative_to(self.repository)
                (self.repository / self.missing).unlink()
        return [*name.split(), "--json"]

    def after(self, arguments: list, returncode: int, printed: bytes = b"") -> None:
        """What is there is right after an operation that ended so. What it acknowledged is binding; one that was stopped may have been done."""
        name, summary = name_of(arguments), summary_of(printed)
        if returncode == 0 and summary is None:
            raise Lost(f"{name} ended with 0 and printed no summary")
        if name == "forget" and summary:
            for chosen in arguments[2:]:
                self.acknowledged.pop(chosen)
                self.uncertain.discard(chosen)
        if name == "repair --apply" and returncode != 0:
            # What was to be mended still is.
            self.must("repair", "--apply")
        if name == "repair --apply" and self.missing and not (self.repository / self.missing).is_file():
            raise Lost(f"{self.missing} was to be written anew and is not there")
        self.compare(name == "backup", summary)
        if name.startswith("key "):
            self.compare_keys(name, arguments, summary)
        if name == "restore" and returncode == 0 and digest(self.folder / "target" / "source") != self.acknowledged[arguments[2]]:
            raise Lost("restore ended with 0, and the target is not what the snapshot was")

    # What is asked of it

    def lines(self, *arguments: object) -> list:
        return [json.loads(line) for line in self.must(*arguments, "--json").splitlines()]

    def compare(self, is_backup: bool, summary: Optional[dict]) -> None:
        """The list of snapshots is right. A backup that was stopped may have made one, of the source as it is; one that was not has."""
        shown = {line["id"] for line in self.lines("snapshots") if line["message_type"] == "snapshot"}
        fresh = shown - set(self.acknowledged)
        if is_backup and summary and fresh != {summary["snapshot_id"]}:
            raise Lost(f"snapshot {summary['snapshot_id']} was acknowledged, and what is new is {sorted(fresh)}")
        if len(fresh) > is_backup:
            raise Lost(f"snapshots that nobody made: {sorted(fresh)}")
        lost = set(self.acknowledged) - shown - self.uncertain
        if lost:
            raise Lost(f"acknowledged snapshots are gone: {sorted(lost)}")
        for gone in self.uncertain - shown:
            self.acknowledged.pop(gone, None)
        self.uncertain.clear()
        for made in fresh:
            self.acknowledged[made] = digest(self.source)

    def compare_keys(self, name: str, arguments: list, summary: Optional[dict]) -> None:
        """The list of keys is right, and each opens the repository or does not. A change that was stopped may have been made."""
        active = {line["id"] for line in self.lines("key", "list") if line["message_type"] == "key_slot" and line["active"] and not line["own"]}
        fresh, gone = active - set(self.keys), set(self.keys) - active
        if len(fresh) > (name == "key add") or not gone <= (set(arguments[3:]) if name == "key remove" else set()):
            raise Lost(f"{name}: key slots that nobody made: {sorted(fresh)}; that nobody removed: {sorted(gone)}")
        if summary and (name == "key add" and fresh != {summary["id"]} or name == "key remove" and not gone):
            raise Lost(f"{name} was acknowledged and did not last")
        self.keys.update((slot, arguments[-1]) for slot in fresh)
        self.removed_keys.update(self.keys.pop(slot) for slot in gone)
        self.generation = max(self.generation, (summary or {}).get("config_generation", 1))
        generation = next(line["generation"] for line in self.lines("config") if "generation" in line)
        if generation < self.generation:
            raise Lost(f"the config has generation {generation}, and {self.generation} was acknowledged")
        self.verify_keys()

    def verify_keys(self) -> None:
        """Each key opens the repository that is to, and no other."""
        for file in self.keys.values():
            self.must("snapshots", key=self.folder / Path(file).name)
        for file in self.removed_keys:
            done = self.run("snapshots", key=self.folder / Path(file).name)
            if done.returncode != 12:
                raise Lost(f"a key that was removed opens the repository, or something else is wrong: {done.returncode}, {done.stderr.decode(errors='replace')}")

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

    def collect(self) -> None:
        """Garbage collection waits for nobody: whoever was at work is dead, and the kernel says so."""
        summary = summary_of(self.must("gc", "--max-dead", 0, "--json"))
        if summary["waits_for"] or summary["left"]["packs"]:
            raise Lost(f"gc waits for {summary['waits_for']} and leaves {summary['left']}")

    def verify_all(self) -> None:
        """The same of all snapshots, of every byte, and once more after garbage was collected."""
        self.must("scrub")
        self.verify(len(self.acknowledged))
        self.collect()
        self.must("scrub")
        self.verify(len(self.acknowledged))
        self.verify_keys()
