"""System calls of icecore that fail, and devices that die under it: what it may say then, and what must be left.

inject.c counts calls over all threads. Whatever failed, the exit code 0 is a promise: see `broken_promise`. A sync that fails of what was synced well
since it last changed breaks none.
"""

import argparse
import errno
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional

from world import Lost, World, name_of, summary_of

READING = "open,openat,openat2,read,readv,pread64,preadv,getdents64,fstat,stat,lstat,newfstatat,statx"
CONTENT = "write,pwrite64,writev,pwritev"
SYNCING = "fsync,fdatasync,syncfs,sync_file_range"
NAMING = "link,linkat,rename,renameat,renameat2"
# What changes something. Between two of these the disk is the same, so to die in any other call is to die in the next one of these.
CHANGING = f"{CONTENT},{SYNCING},{NAMING},unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,ftruncate,fallocate,creat,openat2"

# The calls that fail, with what. Those with a star must be reached by every operation that writes.
FAULTS = {
    "open,openat,openat2 *": ("EIO", "EACCES", "EMFILE"),
    "read,readv *": ("EIO",),
    "pread64,preadv *": ("EIO",),
    "getdents64 *": ("EIO",),
    "fstat *": ("EIO",),
    "newfstatat,stat,lstat *": ("EIO",),
    "statx *": ("EIO",),
    "lseek": ("EIO",),
    "write,writev *": ("EIO", "ENOSPC"),
    "pwrite64,pwritev": ("EIO", "ENOSPC"),
    "fsync *": ("EIO",),
    "fdatasync": ("EIO",),
    "syncfs": ("EIO",),
    "link,linkat *": ("EIO", "ENOSPC"),
    "rename,renameat": ("EIO", "ENOSPC"),
    # Objects get their names by it where there are no hard links.
    "renameat2": ("EIO", "ENOSPC"),
    "unlink,unlinkat,rmdir *": ("EIO",),
    "mkdir,mkdirat": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO",),
    "fallocate": ("EIO", "ENOSPC"),
    "flock": ("EIO", "ENOLCK"),
    "fchmod,fchmodat,fchown,fchownat,utimensat": ("EIO",),
    "clone3": ("EAGAIN",),
    CHANGING: ("kill",),
}
# Nothing in icecore makes these where everything works: the files that it writes are written from beginning to end.
UNUSED = ("fdatasync", "ftruncate")
# So many faults are one fault.
FOUND_MAX = 200


@dataclass
class Failure:
    """A call that failed because it was told to."""
    call: str
    descriptor: int
    paths: List[str]
    # Of a sync that was watched: what it is of has not changed since it was synced well.
    is_repeated: bool

    def is_below(self, folder: Path) -> bool:
        return any(f"{path}/".startswith(f"{folder}/") for path in self.paths)

    def is_one_of(self, calls: str) -> bool:
        return self.call in calls.split(",")

    def shown(self, world: World) -> str:
        """Without what differs from run to run."""
        text = " ".join(path for path in self.paths if path).replace(f"{world.folder}/", "")
        text = re.sub(r"icecore-\d+-.*", "icecore-*", re.sub(r"\.(tmp|new-)\w+", r".\1*", re.sub(r"[0-9a-f]{16,}", "ID", text)))
        return f"{self.call} {re.sub(r'/[0-9a-f]{2}(?=/|$)', '/xx', re.sub(r'[0-9]+', 'N', text))}"


class Injector:
    """inject.c, compiled."""

    def __init__(self, folder: Path) -> None:
        self.program, self.log = folder / "inject", folder / "injected"
        subprocess.run(["cc", "-O2", "-o", self.program, Path(__file__).with_name("inject.c")], check=True)

    def prefix(self, *rules: str) -> tuple:
        return (self.program, self.log, *rules, "--")

    def lines(self) -> List[List[str]]:
        return [line.split("\t") for line in self.log.read_text(errors="replace").splitlines()]

    def changes(self, world: World, arguments: list) -> int:
        """How many calls of an operation change the repository."""
        self.run(world, arguments, f"{CHANGING}::{world.repository}:kill:{1 << 40}")
        return int(self.lines()[-1][1])

    def run(self, world: World, arguments: list, *rules: str, key: object = True) -> tuple:
        """How it ended, and what failed in it or killed it."""
        done = world.run(*arguments, key=key, prefix=self.prefix(*rules))
        lines = self.lines()
        failures = [Failure(line[1], int(line[2]), line[3:], is_synced(lines[:at], line[3])) for at, line in enumerate(lines) if line[0] in ("fail", "kill")]
        if done.returncode in (125, -6, -11):
            raise Lost(f"{name_of(arguments)} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done, failures


def is_synced(lines: List[List[str]], path: str) -> bool:
    """Whether these watched calls synced a file or folder, and nothing of it changed since before that."""
    begun, synced_at, changed_at = {}, -1, -1
    for at, line in enumerate(lines):
        if line[0] == "begin":
            begun[line[1]] = (at, *line[2:])
        elif line[0] == "end":
            began, call, *paths = begun.pop(line[1])
            if call not in SYNCING.split(","):
                changed_at = at if is_change_of(path, paths) else changed_at
            elif int(line[2]) == 0 and (call == "syncfs" or paths[0] == path):
                synced_at = max(synced_at, began)
    return changed_at < synced_at and not any(is_change_of(path, paths) for _, call, *paths in begun.values() if call not in SYNCING.split(","))


def is_change_of(path: str, changed: List[str]) -> bool:
    return path in changed or any(name.rpartition("/")[0] == path for name in changed)


def number(fault: str) -> str:
    return fault if fault == "kill" else str(getattr(errno, fault))


def reserve_of(world: World) -> Optional[tuple]:
    """Which file keeps room for small objects."""
    reserve = world.repository / "tmp" / "reserve"
    return (reserve.stat().st_ino, reserve.stat().st_ctime_ns) if reserve.exists() else None


def broken_promise(world: World, name: str, done: subprocess.CompletedProcess, failures: List[Failure], has_coped: bool) -> Optional[str]:
    """Why it may not end with 0 after these calls failed."""
    for failure in failures:
        # Nobody reads the reserve, and what is left in tmp is swept.
        if failure.paths[0] == f"{world.repository}/tmp/reserve":
            continue
        if has_coped:
            continue
        # A notice that could not be written is written with what follows.
        if failure.descriptor == 1 and failure.is_one_of(CONTENT) and summary_of(done.stdout) is None:
            return "what it had to say was not said"
        if not failure.is_below(world.repository):
            continue
        if failure.is_repeated and failure.is_one_of(SYNCING):
            continue
        # A restore promises its target. It notes its session where it can, and can do without.
        if name != "restore" and failure.is_one_of(f"{CONTENT},{SYNCING},{NAMING}"):
            return f"{failure.shown(world)} failed, and what it acknowledged may not last"
    return None


def must_be_missed(injector: Injector, world: World, arguments: list, failures: List[Failure]) -> None:
    """What scrub could not read once it may have read right the second time. Where it never can, it says so."""
    for failure in failures:
        path = Path(failure.paths[0])
        # The folder itself is only asked whether it is still there, and what is in tmp is no object.
        if not failure.is_one_of(READING) or not failure.is_below(world.repository) or path == world.repository or path.parts[-2:][0] == "tmp" or path.name == "tmp":
            continue
        done, failed = injector.run(world, arguments, f"{READING}::{path}:{errno.EIO}:1+")
        if failed and done.returncode == 0:
            raise Lost(f"{failure.shown(world)} fails, and it says that everything is right")


class Report:
    """What was found, and how often something failed where."""

    def __init__(self) -> None:
        self.reached, self.passed, self.found = Counter(), Counter(), []

    def lost(self, what: str) -> None:
        self.found.append(what)
        print(f"FOUND: {what}", file=sys.stderr, flush=True)
        if len(self.found) >= FOUND_MAX:
            self.end()

    def end(self) -> None:
        print("ended with 0 all the same:")
        for what, count in sorted(self.passed.items()):
            print(f"{count:5}  {what}")
        if self.found:
            raise Lost(f"{len(self.found)} faults; the first: {self.found[0]}")


def state(world: World) -> dict:
    """Of the repository and of what is kept beside it."""
    found = {"reserve": reserve_of(world)}
    for folder in (world.repository, world.folder / "home"):
        for path in folder.rglob("*"):
            status = path.lstat()
            found[path] = (status.st_size, status.st_mtime_ns) if path.is_file() else None
    return found


def after_fault(injector: Injector, world: World, arguments: list, done: subprocess.CompletedProcess, failures: List[Failure], before: dict, count: int = 1) -> None:
    """Nothing is lost, whatever failed; the next operations work. Where the disk is as it was `before`, that goes without saying."""
    is_same = before == state(world)
    # A small object that found no room took that of the reserve, and was written again. Garbage collection that found none for copies frees what it can, and says so.
    has_coped = before["reserve"] not in (None, reserve_of(world)) or b"nothing was copied this time" in done.stdout
    if b"panicked" in done.stderr:
        raise Lost("it panicked")
    says_why = done.stderr.strip() or b'"message":' in done.stdout or any(failure.descriptor in (1, 2) for failure in failures)
    if done.returncode > 0 and not says_why:
        raise Lost("it did not say why")
    if done.returncode == 0 and (why := broken_promise(world, name_of(arguments), done, failures, has_coped)):
        raise Lost(why)
    if done.returncode == 0 and name_of(arguments) == "scrub":
        must_be_missed(injector, world, arguments, failures)
    known = set(world.acknowledged)
    if is_same and name_of(arguments) not in ("restore", "backup"):
        return
    world.after(arguments, done.returncode, done.stdout)
    if done.returncode == 3:
        # It says that items are missing.
        for partial in set(world.acknowledged) - known:
            world.acknowledged.pop(partial)
            world.must("forget", partial)
    if is_same:
        return
    world.verify(count)
    again = world.operation("backup")
    world.after(again, 0, world.must(*again))
    world.collect()
    world.verify(count + 1)


def calls(options: argparse.Namespace, folder: Path, history: Callable[..., World]) -> None:
    """Each call of each operation fails once, in each way."""
    injector, report = Injector(folder), Report()
    images = {parity: history(options, folder, parity) for parity in (False, True)}
    for name in options.operations:
        image = images[options.parity or name == "repair --apply"]
        for kind, faults in FAULTS.items():
            group = kind.removesuffix(" *")
            for fault in faults:
                if not options.fault or re.search(options.fault, f"{group} {fault}"):
                    count = init_fails(injector, report, folder, options, group, fault) if name == "init" else fails(injector, report, folder, options, image, name, group, fault)
                    what = "killed in changing calls" if fault == "kill" else f"{fault} {group}"
                    report.reached[f"{name}: {what}"] = count
                    must = kind.endswith(" *") and options.calls_max and name not in ("init", "restore", "scrub")
                    if must and not count:
                        report.lost(f"{name} never came to {group}")
    unreached = {kind for kind in FAULTS if not any(what.endswith(kind.removesuffix(" *")) and count for what, count in report.reached.items()) and kind != CHANGING}
    for what, count in report.reached.items():
        print(f"{count:5}  {what}" if count else f"!!! NEVER REACHED: {what}")
    for kind in unreached if not options.fault else ():
        print(f"!!! NO OPERATION REACHED: {kind}")
        if kind not in UNUSED and set(options.operations) >= {"backup", "restore"}:
            report.lost(f"no operation came to {kind}")
    print(f"{sum(report.reached.values())} faults")
    report.end()


def numbers(options: argparse.Namespace, chance: random.Random):
    """Which calls fail: every one, or those with growing gaps between them."""
    nth, step = 1, 1
    while nth <= options.calls_max:
        yield nth
        nth, step = nth + (chance.randint(1, step) if options.sparse else 1), step + 1


def rules_of(world: World, group: str, fault: str, nth: int) -> List[str]:
    # Without hard links, where it is about what stands in for them.
    others = [f"link,linkat:::{errno.EPERM}:1+"] if group == "renameat2" else []
    if group in SYNCING.split(","):
        others.append(f"{CHANGING}::{world.repository}:watch:1+")
    return [f"{group}:::{number(fault)}:{nth}", *others]


def fails(injector: Injector, report: Report, folder: Path, options: argparse.Namespace, image: World, name: str, group: str, fault: str) -> int:
    """How often an operation came to such a call."""
    reached = 0
    for nth in numbers(options, random.Random(options.seed)):
        world = image.copy(folder / "world")
        if group == "fallocate":
            (world.repository / "tmp" / "reserve").unlink(missing_ok=True)
        arguments = world.operation(name)
        before = state(world)
        done, failures = injector.run(world, arguments, *rules_of(world, group, fault, nth))
        failures = [failure for failure in failures if failure.is_one_of(group)]
        if not failures:
            break
        reached += 1
        try:
            after_fault(injector, world, arguments, done, failures, before)
        except Lost as lost:
            report.lost(f"{name}: {fault} in call {nth} of {group}, {failures[-1].shown(world)} (it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}): {lost}")
            continue
        if done.returncode == 0:
            report.passed[f"{name}: {fault} {failures[-1].shown(world)}"] += 1
    return reached


def init_fails(injector: Injector, report: Report, folder: Path, options: argparse.Namespace, group: str, fault: str) -> int:
    """The same of the making of a repository: it is there, or making it again works."""
    reached = 0
    for nth in numbers(options, random.Random(options.seed)):
        shutil.rmtree(folder / "world", ignore_errors=True)
        (folder / "world" / "home").mkdir(parents=True)
        (folder / "world" / "source").mkdir()
        world = World(options.icecore, folder / "world", options.seed)
        done, failures = injector.run(world, world.init(), *rules_of(world, group, fault, nth), key=False)
        failures = [failure for failure in failures if failure.is_one_of(group)]
        if not failures:
            break
        reached += 1
        try:
            if done.returncode == 0 and (why := broken_promise(world, "init", done, failures, False)):
                raise Lost(why)
            if b"panicked" in done.stderr or done.returncode == 1 and not done.stderr.strip() and failures[-1].descriptor != 2:
                raise Lost("it panicked, or did not say why")
            if done.returncode != 0 and not (world.key.exists() and world.run("snapshots").returncode == 0):
                # The key file of what was not made is nobody's, and is not replaced.
                world.key.unlink(missing_ok=True)
                world.must(*world.init(), key=False)
            world.change()
            arguments = world.operation("backup")
            world.after(arguments, 0, world.must(*arguments))
            world.verify(1)
        except Lost as lost:
            report.lost(f"init: {fault} in call {nth} of {group}, {failures[-1].shown(world)} (it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}): {lost}")
            continue
        if done.returncode == 0:
            report.passed[f"init: {fault} {failures[-1].shown(world)}"] += 1
    return reached


def device(options: argparse.Namespace, folder: Path, history: Callable[..., World]) -> None:
    """The device dies at some call, and stays dead until the process ends: whatever would change it fails, every other time reading too."""
    injector, report, chance = Injector(folder), Report(), random.Random(options.seed)
    images = {parity: history(options, folder, parity) for parity in (False, True)}
    ends = Counter()
    for name in options.operations:
        image, nth = images[options.parity or name == "repair --apply"], 1
        while True:
            world = image.copy(folder / "world")
            arguments = world.operation(name)
            before = state(world)
            # The repository's own device, or the only one of the machine.
            reads, below = READING if chance.random() < 0.5 else "", chance.choice((world.repository, world.folder))
            done, failures = injector.run(world, arguments, f"{CHANGING}:{reads}:{below}:{errno.EIO}:{nth}+")
            if not failures:
                break
            where = f"{name}: the device of {below.name} died at call {nth}, {failures[0].shown(world)}{', for reading too' if reads else ''}"
            report.reached[name] += 1
            ends[f"{name}: it ended with {done.returncode}"] += 1
            try:
                after_fault(injector, world, arguments, done, failures, before, len(world.acknowledged))
                if done.returncode == 0:
                    report.passed[f"{name}: {'; '.join(sorted({failure.shown(world) for failure in failures}))}"] += 1
            except Lost as lost:
                report.lost(f"{where} (it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}): {lost}")
            nth += chance.randint(1, 1 + nth // options.steps) if options.steps else 1
    for what, count in sorted(ends.items()):
        print(f"{count:5}  {what}")
    print(f"{sum(report.reached.values())} deaths of the device: {dict(report.reached)}")
    report.end()
