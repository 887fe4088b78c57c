"""The programs that are compared: how each is called, and its settings.

Every program encrypts, with the same passphrase from the same file, and keeps its caches in a folder of its own.
"""

import os
import subprocess
from pathlib import Path


class Tool:
    """One program with its repository and caches, both below `folder`."""

    name = ""
    settings = ""

    def __init__(self, folder: Path, source: Path, passphrase: Path):
        self.source = source
        self.repository = folder / "repository"
        self.cache = folder / "cache"
        self.target = folder / "restored"
        self.passphrase = passphrase
        self.cache.mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.cache), "XDG_CACHE_HOME": str(self.cache)}

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError

    def init(self) -> list[str]:
        raise NotImplementedError

    def backup(self, label: str) -> list[str]:
        raise NotImplementedError

    def restore(self) -> list[str]:
        """Restores the newest snapshot; called in the folder `target`."""
        raise NotImplementedError

    def check(self) -> list[str]:
        raise NotImplementedError

    def restored(self) -> Path:
        """Where a restore puts the source."""
        return self.target / self.source.relative_to("/")


def first_line(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


class Icecore(Tool):
    name = "icecore"
    settings = "passphrase, zstd level 3; check: structure of everything, bytes of data frames not read"
    program = ""

    def call(self, *arguments: str) -> list[str]:
        common = ["-r", self.repository, "--password-file", self.passphrase, "--cache-dir", self.cache, "--quiet"]
        return [self.program, *arguments, *map(str, common)]

    @classmethod
    def version(cls) -> str:
        return first_line(cls.program, "--version")

    def init(self) -> list[str]:
        return self.call("init")

    def backup(self, label: str) -> list[str]:
        return self.call("backup", "--compression", "3", "--tag", label, str(self.source))

    def restore(self) -> list[str]:
        return self.call("restore", "latest", "--target", ".")

    def check(self) -> list[str]:
        return self.call("check")

    def restored(self) -> Path:
        return self.target / self.source.name


class Restic(Tool):
    name = "restic"
    settings = "repository version 2, --compression auto; check: structure, packs not read"

    def call(self, *arguments: str) -> list[str]:
        common = ["-r", self.repository, "--password-file", self.passphrase, "--cache-dir", self.cache, "--quiet"]
        return ["restic", *arguments, *map(str, common), "--compression", "auto"]

    @classmethod
    def version(cls) -> str:
        return first_line("restic", "version")

    def init(self) -> list[str]:
        return self.call("init", "--repository-version", "2")

    def backup(self, label: str) -> list[str]:
        return self.call("backup", "--tag", label, str(self.source))

    def restore(self) -> list[str]:
        return self.call("restore", "latest", "--target", ".")

    def check(self) -> list[str]:
        return self.call("check")


class Borg(Tool):
    name = "borg"
    settings = "repokey-blake2, --compression zstd,3; check: checksums of all segments, which are read whole, and archives"

    def environment(self) -> dict[str, str]:
        own = {"BORG_BASE_DIR": str(self.cache), "BORG_PASSCOMMAND": f"cat '{self.passphrase}'", "BORG_REPO": str(self.repository)}
        return super().environment() | own

    @classmethod
    def version(cls) -> str:
        return first_line("borg", "--version")

    def init(self) -> list[str]:
        return ["borg", "init", "--encryption", "repokey-blake2"]

    def backup(self, label: str) -> list[str]:
        self.newest = label
        return ["borg", "create", "--compression", "zstd,3", f"::{label}", str(self.source)]

    def restore(self) -> list[str]:
        return ["borg", "extract", f"::{self.newest}"]

    def check(self) -> list[str]:
        return ["borg", "check"]


TOOLS = [Icecore, Restic, Borg]
