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
operations. `power` cuts the power after each call that changes the repository: what was not synced is lost, in part or as a whole; before that it
shows of each operation that the same script finds losses where fsync does nothing (needs strace). `device` lets every write, sync and rename fail from some call on,
and every other time reading too, as a device does that has died, and brings it back. `drop` leaves out some of what was written and synced, as a device does that
lies: what comes back is right, or scrub says what is wrong (needs strace). `full` backs up into a file system of a few MiB until that is full, frees some and goes on
(needs root). After each but `drop`: every acknowledged snapshot is listed and comes back byte for byte, keys open what they are to, check is clean, the next
operation needs no unlocking, and garbage collection waits for nobody. Ends with 1, and the seed, where that is not so. Seeded; timing is not.
`kill`, `calls` and `device` need a C compiler and x86-64. TMPDIR=/dev/shm makes all but `kill` faster.
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

import faults
from syscalls import CALLS, Disk, calls_of
from world import Lost, World, copy_tree, digest, name_of, names

# Garbage collection repacks and makes frames anew; repair writes sidecars, where there is parity.
OPERATIONS = {"backup": 6, "forget": 3, "gc": 6, "key add": 2, "key remove": 2, "key rotate": 2, "repair --apply": 2}
WRITING = list(OPERATIONS)
# What only reads the repository, and what makes it.
OTHERS = ["restore", "scrub", "init"]
# With fewer runs chance may pass something over.
RUNS_ENOUGH = 200
# Whatever is longer and being written is a pack.
PACK_BYTES_MIN = 4096


def do(world: World, name: str) -> None:
    arguments = world.operation(name)
    world.after(arguments, 0, world.must(*arguments))


def with_history(options: argparse.Namespace, folder: Path, parity: bool = False) -> World:
    """A repository in which there is something to do for every operation. A copy: the original's place is where copies of it are to work."""
    world = World(options.icecore, folder / "world", options.seed, parity=parity)
    for name in ["backup"] * 6 + ["key add", "forget"]:
        do(world, name)
    image = world.copy(folder / f"image with{'' if parity else 'out'} parity")
    shutil.rmtree(world.folder)
    return image


def measured(injector: faults.Injector, world: World, folder: Path) -> dict:
    """How long each operation takes when nobody disturbs it, and how many calls of it change the repository."""
    found, place = {}, world.folder
    # In its own place, since the caches know that, and so the original steps aside.
    place.rename(folder / "aside")
    try:
        image = World(world.icecore, folder / "aside", 0)
        image.acknowledged, image.keys = world.acknowledged, world.keys
        for name in OPERATIONS:
            trial = image.copy(place)
            began, arguments = time.monotonic(), trial.operation(name)
            trial.must(*arguments)
            duration, trial = time.monotonic() - began, image.copy(place)
            found[name] = (duration, injector.changes(trial, trial.operation(name)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        (folder / "aside").rename(place)
    return found


def is_copying(world: World, before: set, after: set) -> bool:
    """Whether garbage collection was stopped while it wrote copies, which no relocation named yet."""
    fresh = after - before
    packs = any(name.startswith(("packs/", "meta/", "refs/")) for name in fresh)
    being_written = any(name.startswith("tmp/icecore-") and (world.repository / name).stat().st_size >= PACK_BYTES_MIN for name in fresh)
    return (packs or being_written) and not any(name.startswith("relocations/") for name in fresh)


def kill(options: argparse.Namespace, folder: Path) -> None:
    worlds = []
    for number, parity in enumerate((False, True)):
        (folder / f"{number}").mkdir()
        image = with_history(options, folder / f"{number}", parity)
        worlds.append(image.copy(folder / f"{number}" / "world"))
    chance, injector, typical = random.Random(options.seed), faults.Injector(folder), []
    killed, changed, finished, copying, runs = Counter(), Counter(), Counter(), 0, 0
    while sum(killed.values()) < options.runs:
        if runs % 100 == 0:
            # Anew: a world grows, and an operation that only ever was killed would never be found to have become longer.
            typical = [measured(injector, world, folder) for world in worlds]
        if runs > 3 * options.runs + 50:
            raise Lost("what is to be killed ends by itself")
        runs += 1
        name = chance.choices(WRITING, OPERATIONS.values())[0]
        # Nothing is there to be mended where there is no parity.
        which = 1 if name == "repair --apply" else chance.randint(0, 1)
        world = worlds[which]
        arguments = world.operation(name)
        name = name_of(arguments)
        before = names(world.repository)
        duration, changes = typical[which][name]
        if chance.random() < 0.3:
            # Most of the time nothing is being written: chance alone seldom finds these moments.
            rule = f"{faults.CHANGING}::{world.repository}:kill:{chance.randint(1, changes)}"
            process, patience = world.start(*arguments, prefix=injector.prefix(rule)), 60
        else:
            process, patience = world.start(*arguments), chance.uniform(0, 1.1 * duration)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        after = names(world.repository)
        if process.returncode == -signal.SIGKILL:
            killed[name] += 1
            changed[name] += before != after
            copying += name == "gc" and is_copying(world, before, after)
        elif process.returncode == 0:
            finished[name] += 1
        else:
            raise Lost(f"{name} ended with {process.returncode}: {err.decode(errors='replace')}")
        try:
            world.after(arguments, process.returncode, out)
            world.verify(2 if runs % 10 else len(world.acknowledged))
        except Lost as lost:
            raise Lost(f"run {runs}, {name} ended with {process.returncode}: {lost}") from lost
        while len(world.acknowledged) > 12:
            do(world, "forget")
    for world in worlds:
        world.verify_all()
    for name in OPERATIONS:
        print(f"{name}: killed {killed[name]}, after it had changed something {changed[name]}; finished {finished[name]}; undisturbed {max(times[name][0] for times in typical):.2f} s")
    print(f"killed {sum(killed.values())}, after something had changed {sum(changed.values())}, while gc wrote copies {copying}; finished {sum(finished.values())}")
    if options.runs >= RUNS_ENOUGH and not (all(changed[name] for name in OPERATIONS) and copying):
        raise Lost("an operation was never killed after it had changed something, or gc never while it wrote copies: this script finds too little")


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
            # The source is changed after each run, so that what a full disk kept from being written is there the next time.
            name = chance.choice(("backup", "backup", "backup", "forget", "gc", "key rotate", "key add", "key remove"))
            arguments = ["backup", "--series", "crashes", "--json", world.source] if name == "backup" else world.operation(name)
            name = name_of(arguments)
            done = world.run(*arguments)
            if done.returncode not in (0, 1):
                raise Lost(f"run {run}: {name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
            if done.returncode == 1 and not done.stderr.strip() and b"exit_error" not in done.stdout:
                raise Lost(f"run {run}: {name} failed and did not say why")
            outcomes[f"{name} {'done' if done.returncode == 0 else 'full'}"] += 1
            ballast.unlink()
            try:
                world.after(arguments, done.returncode, done.stdout)
                world.verify(len(world.acknowledged))
                if len(world.acknowledged) > 6 or shutil.disk_usage(disk).free < 6_000_000:
                    while len(world.acknowledged) > 3:
                        do(world, "forget")
                    world.collect()
            except Lost as lost:
                raise Lost(f"run {run}: {name} ended with {done.returncode}: {lost}") from lost
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
    images = {parity: with_history(options, folder, parity) for parity in (False, True)}
    chance, outcomes = random.Random(options.seed), Counter()
    for name in options.operations:
        for run in range(options.rounds):
            world = images[options.parity or name == "repair --apply"].copy(folder / "world")
            arguments = world.operation(name)
            disk = Disk(world.repository)
            done, calls = traced(world, arguments, folder / "log")
            world.after(arguments, 0, done.stdout)
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
    images = {parity: with_history(options, folder, parity) for parity in (False, True)}
    chance, lost = random.Random(options.seed), []
    for name in options.operations:
        image = images[options.parity or name == "repair --apply"]
        missed = losses(options, folder, image, name, chance, skip_fsync=True)
        print(f"{name}: without fsync {len(missed[1])} of {missed[0]} power cuts lost something", flush=True)
        if not missed[1]:
            raise Lost(f"{name}: without fsync nothing was lost: this script finds nothing")
        cuts, found = losses(options, folder, image, name, chance, skip_fsync=False)
        print(f"{name}: {cuts} power cuts", flush=True)
        lost += found
    if lost:
        raise Lost(f"{len(lost)} power cuts lost something, as {lost[0]}")


def losses(options: argparse.Namespace, folder: Path, image: World, name: str, chance: random.Random, skip_fsync: bool) -> tuple:
    """How often the power was cut, and what was lost by it. Without fsync only at the end, when something was acknowledged."""
    world = image.copy(folder / "world")
    arguments = world.operation(name)
    # The repository's device and that of what is kept beside it.
    disks = {world.repository: Disk(world.repository, skip_fsync), world.folder / "home": Disk(world.folder / "home", skip_fsync)}
    done, calls = traced(world, arguments, folder / "log")
    uncertain = set(world.uncertain)
    after, cuts, lost = world.copy(folder / "after"), 0, []
    for at, call in enumerate(calls):
        is_last = at + 1 == len(calls)
        has_changed = any([disk.apply(at, call) for disk in disks.values()])
        if is_last:
            # Otherwise the model would be of something else.
            for root, disk in disks.items():
                disk.must_be(after.folder / root.relative_to(world.folder))
        if not is_last and (not has_changed or skip_fsync or chance.random() >= options.share):
            continue
        for outcome in range(max(options.rounds, 20) if is_last else options.rounds):
            cut = image.copy(folder / "world")
            cut.uncertain.update(uncertain)
            cut.missing = world.missing
            copy_tree(after.source, cut.source)
            for key in after.folder.glob("key *"):
                shutil.copy(key, cut.folder)
            how = disks[cut.repository].after_power_cut(cut.repository, chance)
            # It is on another device that lost something else, or nothing, or everything.
            home = cut.folder / "home"
            beside = chance.choice(("as it was before", "all that was written", "what was left"))
            if beside == "all that was written":
                disks[home].after_power_cut(home, chance, "all")
            elif beside == "what was left":
                disks[home].after_power_cut(home, chance)
            cuts += 1
            try:
                cut.after(arguments, 0 if is_last else -9, done.stdout if is_last else b"")
                cut.verify(1)
                if is_last or outcome == 0:
                    do(cut, "backup")
                    cut.collect()
                    cut.verify(2)
            except Lost as error:
                lost.append(f"{name}, after call {at} ({call.name}), of what was not synced {how}, beside it {beside}: {error}")
                if not skip_fsync:
                    print(lost[-1], file=sys.stderr, flush=True)
    return cuts, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icecore", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=WRITING + OTHERS, help="of these operations (`calls`, `power`, `device`, `drop`)")
    parser.add_argument("--parity", action="store_true", help="in a repository with parity, not only for repair")
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("kill").add_argument("--runs", type=int, default=1000, help="until so many were killed")
    calls_mode = modes.add_parser("calls")
    calls_mode.add_argument("--calls-max", type=int, default=1_000_000, help="look no further than this call of each kind")
    calls_mode.add_argument("--sparse", action="store_true", help="leave out more and more calls")
    calls_mode.add_argument("--fault", help="only faults that this regular expression finds in `CALLS ERROR`")
    power_mode = modes.add_parser("power")
    power_mode.add_argument("--rounds", type=int, default=2, help="outcomes for each cut; 20 at the end")
    power_mode.add_argument("--share", type=float, default=1.0, help="cut after this share of the calls")
    modes.add_parser("device").add_argument("--steps", type=int, default=0, help="pass calls over, the more the smaller this is; 0: none")
    modes.add_parser("drop").add_argument("--rounds", type=int, default=30, help="for each operation")
    full_mode = modes.add_parser("full")
    full_mode.add_argument("--runs", type=int, default=200)
    full_mode.add_argument("--mib", type=int, default=24)
    options = parser.parse_args()
    options.operations = options.only or WRITING + (OTHERS if options.mode == "calls" else [])
    with tempfile.TemporaryDirectory(prefix="icecore-crashes-") as name:
        folder = Path(name).resolve()
        try:
            if options.mode in ("calls", "device"):
                {"calls": faults.calls, "device": faults.device}[options.mode](options, folder, with_history)
            else:
                {"kill": kill, "power": power, "drop": drop, "full": full}[options.mode](options, folder)
        except Lost as lost:
            sys.exit(f"FOUND (seed {options.seed}): {lost}")


if __name__ == "__main__":
    main()
