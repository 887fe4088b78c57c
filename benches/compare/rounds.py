"""Runs the programs of tools.py in turn over two revisions of a source tree, and reports medians. Called by kernel.sh.

In each round every program starts with an empty repository and empty caches. Each step is done by all programs before the next step
begins, each time another one goes first. The page cache is warm: the source is read once before each step that backs it up, and
what was written is on disk (`sync`) before the next command starts. A restore ends when the file system of its target is synced,
for every program: icecore does that by itself.
"""

import argparse
import datetime
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tools
from report import corpus, file_bytes, files_below, machine, medians, restored_as, table

STEPS = ["init", "first backup", "unchanged backup", "changed backup", "restore", "check"]
BACKUPS = {"first backup": "first", "unchanged backup": "unchanged", "changed backup": "changed"}


def run(tool: tools.Tool, command: list[str], folder: Path, log, is_synced: bool = False) -> dict:
    """Runs a command in a folder to its end: wall and CPU seconds, and the most memory that it had resident, in bytes."""
    os.sync()
    log.write(f"+ {' '.join(command)}\n")
    log.flush()
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=tool.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{tool.name} failed with {process.returncode}: {' '.join(command)}\nIts output is in {log.name}")
    if is_synced:
        subprocess.run(["sync", "--file-system", folder], check=True)
    # Linux counts resident memory in KiB.
    return {
        "wall_s": time.monotonic() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_bytes": usage.ru_maxrss * 1024,
    }


def step(tool: tools.Tool, name: str, log) -> dict:
    if name == "restore":
        tool.target.mkdir()
        return run(tool, tool.restore(), tool.target, log, is_synced=True) | {"comparison": compare(tool)}
    commands = {"init": tool.init, "check": tool.check}
    command = tool.backup(BACKUPS[name]) if name in BACKUPS else commands[name]()
    return run(tool, command, tool.source.parent, log) | {"stored_bytes": file_bytes(tool.repository)}


def read_all(folder: Path) -> None:
    for path in files_below(folder):
        if not path.is_symlink():
            path.read_bytes()


def metadata(folder: Path) -> set[bytes]:
    """For each thing below: path, type, mode, owner, group, time, length (not of folders), what a link points to."""
    formats = [r"%P %y %m %U %G %T@ %s %l\0", r"%P %y %m %U %G %T@\0"]
    lines = subprocess.run(
        ["find", folder, "-not", "-type", "d", "-printf", formats[0], "-o", "-printf", formats[1]], check=True, capture_output=True
    )
    return set(lines.stdout.split(b"\0"))


def compare(tool: tools.Tool) -> dict:
    """Whether a restore brought everything back: bytes by `diff`, the rest by `find`."""
    difference = subprocess.run(
        ["diff", "--recursive", "--no-dereference", "--brief", tool.source, tool.restored()], capture_output=True, text=True
    )
    differing = metadata(tool.source) ^ metadata(tool.restored())
    return {
        "contents_equal": difference.returncode == 0,
        "metadata_differing": len({line.split(b" ")[0] for line in differing}),
        "examples": difference.stdout.splitlines()[:3] + sorted(line.decode(errors="replace") for line in differing)[:4],
    }


def round_of(number: int, work: Path, source: Path, revisions: Path, log) -> dict:
    """One round; figures by step and program."""
    folder = work / "round"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    passphrase = folder / "passphrase"
    passphrase.write_text(secrets.token_urlsafe(24) + "\n")
    passphrase.chmod(0o600)
    programs = [tool(folder / tool.name, source, passphrase) for tool in tools.TOOLS]
    results = {name: {} for name in STEPS}
    for position, name in enumerate(STEPS):
        if name == "changed backup":
            source.rename(revisions / "a")
            (revisions / "b").rename(source)
        if name in BACKUPS:
            read_all(source)
        first = (number + position) % len(programs)
        for tool in programs[first:] + programs[:first]:
            print(f"round {number + 1}: {name}, {tool.name}", file=sys.stderr, flush=True)
            results[name][tool.name] = step(tool, name, log)
            shutil.rmtree(tool.target, ignore_errors=True)
    source.rename(revisions / "b")
    shutil.rmtree(folder)
    return results


def all_rounds(count: int, work: Path) -> list[dict]:
    revisions, source = work / "revisions", work / "source"
    if source.exists():
        # An earlier run was interrupted.
        source.rename(revisions / ("b" if (revisions / "a").exists() else "a"))
    log_path = work / "results" / "output.log"
    results = []
    with log_path.open("w") as log:
        for number in range(count):
            (revisions / "a").rename(source)
            results.append(round_of(number, work, source, revisions, log))
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--icecore", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tools.Icecore.program = arguments.icecore
    results = arguments.work / "results"
    results.mkdir(exist_ok=True)

    date = datetime.datetime.now(datetime.timezone.utc)
    host = machine(arguments.work)
    if host["busy_before"] > 0.1:
        print(f"others use {host['busy_before']:.0%} of the machine: these figures are for trying the script only", file=sys.stderr)
    rounds = all_rounds(arguments.rounds, arguments.work)
    versions = {tool.name: tool.version() for tool in tools.TOOLS}
    report = {
        "date": date.isoformat(timespec="seconds"),
        "commit": arguments.commit,
        "machine": host,
        "versions": versions,
        "settings": {tool.name: tool.settings for tool in tools.TOOLS},
        "corpus": corpus(arguments.work / "revisions"),
        "rounds_count": len(rounds),
        "restored": {tool.name: restored_as(rounds, tool.name) for tool in tools.TOOLS},
        "medians": medians(rounds),
        "rounds": rounds,
    }
    path = results / f"kernel-{arguments.commit}-{date:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    print(f"\nAll figures: {path}", file=sys.stderr)
    if report["restored"]["icecore"] != "identical":
        sys.exit("icecore did not bring everything back")


main()
