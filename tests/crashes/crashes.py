#!/usr/bin/env python3
"""Stops icecore in every way that a machine can, and asks each time whether anything was lost.

    cargo build --release --locked -p icecore-cli
    python3 tests/crashes/crashes.py --icecore target/release/icecore kill --runs 1000
    python3 tests/crashes/crashes.py --icecore target/release/icecore calls
    python3 tests/crashes/crashes.py --icecore target/release/icecore power
    python3 tests/crashes/crashes.py --icecore target/release/icecore device
    python3 tests/crashes/crashes.py --icecore target/release/icecore drop
    python3 tests/crashes/crashes.py --icecore target/release/icecore full

`kill` kills operations at random moments with SIGKILL. `calls` lets system calls fail, or the process die in them, one after the other through whole
operations (needs strace). `power` cuts the power after each call that changes the repository: what was not synced is lost, in part or as a whole; before that it
shows that the same script finds losses where fsync does nothing. `device` lets every write, sync and rename fail from some call on, as a device does that has died
(needs strace), and brings it back. `drop` leaves out some of what was written and synced, as a device does that lies: what comes back is right, or scrub says what is
wrong. `full` backs up into a file system of a few MiB until that is full, frees some and goes on (needs root). After each but `drop`: every acknowledged snapshot is listed and comes back byte for byte,
check is clean, and the next operation needs no unlocking. Ends with 1, and the seed, where that is not so. Seeded; timing is not.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from syscalls import CALLS, Disk, calls_of
from world import Lost, World, digest

# Garbage collection repacks and makes frames anew; repair writes index objects, and sidecars where there is parity.
OPERATIONS = {"backup": 6, "forget": 3, "gc": 5, "key add": 1, "key remove": 1, "key rotate": 1, "repair --apply": 1}
WRITING = ("backup", "forget", "gc", "key rotate", "key add", "key remove", "repair --apply")


def with_history(icecore: Path, folder: Path, seed: int) -> World:
    """A repository in which garbage collection has something to do."""
    world = World(icecore, folder, seed)
    for _ in range(6):
        world.must(*world.operation("backup"))
        world.compare(True)
    for name in ("key add", "forget"):
        arguments = world.operation(name)
        world.must(*arguments)
        world.ended(arguments, 0)
    world.compare(False)
    return world


def kill(options: argparse.Namespace, folder: Path) -> None:
    world = with_history(options.icecore, folder / "world", options.seed)
    chance = random.Random(options.seed)
    typical = dict.fromkeys(OPERATIONS, 0.1)
    killed, finished = Counter(), Counter()
    for run in range(options.runs):
        name = chance.choices(list(OPERATIONS), OPERATIONS.values())[0]
        arguments = world.operation(name)
        process, began = world.start(*arguments), time.monotonic()
        try:
            process.wait(chance.uniform(0, 1.1 * typical[name]))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed[name] += 1
        elif process.returncode == 0:
            finished[name] += 1
            typical[name] = 0.8 * typical[name] + 0.2 * (time.monotonic() - began)
        else:
            raise Lost(f"{name} ended with {process.returncode}: {err.decode(errors='replace')}")
        world.ended(arguments, process.returncode)
        world.compare(arguments[0] == "backup", out)
        if run % 10 == 9:
            world.verify(2)
        while len(world.acknowledged) > 12:
            arguments = world.operation("forget")
            world.must(*arguments)
            world.ended(arguments, 0)
    world.verify_all()
    print(f"killed {sum(killed.values())} of {options.runs}: {dict(killed)}; finished: {dict(finished)}")
    if options.runs >= 200 and min(killed[name] for name in OPERATIONS) == 0:
        raise Lost("an operation was never killed")


FAULTS = {
    "openat": ("error=EIO", "error=EACCES", "error=EMFILE", "signal=KILL"),
    "write": ("error=EIO", "error=ENOSPC", "signal=KILL"),
    "fsync": ("error=EIO", "signal=KILL"),
    "linkat": ("error=EIO", "error=ENOSPC", "signal=KILL"),
    "unlinkat": ("error=EIO", "signal=KILL"),
    "mkdirat": ("error=ENOSPC", "signal=KILL"),
    "pread64": ("error=EIO", "signal=KILL"),
    "read": ("error=EIO", "signal=KILL"),
    "getdents64": ("error=EIO", "signal=KILL"),
    "statx": ("error=EIO", "signal=KILL"),
    "flock": ("error=EIO", "signal=KILL"),
    "clone3": ("error=EAGAIN",),
}


def calls(options: argparse.Namespace, folder: Path) -> None:
    before = with_history(options.icecore, folder / "before", options.seed)
    chance = random.Random(options.seed)
    reached = Counter()
    for name in WRITING:
        for call, faults in FAULTS.items():
            for fault in faults:
                nth, step = 1, 1
                while nth <= options.calls_max:
                    log, world = folder / "log", before.copy(folder / "world")
                    arguments = world.operation(name)
                    prefix = ("strace", "-f", "-qq", "-o", log, "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}")
                    done = world.run(*arguments, prefix=prefix)
                    injected = b"\n".join(line for line in log.read_bytes().splitlines() if b"INJECTED" in line)
                    if not injected and done.returncode >= 0:
                        break
                    reached[f"{name} {call} {fault}"] += 1
                    where = f"{name}: {call} {fault} when={nth}"
                    after_fault(world, arguments, done, injected, where)
                    nth, step = nth + chance.randint(1, step), step + 1
    for what, count in sorted(reached.items()):
        print(f"{count:5}  {what}")
    print(f"{sum(reached.values())} faults")


def after_fault(world: World, arguments: list, done: subprocess.CompletedProcess, injected: bytes, where: str) -> None:
    if b"panicked" in done.stderr:
        raise Lost(f"{where}: {done.stderr.decode(errors='replace')}")
    says_why = done.stderr.strip() or b"exit_error" in done.stdout or b"write(2" in injected
    if done.returncode > 0 and done.returncode != 3 and not says_why:
        raise Lost(f"{where}: it failed with {done.returncode} and did not say why")
    try:
        world.ended(arguments, done.returncode)
        known = set(world.acknowledged)
        world.compare(arguments[0] == "backup", done.stdout)
        if done.returncode == 3:
            # It says that items are missing.
            for partial in set(world.acknowledged) - known:
                world.acknowledged.pop(partial)
                world.must("forget", partial)
        world.verify(1)
        again = world.operation("backup")
        world.must(*again)
        world.compare(True)
        world.must("gc", "--max-dead", 0)
        world.verify(2)
    except Lost as lost:
        raise Lost(f"{where} (it ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}): {lost}") from lost


# What changes something on the device.
DEVICE_CALLS = "write,pwrite64,fsync,fdatasync,syncfs,sync_file_range,linkat,renameat2,unlinkat,mkdirat,ftruncate"


def device(options: argparse.Namespace, folder: Path) -> None:
    """The device dies at some call, and stays dead until the process ends."""
    before = with_history(options.icecore, folder / "before", options.seed)
    chance = random.Random(options.seed)
    deaths = Counter()
    for name in WRITING:
        nth = 1
        while True:
            log, world = folder / "log", before.copy(folder / "world")
            arguments = world.operation(name)
            inject = f"inject={DEVICE_CALLS}:error=EIO:when={nth}+"
            done = world.run(*arguments, prefix=("strace", "-f", "-qq", "-o", log, "-e", f"trace={DEVICE_CALLS}", "-e", inject))
            injected = b"\n".join(line for line in log.read_bytes().splitlines() if b"INJECTED" in line)
            if not injected:
                break
            if done.returncode == 0 and b"write(1" not in injected and b"write(2" not in injected:
                raise Lost(f"{name}: the device died at call {nth}, and it ended with 0")
            deaths[name] += 1
            after_fault(world, arguments, done, injected, f"{name}: the device died at call {nth}")
            nth += chance.randint(1, 1 + nth // options.steps)
    print(f"{sum(deaths.values())} deaths of the device: {dict(deaths)}")


def full(options: argparse.Namespace, folder: Path) -> None:
    """The repository's file system fills up, again and again."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={options.mib}m", "icecore-crashes", disk], check=True)
    try:
        world = World(options.icecore, folder / "world", options.seed, disk / "repository")
        ballast, chance, outcomes = disk / "ballast", random.Random(options.seed), Counter()
        for run in range(options.runs):
            # So much is left as an operation may need, or less.
            free = shutil.disk_usage(disk).free
            ballast.write_bytes(bytes(max(0, free - chance.randrange(4_096, 2_500_000))))
            name = chance.choice(("backup", "backup", "backup", "forget", "gc", "key rotate"))
            arguments = ["backup", "--series", "crashes", "--json", world.source] if name == "backup" else world.operation(name)
            done = world.run(*arguments)
            if done.returncode not in (0, 1):
                raise Lost(f"run {run}: {name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
            if done.returncode == 1 and not done.stderr.strip() and b"exit_error" not in done.stdout:
                raise Lost(f"run {run}: {name} failed and did not say why")
            outcomes[f"{name} {'done' if done.returncode == 0 else 'full'}"] += 1
            ballast.unlink()
            world.ended(arguments, done.returncode)
            world.compare(arguments[0] == "backup", done.stdout)
            world.verify(1)
            if len(world.acknowledged) > 6 or shutil.disk_usage(disk).free < 6_000_000:
                while len(world.acknowledged) > 3:
                    arguments = world.operation("forget")
                    world.must(*arguments)
                    world.ended(arguments, 0)
                world.must("gc", "--max-dead", 0)
            world.change()
        world.verify_all()
        print(f"{options.runs} runs: {dict(sorted(outcomes.items()))}")
        if not all(any(what.endswith(end) for what in outcomes) for end in ("done", "full")):
            raise Lost("it was never full, or always")
    finally:
        subprocess.run(["umount", disk], check=True)


def traced(world: World, arguments: list, log: Path) -> tuple:
    """Runs an operation, which has to succeed, and gives what it printed and its calls."""
    prefix = ("strace", "-f", "-y", "-xx", "-s", "100000000", "-o", log, "-e", f"trace={CALLS}")
    done = world.run(*arguments, prefix=prefix)
    if done.returncode != 0:
        raise Lost(f"{arguments[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done, calls_of(log.read_text(errors="replace"))


def drop(options: argparse.Namespace, folder: Path) -> None:
    """The device says that all is durable, and drops some of it: nothing brings that back, but nothing of it may pass for good either."""
    before = with_history(options.icecore, folder / "before", options.seed)
    chance, outcomes = random.Random(options.seed), Counter()
    for name in WRITING:
        for run in range(options.rounds):
            world = before.copy(folder / "world")
            arguments, disk = world.operation(name), Disk(world.repository)
            done, calls = traced(world, arguments, folder / "log")
            world.ended(arguments, 0)
            world.compare(arguments[0] == "backup", done.stdout)
            for at, call in enumerate(calls):
                disk.apply(at, call)
            dropped = disk.after_drops(world.repository, chance)
            try:
                outcomes[f"{name}: {after_drops(world) if dropped else 'nothing dropped'}"] += 1
            except Lost as lost:
                raise Lost(f"{name}, run {run}, {dropped} drops: {lost}") from lost
    for what, count in sorted(outcomes.items()):
        print(f"{count:5}  {what}")
    if not any(what.endswith("was said") for what in outcomes):
        raise Lost("nothing that was dropped was ever missed: this script finds nothing")


def after_drops(world: World) -> str:
    """Every snapshot that was acknowledged comes back whole, or scrub says what is wrong."""
    scrub = world.run("scrub")
    if scrub.returncode not in (0, 14) or scrub.returncode == 14 and not scrub.stderr.strip() + scrub.stdout.strip():
        raise Lost(f"scrub ended with {scrub.returncode}: {scrub.stderr.decode(errors='replace')}")
    suffering = ""
    for snapshot, content in world.acknowledged.items():
        target = world.folder / "restored"
        shutil.rmtree(target, ignore_errors=True)
        done = world.run("restore", snapshot, "--target", target)
        if b"panicked" in done.stderr:
            raise Lost(f"restore: {done.stderr.decode(errors='replace')}")
        if done.returncode == 0 and digest(target / "source") != content:
            raise Lost(f"snapshot {snapshot} came back with other content, and restore ended with 0")
        if done.returncode != 0:
            suffering = f"{done.returncode}: {done.stderr.decode(errors='replace').strip()}"
    if suffering and scrub.returncode == 0:
        raise Lost(f"a snapshot does not come back, and scrub found nothing: {suffering}")
    return "was said" if scrub.returncode else "did no harm"


def power(options: argparse.Namespace, folder: Path) -> None:
    before = with_history(options.icecore, folder / "before", options.seed)
    chance = random.Random(options.seed)
    if losses(options, folder, before, "backup", chance, skip_fsync=True, rounds=1)[1] == 0:
        raise Lost("without fsync nothing was lost: this script finds nothing")
    cuts = 0
    for name in WRITING:
        done, lost = losses(options, folder, before, name, chance, skip_fsync=False, rounds=options.rounds)
        cuts += done
        print(f"{name}: {done} power cuts")
        if lost:
            raise Lost(f"{lost} power cuts during {name} lost something")
    print(f"{cuts} power cuts")


def losses(options: argparse.Namespace, folder: Path, before: World, name: str, chance: random.Random, skip_fsync: bool, rounds: int) -> tuple:
    """How often the power was cut, and how often something was lost by it."""
    world = before.copy(folder / "world")
    arguments = world.operation(name)
    disk = Disk(world.repository, skip_fsync)
    done, calls = traced(world, arguments, folder / "log")
    source = {path: path.read_bytes() for path in world.source.rglob("*") if path.is_file()}
    cuts = lost = 0
    for at, call in enumerate(calls):
        is_last = at + 1 == len(calls)
        if not disk.apply(at, call) and not is_last or not is_last and chance.random() >= options.share:
            continue
        for _ in range(rounds):
            cut = before.copy(folder / "cut")
            shutil.rmtree(cut.source)
            for path, content in source.items():
                copy = cut.source / path.relative_to(world.source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)
            if arguments[0] == "forget":
                cut.uncertain.update(arguments[1:])
            disk.after_power_cut(cut.repository, chance)
            cuts += 1
            try:
                if is_last:
                    cut.ended(arguments, 0)
                cut.compare(arguments[0] == "backup", done.stdout if is_last else b"")
                cut.verify(1)
            except Lost as error:
                lost += 1
                if not skip_fsync:
                    print(f"{name}, after call {at} ({call.name}): {error}", file=sys.stderr)
    return cuts, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icecore", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--seed", type=int, default=1)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("kill").add_argument("--runs", type=int, default=1000)
    modes.add_parser("calls").add_argument("--calls-max", type=int, default=1_000_000, help="look no further than this call of each kind")
    power_mode = modes.add_parser("power")
    power_mode.add_argument("--rounds", type=int, default=2, help="outcomes for each cut")
    power_mode.add_argument("--share", type=float, default=1.0, help="cut after this share of the calls")
    modes.add_parser("device").add_argument("--steps", type=int, default=8, help="the more, the fewer calls are passed over")
    modes.add_parser("drop").add_argument("--rounds", type=int, default=30, help="for each operation")
    full_mode = modes.add_parser("full")
    full_mode.add_argument("--runs", type=int, default=200)
    full_mode.add_argument("--mib", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="icecore-crashes-") as folder:
        try:
            {"kill": kill, "calls": calls, "power": power, "device": device, "drop": drop, "full": full}[options.mode](options, Path(folder).resolve())
        except Lost as lost:
            sys.exit(f"FOUND (seed {options.seed}): {lost}")


if __name__ == "__main__":
    main()
