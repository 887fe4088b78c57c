"""The corpora: real data from public packages, or made from a seed. Each is a folder with two or more states of the same source.

A corpus prepares its states as folders `0`, `1`, ... and gives a label for each. What is prepared is used again by later runs. Alone,
`python3 corpora.py WORK CORPUS...` only prepares them.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple

import edit_tree

MIB = 1 << 20


class Corpus(NamedTuple):
    """What it is, how its states are made, and a path within it for a partial restore."""

    about: str
    prepare: Callable[[Path], List[str]]
    partial: str


def run(*command, **options) -> str:
    """Runs a command that has to succeed; what it printed."""
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def as_root(*command, **options) -> str:
    return run(*([] if os.geteuid() == 0 else ["sudo"]), *command, **options)


def install(*packages: str) -> None:
    """Installs Debian packages that are missing."""
    known = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], capture_output=True, text=True)
    missing = [name for name in packages if f"{name} installed" not in known.stdout.splitlines()]
    if missing:
        as_root("apt-get", "update", "--quiet", stderr=subprocess.DEVNULL)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        as_root("apt-get", "install", "--yes", "--no-install-recommends", *missing, env=environment)


def copy(old: Path, new: Path) -> None:
    run("cp", "--archive", "--sparse=auto", old, new)


# Source tree: two revisions of Debian's package of the Linux kernel.

KERNEL = "linux-source-6.1"


def kernel_versions() -> List[str]:
    lines = run("apt-cache", "madison", KERNEL).splitlines()
    return [line.split("|")[1].strip() for line in lines]


def unpack_kernel(version: str, folder: Path) -> None:
    temporary = folder.with_name("unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    run("apt-get", "download", f"{KERNEL}={version}", cwd=temporary)
    package = next(temporary.glob("*.deb"))
    run("dpkg-deb", "--extract", package, temporary / "package")
    run("tar", "--extract", "--xz", "--directory", temporary, "--file", temporary / "package/usr/src" / f"{KERNEL}.tar.xz")
    (temporary / KERNEL).rename(folder)
    shutil.rmtree(temporary)


def src(folder: Path) -> List[str]:
    """The newest version that the archive has, and the newest one before it of another upstream release; or else an edited copy."""
    versions = kernel_versions()
    if not versions:
        as_root("apt-get", "update", "--quiet")
        versions = kernel_versions()
    if not versions:
        sys.exit(f"the archive has no {KERNEL}")
    new = versions[0]
    older = [version for version in versions if version.rsplit("-", 1)[0] != new.rsplit("-", 1)[0]]
    if older:
        unpack_kernel(older[0], folder / "0")
        unpack_kernel(new, folder / "1")
        return [f"{KERNEL} {older[0]}", f"{KERNEL} {new}"]
    unpack_kernel(new, folder / "0")
    copy(folder / "0", folder / "1")
    edit_tree.edit_all(folder / "1")
    return [f"{KERNEL} {new}", "the same, edited"]


# Database: a PostgreSQL data folder before and after work.


def postgres(folder: Path, *command) -> None:
    program = Path("/usr/lib/postgresql/15/bin") / command[0]
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    run(*user, program, *command[1:], cwd=folder, stderr=subprocess.DEVNULL)


def db(folder: Path, scale: int = 100, transactions: int = 15_000) -> List[str]:
    install("postgresql-15")
    data, sockets = folder / "data", folder / "sockets"
    sockets.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(sockets, "postgres")
    postgres(folder, "initdb", "--auth=trust", "--username=bench", "--pgdata", data)
    server = ["pg_ctl", "--pgdata", data, "--wait", "--options", f"-k {sockets} -c listen_addresses=", "--log", folder / "log"]
    bench = ["pgbench", "--host", sockets, "--username", "bench", "--quiet"]
    postgres(folder, *server, "start")
    postgres(folder, *bench, "--initialize", "--scale", str(scale), "postgres")
    postgres(folder, *server, "stop")
    copy(data, folder / "0")
    postgres(folder, *server, "start")
    postgres(folder, *bench[:-1], "--client", "4", "--transactions", str(transactions), "postgres")
    postgres(folder, *server, "stop")
    data.rename(folder / "1")
    return [f"PostgreSQL 15, pgbench scale {scale}", f"after {4 * transactions:,} transactions"]


# Image: a Debian root file system as one file, before and after packages were installed in it.


def debian_image(folder: Path, disk: Path) -> None:
    """Makes a file with the smallest root file system of Debian 12; `folder` is for the while."""
    root = folder / "root"
    as_root("debootstrap", "--variant=minbase", "bookworm", root)
    as_root("mke2fs", "-q", "-t", "ext4", "-d", root, disk, "2g")
    as_root("rm", "-rf", root)


@contextmanager
def mounted(disk: Path, folder: Path) -> Iterator[Path]:
    """An image mounted below `folder`, such that programs in it find names of the network."""
    root = folder / "mounted"
    root.mkdir()
    as_root("mount", "-o", "loop", disk, root)
    try:
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        yield root
    finally:
        as_root("umount", root)
        root.rmdir()


def image(folder: Path) -> List[str]:
    install("debootstrap", "e2fsprogs")
    for state in "01":
        (folder / state).mkdir()
    first, second = folder / "0/disk.img", folder / "1/disk.img"
    debian_image(folder, first)
    copy(first, second)
    packages = ["python3", "git", "perl", "openssh-client", "sqlite3"]
    with mounted(second, folder) as root:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        as_root("chroot", root, "apt-get", "update", "--quiet", env=environment)
        as_root("chroot", root, "apt-get", "install", "--yes", "--no-install-recommends", *packages, env=environment)
    return ["Debian 12 root file system, ext4, 2 GiB", f"after installing {', '.join(packages)} in it"]


# The rest is made from a seed.


def tiny(folder: Path, count: int = 500_000) -> List[str]:
    def write(path: Path, chance: random.Random) -> None:
        path.write_bytes(chance.randbytes(chance.randrange(4096)))

    for state in "01":
        for number in range(count):
            changed = state == "1" and number % 100 == 37
            path = folder / state / f"{number // 10_000:03}" / f"{number // 100 % 100:02}" / f"{number}"
            if number % 100 == 0:
                path.parent.mkdir(parents=True)
            write(path, random.Random(number + count if changed else number))
    return [f"{count:,} files of 0 to 4,095 random bytes", "one in a hundred written anew"]


WORDS = [hashlib.sha256(str(number).encode()).hexdigest()[: 2 + number % 9].translate(str.maketrans("0123456789", "aeioulnrst")) for number in range(5000)]


def text(chance: random.Random, length: int) -> str:
    """Lines of words, of which few are frequent."""
    words, size = [], 0
    while size < length:
        words.append(WORDS[int(len(WORDS) * chance.random() ** 3)])
        size += len(words[-1]) + 1
    lines = (" ".join(words[at : at + 12]) for at in range(0, len(words), 12))
    return "\n".join(lines) + "\n"


def message(number: int) -> str:
    chance = random.Random(number)
    head = f"From: {text(chance, 8).strip()}@example.org\nTo: me@example.org\nMessage-Id: <{number}@example.org>\nSubject: {text(chance, 40)}\n"
    body = text(chance, int(200 + 8000 * chance.random() ** 4))
    if chance.random() < 0.05:
        body += "\n" + "\n".join(chance.randbytes(57).hex() for _ in range(chance.randrange(4000)))
    return head + body


def maildir(folder: Path, count: int = 60_000) -> List[str]:
    """Mail in `new` is read, some is deleted, more comes; files move, since a maildir keeps flags in names."""
    for state in "01":
        for number in range(count):
            box = folder / state / f".list-{number % 40}"
            if number % (count // 40) < 40:
                (box / "new").mkdir(parents=True, exist_ok=True)
                (box / "cur").mkdir(exist_ok=True)
            is_new, kind = number > count * 9 // 10, number % 50
            if state == "0" and number < count * 49 // 50 or state == "1" and kind != 7:
                place = "new" if is_new and (state == "0" or kind < 20) else "cur"
                flags = "" if place == "new" else ":2,S" if state == "0" or kind != 8 else ":2,RS"
                (box / place / f"{1_700_000_000 + number}.{number}.host{flags}").write_text(message(number))
    return [f"a maildir of {count * 49 // 50:,} messages", "mail came, was read, answered and deleted"]


def write_pieces(path: Path, pieces) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)


def incompressible(folder: Path, length: int = 1024 * MIB) -> List[str]:
    """80 % random, 20 % copies of earlier pieces at odd offsets; then insertions that shift the rest."""
    for state in "01":
        (folder / state).mkdir()
    chance, earlier, pieces = random.Random(1), [], []
    path = folder / "0/data"
    size = 0
    with path.open("wb") as file:
        while size < length:
            if earlier and chance.random() < 0.2:
                piece = earlier[chance.randrange(len(earlier))][chance.randrange(1000) :]
            else:
                piece = chance.randbytes(chance.randrange(MIB, 8 * MIB))
                earlier = (earlier + [piece])[-20:]
            file.write(piece)
            size += len(piece)

    def shifted():
        with path.open("rb") as file:
            for number in range(size // (64 * MIB) + 1):
                yield random.Random(number).randbytes(1 + number * 37)
                yield file.read(64 * MIB)

    write_pieces(folder / "1/data", shifted())
    return ["random bytes, a fifth of them repeated at odd offsets", "some bytes inserted every 64 MiB"]


def large(folder: Path, length: int = 8192 * MIB) -> List[str]:
    """One file: a third text, a third random, a third zeros and tables; then pages of it are overwritten."""
    for state in "01":
        (folder / state).mkdir()
    path = folder / "0/large"

    def piece(number: int) -> bytes:
        chance = random.Random(number)
        if number % 3 == 0:
            paragraph = text(chance, MIB // 8).encode()
            return (paragraph + paragraph.upper())[: MIB // 8] * 2 + chance.randbytes(MIB // 4) + paragraph[: MIB // 8] * 4
        if number % 3 == 1:
            return chance.randbytes(MIB)
        return bytes(MIB // 2) + b"".join(value.to_bytes(8, "little") for value in range(number << 20, (number << 20) + MIB // 16))

    write_pieces(path, (piece(number) for number in range(length // MIB)))
    copy(path, folder / "1/large")
    chance = random.Random(2)
    with (folder / "1/large").open("r+b") as file:
        for _ in range(length // MIB // 4):
            file.seek(chance.randrange(length // 4096) * 4096)
            file.write(chance.randbytes(4096))
    return [f"one file of {length // MIB:,} MiB, mixed", f"{length // MIB // 4:,} pages of it overwritten"]


def usr(folder: Path) -> List[str]:
    copy(Path("/usr"), folder / "0")
    copy(folder / "0", folder / "1")
    edit_tree.edit_all(folder / "1/share")
    edit_tree.edit_all(folder / "1/lib/python3")
    return ["/usr of this machine", "share and lib/python3 edited"]


RELEASES = {
    "django": ["4.2.1", "4.2.3", "4.2.5", "4.2.7", "4.2.9", "4.2.11", "4.2.13", "4.2.15"],
    "sqlalchemy": ["2.0.20", "2.0.21", "2.0.22", "2.0.23", "2.0.25", "2.0.27", "2.0.29", "2.0.31"],
    "numpy": ["1.25.0", "1.25.1", "1.25.2", "1.26.0", "1.26.1", "1.26.2", "1.26.3", "1.26.4"],
    "scipy": ["1.10.0", "1.10.1", "1.11.1", "1.11.2", "1.11.3", "1.11.4", "1.12.0", "1.13.0"],
}


def versions(folder: Path) -> List[str]:
    """Eight successive releases of four Python packages, one of each in a state."""
    labels = []
    for state in range(8):
        target = folder / str(state)
        target.mkdir()
        for name, releases in RELEASES.items():
            wheel = folder / "wheel"
            run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":none:", "-d", wheel, f"{name}=={releases[state]}")
            archive = next(wheel.iterdir())
            shutil.unpack_archive(archive, target / name, "zip" if archive.suffix == ".whl" else None)
            shutil.rmtree(wheel)
        labels.append(", ".join(f"{name} {releases[state]}" for name, releases in RELEASES.items()))
    return labels


# In the order of their importance.
CORPORA: Dict[str, Corpus] = {
    "src": Corpus("source tree", src, "drivers/net"),
    "db": Corpus("PostgreSQL data folder", db, "base"),
    "image": Corpus("disk image", image, "disk.img"),
    "versions": Corpus("successive releases", versions, "django"),
    "incompressible": Corpus("incompressible", incompressible, "data"),
    "tiny": Corpus("tiny files", tiny, "007"),
    "large": Corpus("one large file", large, "large"),
    "maildir": Corpus("mail", maildir, ".list-7"),
    "usr": Corpus("/usr", usr, "share/doc"),
}


def prepare(name: str, work: Path) -> List[str]:
    """The labels of a corpus' states, which are made unless they are there."""
    folder = work / "corpora" / name
    complete = folder / "complete"
    if not complete.exists():
        print(f"preparing {name}", file=sys.stderr, flush=True)
        as_root("rm", "-rf", folder)
        folder.mkdir(parents=True)
        labels = CORPORA[name].prepare(folder)
        complete.write_text("".join(f"{label}\n" for label in labels))
    return complete.read_text().splitlines()


if __name__ == "__main__":
    for chosen in sys.argv[2:]:
        print(chosen, *prepare(chosen, Path(sys.argv[1]).resolve()), sep="\n  ")
