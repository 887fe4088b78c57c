"""The programs that are compared: how each is called, and its settings.

Every program encrypts and keeps its caches in a folder of its own. All but bupstash, which knows key files only, use the same passphrase
from the same file. A step is a list of commands, whose times are added.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import List

Commands = List[List[str]]


class Tool:
    """One program with its repository and caches, both below `folder`."""

    name = ""
    settings = ""
    program = ""

    def __init__(self, folder: Path, source: Path, passphrase: Path):
        self.source = source
        self.repository = folder / "repository"
        self.cache = folder / "cache"
        self.target = folder / "restored"
        self.passphrase = passphrase
        self.cache.mkdir(parents=True)

    def environment(self) -> dict:
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.cache), "XDG_CACHE_HOME": str(self.cache)}

    @classmethod
    def is_installed(cls) -> bool:
        return shutil.which(cls.program) is not None

    @classmethod
    def version(cls) -> str:
        return first_line(cls.program, "--version")

    def init(self) -> Commands:
        raise NotImplementedError

    def backup(self, label: str) -> Commands:
        raise NotImplementedError

    def restore(self) -> Commands:
        """Restores the newest snapshot; called in the folder `target`."""
        raise NotImplementedError

    def restore_partly(self, path: str) -> Commands:
        """As `restore`, but only what is at this path within the source."""
        raise NotImplementedError

    def check(self) -> Commands:
        """Checks the structure."""
        raise NotImplementedError

    def check_all(self) -> Commands:
        """Checks every byte."""
        raise NotImplementedError

    def forget(self) -> Commands:
        """Forgets all snapshots but the newest, and brings their space back."""
        raise NotImplementedError

    def restored(self) -> Path:
        """Where a restore puts the source."""
        return self.target / self.source.relative_to("/")


def first_line(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


class Icecore(Tool):
    name = "icecore"
    settings = "passphrase, zstd level 3"

    def call(self, *arguments: str) -> List[str]:
        common = ["-r", self.repository, "--password-file", self.passphrase, "--cache-dir", self.cache, "--quiet"]
        return [self.program, *arguments, *map(str, common)]

    def init(self) -> Commands:
        return [self.call("init")]

    def backup(self, label: str) -> Commands:
        return [self.call("backup", "--compression", "3", "--tag", label, str(self.source))]

    def restore(self) -> Commands:
        return [self.call("restore", "latest", "--target", ".")]

    def restore_partly(self, path: str) -> Commands:
        return [self.call("restore", "latest", "--target", ".", "--path", f"{self.source.name}/{path}")]

    def check(self) -> Commands:
        return [self.call("check")]

    def check_all(self) -> Commands:
        return [self.call("scrub")]

    def forget(self) -> Commands:
        return [self.call("forget", "--keep-last", "1"), self.call("gc")]

    def restored(self) -> Path:
        return self.target / self.source.name


class Restic(Tool):
    name = "restic"
    settings = "repository version 2, --compression auto"
    program = "restic"

    def call(self, *arguments: str) -> List[str]:
        common = ["-r", self.repository, "--password-file", self.passphrase, "--cache-dir", self.cache, "--quiet"]
        return [self.program, *arguments, *map(str, common), "--compression", "auto"]

    @classmethod
    def version(cls) -> str:
        return first_line(cls.program, "version")

    def init(self) -> Commands:
        return [self.call("init", "--repository-version", "2")]

    def backup(self, label: str) -> Commands:
        return [self.call("backup", "--tag", label, str(self.source))]

    def restore(self) -> Commands:
        return [self.call("restore", "latest", "--target", ".")]

    def restore_partly(self, path: str) -> Commands:
        return [self.call("restore", "latest", "--target", ".", "--include", str(self.source / path))]

    def check(self) -> Commands:
        return [self.call("check")]

    def check_all(self) -> Commands:
        return [self.call("check", "--read-data")]

    def forget(self) -> Commands:
        # All snapshots have the same host and path. Its default leaves 5 % of the repository unused; so do the others' defaults.
        return [self.call("forget", "--keep-last", "1", "--group-by", "host,paths", "--prune")]


class Rustic(Restic):
    name = "rustic"
    settings = "zstd level 3 (its default is 0, which is zstd's 3)"
    program = "rustic"

    def call(self, *arguments: str) -> List[str]:
        common = ["-r", self.repository, "--password-file", self.passphrase, "--cache-dir", self.cache, "--log-level", "error"]
        return [self.program, *map(str, common), "--no-progress", *arguments]

    @classmethod
    def version(cls) -> str:
        return first_line(cls.program, "--version")

    def init(self) -> Commands:
        return [self.call("init", "--set-compression", "3")]

    def restore(self) -> Commands:
        return [self.call("restore", "latest", ".")]

    def restore_partly(self, path: str) -> Commands:
        return [self.call("restore", f"latest:{self.source / path}", ".")]

    def forget(self) -> Commands:
        return [self.call("forget", "--keep-last", "1", "--prune", "--instant-delete")]


class Borg(Tool):
    name = "borg"
    settings = "repokey-blake2, --compression zstd,3"
    program = "borg"

    def environment(self) -> dict:
        own = {"BORG_BASE_DIR": str(self.cache), "BORG_PASSCOMMAND": f"cat '{self.passphrase}'", "BORG_REPO": str(self.repository)}
        return super().environment() | own

    def init(self) -> Commands:
        return [[self.program, "init", "--encryption", "repokey-blake2"]]

    def backup(self, label: str) -> Commands:
        self.newest = label
        return [[self.program, "create", "--compression", "zstd,3", f"::{label}", str(self.source)]]

    def restore(self) -> Commands:
        return [[self.program, "extract", f"::{self.newest}"]]

    def restore_partly(self, path: str) -> Commands:
        return [[self.program, "extract", f"::{self.newest}", str(self.source / path).lstrip("/")]]

    def check(self) -> Commands:
        return [[self.program, "check"]]

    def check_all(self) -> Commands:
        return [[self.program, "check", "--verify-data"]]

    def forget(self) -> Commands:
        return [[self.program, "prune", "--keep-last", "1"], [self.program, "compact"]]


class Bupstash(Tool):
    name = "bupstash"
    settings = "key file, zstd level 3; it has no check, and restores into the top of the target"
    program = "bupstash"

    def environment(self) -> dict:
        own = {"BUPSTASH_REPOSITORY": str(self.repository), "BUPSTASH_KEY": str(self.cache / "key")}
        return super().environment() | own

    def init(self) -> Commands:
        return [[self.program, "new-key", "-o", str(self.cache / "key")], [self.program, "init"]]

    def backup(self, label: str) -> Commands:
        self.newest = label
        options = ["--quiet", "--compression", "zstd:3", "--send-log", str(self.cache / "sendlog")]
        return [[self.program, "put", *options, f"name={label}", str(self.source)]]

    def restore(self) -> Commands:
        return [[self.program, "restore", "--quiet", "--into", ".", f"name={self.newest}"]]

    def restore_partly(self, path: str) -> Commands:
        # A file cannot be picked in a restore, a folder can.
        picked = path if (self.source / path).is_dir() else "."
        return [[self.program, "restore", "--quiet", "--into", ".", "--pick", picked, f"name={self.newest}"]]

    def check(self) -> Commands:
        return []

    def check_all(self) -> Commands:
        return []

    def forget(self) -> Commands:
        return [[self.program, "rm", "--allow-many", "--quiet", f"name!={self.newest}"], [self.program, "gc", "--quiet"]]

    def restored(self) -> Path:
        return self.target


TOOLS = [Icecore, Restic, Rustic, Borg, Bupstash]
