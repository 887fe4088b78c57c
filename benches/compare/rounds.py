"""Runs the programs of tools.py in turn over the states of a corpus, and gives figures by step and program.

In each round every program starts with an empty repository and empty caches. Each step is done by all programs before the next step
begins, each time another one goes first. The page cache is warm: the source is read once before each step that backs it up, and
what was written is on disk (`sync`) before the next command starts. A restore ends when the file system of its target is synced,
for every program: icecore does that by itself. What was restored is deleted before the next program restores; an ext4 without a journal
gives out no inode again for five minutes then, and searches for each new file, so that who comes first seems fast: name a `--scratch` that has one.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List

import tools
from report import file_bytes, files_below

STEPS = [
    "init",
    "first backup",
    "unchanged backup",
    "changed backup",
    "restore",
    "partial restore",
    "check",
    "check of all bytes",
    "forget and reclaim",
]


def run(tool: tools.Tool, commands: tools.Commands, folder: Path, log, is_synced: bool = False) -> dict:
    """Runs commands in a folder to their end: wall and CPU seconds in all, and the most memory that one had resident, in bytes.

    A peer that fails is noted with its exit code; icecore must not.
    """
    figures = {"wall_s": 0.0, "cpu_s": 0.0, "memory_bytes": 0}
    for command in commands:
        os.sync()
        log.write(f"+ {' '.join(command)}\n")
        log.flush()
        began = time.monotonic()
        # `time` starts it from a small process; else the memory of this one would count as its own.
        memory = tool.cache / "memory"
        timed = ["/usr/bin/time", "--quiet", "--format", "%M", "--output", str(memory), *command]
        process = subprocess.Popen(timed, cwd=folder, env=tool.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            message = f"{tool.name} failed with {process.returncode}: {' '.join(command)}\nIts output is in {log.name}"
            if isinstance(tool, tools.Icecore):
                sys.exit(message)
            print(message, file=sys.stderr, flush=True)
            figures["exit_code"] = process.returncode
        if is_synced:
            subprocess.run(["sync", "--file-system", folder], check=True)
        figures["wall_s"] += time.monotonic() - began
        figures["cpu_s"] += usage.ru_utime + usage.ru_stime
        # In KiB.
        figures["memory_bytes"] = max(figures["memory_bytes"], int(memory.read_text().split()[-1]) * 1024)
    return figures


def step(tool: tools.Tool, name: str, label: str, partial: str, log) -> dict:
    if name == "restore":
        tool.target.mkdir()
        figures = run(tool, tool.restore(), tool.target, log, is_synced=True)
        return figures | {"comparison": compare(tool.source, tool.restored())}
    if name == "partial restore":
        tool.target.mkdir()
        commands = tool.restore_partly(partial)
        figures = run(tool, commands, tool.target, log, is_synced=True)
        return figures | ({"comparison": compare(tool.source / partial, tool.restored_part(partial))} if commands else {})
    commands = {"init": tool.init, "check": tool.check, "check of all bytes": tool.check_all, "forget and reclaim": tool.forget}
    command = tool.backup(label) if name.endswith("backup") else commands[name]()
    return run(tool, command, tool.source.parent, log) | {"stored_bytes": file_bytes(tool.repository)}


def read_all(folder: Path) -> None:
    for path in files_below(folder):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass


def metadata(folder: Path) -> set[bytes]:
    """For each thing below: path, type, mode, owner, group, time, length (not of folders), what a link points to."""
    formats = [r"%P %y %m %U %G %T@ %s %l\0", r"%P %y %m %U %G %T@\0"]
    lines = subprocess.run(
        ["find", folder, "-not", "-type", "d", "-printf", formats[0], "-o", "-printf", formats[1]], check=True, capture_output=True
    )
    return set(lines.stdout.split(b"\0"))


def compare(source: Path, restored: Path) -> dict:
    """Whether a restore brought everything back: bytes by `diff`, the rest by `find`."""
    difference = subprocess.run(["diff", "--recursive", "--no-dereference", "--brief", source, restored], capture_output=True, text=True)
    if not restored.exists():
        return {"contents_equal": False, "metadata_differing": 0, "examples": difference.stderr.splitlines()[:3]}
    differing = metadata(source) ^ metadata(restored)
    return {
        "contents_equal": difference.returncode == 0,
        "metadata_differing": len({line.split(b" ")[0] for line in differing}),
        "examples": difference.stdout.splitlines()[:3] + sorted(line.decode(errors="replace") for line in differing)[:4],
    }


def round_of(number: int, scratch: Path, source: Path, states: List[Path], partial: str, programs: list, log) -> dict:
    """One round; figures by step and program. Those of several changed states are added."""
    folder = scratch / "round"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    passphrase = folder / "passphrase"
    passphrase.write_text(secrets.token_urlsafe(24) + "\n")
    passphrase.chmod(0o600)
    programs = [tool(folder / tool.name, source, passphrase) for tool in programs]
    results = {name: {} for name in STEPS}
    changed = states[1:]
    steps = [(name, state) for name in STEPS for state in (changed if name == "changed backup" else [states[0]])]
    current = states[0]
    current.rename(source)
    try:
        for position, (name, state) in enumerate(steps):
            if name == "changed backup":
                source.rename(current)
                current = state
                current.rename(source)
            if name.endswith("backup"):
                read_all(source)
            first = (number + position) % len(programs)
            for tool in programs[first:] + programs[:first]:
                print(f"round {number + 1}: {name}, {tool.name}", file=sys.stderr, flush=True)
                figures = step(tool, name, f"{name.split()[0]}-{state.name}", partial, log)
                results[name][tool.name] = add(results[name].get(tool.name), figures)
                shutil.rmtree(tool.target, ignore_errors=True)
    finally:
        source.rename(current)
    shutil.rmtree(folder)
    return results


def add(before, figures: dict) -> dict:
    if before is None:
        return figures
    summed = {key: before[key] + figures[key] for key in ("wall_s", "cpu_s")}
    return figures | summed | {"memory_bytes": max(before["memory_bytes"], figures["memory_bytes"])}


def all_rounds(count: int, work: Path, scratch: Path, states: List[Path], partial: str, programs: list, log_path: Path) -> Iterator[dict]:
    source = work / "source"
    if source.exists():
        # An earlier run was interrupted by force.
        missing = [state for state in states if not state.exists()]
        if len(missing) != 1:
            sys.exit(f"{source} is a state of another corpus that an interrupted run left; move it back below {work}/corpora")
        source.rename(missing[0])
    with log_path.open("w") as log:
        for number in range(count):
            yield round_of(number, scratch, source, states, partial, programs, log)
