"""The programs that are compared: how each is called, and its settings.

Every program but casync encrypts, and keeps its caches in a folder of its own. All use the same passphrase from the same file, but for
bupstash, which knows key files only, and `icecore-keyfile`, which is icecore with a key file. A step is a list of commands, whose times
are added; a program that cannot do a step has no commands for it.
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
        """As `restore`, but only what is at this path, of a folder or file, within the source."""
        return []

    def check(self) -> Commands:
        """Checks the structure."""
        return []

    def check_all(self) -> Commands:
        """Checks every byte."""
        return []

    def forget(self) -> Commands:
        """Forgets all snapshots but the newest, and brings their space back."""
        raise NotImplementedError

    def restored(self) -> Path:
        """Where a restore puts the source."""
        return self.target / self.source.relative_to("/")

    def restored_part(self, path: str) -> Path:
        """Where a partial restore puts what is at this path within the source."""
        return self.restored() / path


def first_line(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


class Icecore(Tool):
    name = "icecore"
    settings = "passphrase, zstd level 3"

    def key(self) -> List[str]:
        return ["--password-file", str(self.passphrase)]

    def call(self, *arguments: str) -> List[str]:
        return [self.program, *arguments, *self.key(), "-r", str(self.repository), "--cache-dir", str(self.cache), "--quiet"]

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


class IcecoreKeyFile(Icecore):
    name = "icecore-keyfile"
    settings = "as icecore, but with a key file"

    def key(self) -> List[str]:
        path = self.cache / "key"
        return ["--key-file" if path.exists() else "--new-key-file", str(path)]


class IcecoreWhole(Icecore):
    name = "icecore-whole"
    settings = "as icecore, with --no-delta"

    def backup(self, label: str) -> Commands:
        return [[*command, "--no-delta"] for command in super().backup(label)]


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

    def restored_part(self, path: str) -> Path:
        return self.target if (self.source / path).is_dir() else self.target / Path(path).name

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

    def restored_part(self, path: str) -> Path:
        return self.target if (self.source / path).is_dir() else self.target / path

    def forget(self) -> Commands:
        return [[self.program, "rm", "--allow-many", "--quiet", f"~name={self.newest}"], [self.program, "gc", "--quiet"]]

    def restored(self) -> Path:
        return self.target


class Borg2(Borg):
    name = "borg2"
    settings = "a beta; repokey-blake2-aes-ocb, --compression zstd,3"
    program = "borg2"

    def init(self) -> Commands:
        return [[self.program, "rcreate", "--encryption", "repokey-blake2-aes-ocb"]]

    def backup(self, label: str) -> Commands:
        self.newest = label
        return [[self.program, "create", "--compression", "zstd,3", label, str(self.source)]]

    def restore(self) -> Commands:
        return [[self.program, "extract", self.newest]]

    def restore_partly(self, path: str) -> Commands:
        return [[self.program, "extract", self.newest, str(self.source / path).lstrip("/")]]

    def forget(self) -> Commands:
        return [[self.program, "prune", "--keep-last", "1"], [self.program, "compact"]]


class Vykar(Tool):
    name = "vykar"
    settings = "zstd level 3, cipher chosen by itself; restores into the top of the target"
    program = "vykar"

    def __init__(self, folder: Path, source: Path, passphrase: Path):
        super().__init__(folder, source, passphrase)
        self.config = self.cache / "vykar.yaml"
        self.config.write_text(
            f"""cache_dir: '{self.cache}'
repositories:
  - url: '{self.repository}'
encryption:
  passcommand: "cat '{passphrase}'"
compression:
  algorithm: zstd
  zstd_level: 3
retention:
  keep_last: 1
sources:
  - label: source
    path: '{source}'
"""
        )

    def call(self, *arguments: str) -> List[str]:
        return [self.program, "--config", str(self.config), *arguments]

    def init(self) -> Commands:
        return [self.call("init")]

    def backup(self, label: str) -> Commands:
        return [self.call("backup")]

    def restore(self) -> Commands:
        return [self.call("restore", "latest", ".")]

    def restore_partly(self, path: str) -> Commands:
        pattern = f"{path}/**" if (self.source / path).is_dir() else path
        return [self.call("restore", "latest", ".", "--pattern", pattern)]

    def check(self) -> Commands:
        return [self.call("check")]

    def check_all(self) -> Commands:
        return [self.call("check", "--verify-data")]

    def forget(self) -> Commands:
        return [self.call("prune", "--compact")]

    def restored(self) -> Path:
        return self.target


class PgBackRest(Tool):
    """Only for a data folder of a PostgreSQL server that does not run: it knows nothing else."""

    name = "pgbackrest"
    settings = "AES-256-CBC, zstd level 3, bundles, block incremental, two processes; of a server that is stopped"
    program = "pgbackrest"

    def __init__(self, folder: Path, source: Path, passphrase: Path):
        super().__init__(folder, source, passphrase)
        self.config = self.cache / "pgbackrest.conf"
        self.config.write_text(
            f"""[global]
repo1-path={self.repository}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={passphrase.read_text().strip()}
repo1-bundle=y
repo1-block=y
repo1-retention-full=99
compress-type=zst
compress-level=3
process-max=2
log-path={self.cache}
lock-path={self.cache}
log-level-console=warn
[bench]
pg1-path={source}
"""
        )

    def call(self, *arguments: str) -> List[str]:
        return [self.program, f"--config={self.config}", "--stanza=bench", *arguments]

    @classmethod
    def version(cls) -> str:
        return first_line(cls.program, "version")

    def init(self) -> Commands:
        return []

    def backup(self, label: str) -> Commands:
        # A stanza cannot be made before there is a server's folder.
        if not self.repository.exists():
            return [self.call("stanza-create", "--no-online"), self.call("backup", "--no-online", "--type=full")]
        return [self.call("backup", "--no-online", "--type=incr")]

    def restore(self) -> Commands:
        return [self.call("restore", "--type=none", f"--pg1-path={self.restored()}")]

    def restored(self) -> Path:
        return self.target


class Casync(Tool):
    name = "casync"
    settings = "does not encrypt; zstd level 3, encoder cache; it has no check and no partial restore, and restores into the top of the target"
    program = "casync"

    def call(self, *arguments: str) -> List[str]:
        return [self.program, *arguments, "--store", str(self.repository / "default.castr")]

    def index(self, label: str) -> str:
        return str(self.repository / f"{label}.caidx")

    def init(self) -> Commands:
        return [["mkdir", str(self.repository)]]

    def backup(self, label: str) -> Commands:
        self.newest = self.index(label)
        return [self.call("make", "--compression=zstd", "--cache", str(self.cache / "encoder"), self.newest, str(self.source))]

    def restore(self) -> Commands:
        return [self.call("extract", self.newest, ".")]

    def forget(self) -> Commands:
        old = [str(path) for path in self.repository.glob("*.caidx") if str(path) != self.newest]
        return [["rm", *old], self.call("gc", self.newest)]

    def restored(self) -> Path:
        return self.target


TOOLS = [Icecore, IcecoreKeyFile, IcecoreWhole, Restic, Rustic, Borg, Bupstash, Vykar, Borg2, Casync]
