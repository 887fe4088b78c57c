"""What is reported beside and of the figures: the corpus, the machine, medians, the table."""

import filecmp
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path


def files_below(folder: Path):
    for above, _, names in os.walk(folder):
        for name in names:
            yield Path(above, name)


def file_bytes(folder: Path) -> int:
    """Lengths of all files, as `du --apparent-size` counts them, without the folders themselves."""
    return sum(path.lstat().st_size for path in files_below(folder) if not path.is_symlink())


def described(labels: list, states: list) -> list:
    """What each state holds, and what of it is not in the state before."""
    all_states = []
    for label, state in zip(labels, states):
        files = [path for path in files_below(state) if path.is_file() and not path.is_symlink()]
        all_states.append({"label": label, "files": len(files), "bytes": sum(path.stat().st_size for path in files)})
    for about, old, new in zip(all_states[1:], states, states[1:]):
        about |= changed_files(old, new)
    return all_states


def changed_files(old: Path, new: Path) -> dict:
    """How many files of `new` are not in `old`, or have other bytes there."""
    changed = new_bytes = 0
    for path in files_below(new):
        before = old / path.relative_to(new)
        if path.is_symlink() or not path.is_file() or (before.is_file() and filecmp.cmp(path, before, shallow=False)):
            continue
        changed += 1
        new_bytes += path.stat().st_size
    return {"files_changed": changed, "bytes_in_changed_files": new_bytes}


def busy() -> float:
    """The share of all cores' time that is used by others, over two seconds."""

    def times() -> list[int]:
        with open("/proc/stat") as stat:
            return [int(field) for field in stat.readline().split()[1:]]

    before = times()
    time.sleep(2)
    passed = [after - before for after, before in zip(times(), before)]
    # The fields are user, nice, system, idle, waiting for disk, ...
    return 1 - (passed[3] + passed[4]) / sum(passed[:8])


def machine(work: Path) -> dict:
    def field(path: str, name: str) -> str:
        lines = Path(path).read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")

    return {
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "file_system": subprocess.run(
            ["stat", "--file-system", "--format", "%T", work], check=True, capture_output=True, text=True
        ).stdout.strip(),
        "busy_before": round(busy(), 3),
    }


def medians(rounds: list[dict]) -> dict:
    def median(name: str, tool: str) -> dict:
        keys = [key for key in rounds[0][name][tool] if key != "comparison"]
        return {key: statistics.median(figures[name][tool][key] for figures in rounds) for key in keys}

    return {name: {tool: median(name, tool) for tool in rounds[0][name]} for name in rounds[0]}


def restored_as(rounds: list[dict], tool: str) -> str:
    comparisons = [figures["restore"][tool]["comparison"] for figures in rounds]
    if not all(comparison["contents_equal"] for comparison in comparisons):
        return "**CONTENTS DIFFER**"
    differing = max(comparison["metadata_differing"] for comparison in comparisons)
    return f"bytes equal, {differing:,} items with other metadata" if differing else "identical"


def best_of(figures: dict, key: str, names: list) -> str:
    """The program with the least of it among those that did the step."""
    those = [name for name in names if name in figures and figures[name].get(key)]
    return min(those, key=lambda name: figures[name][key]) if those else ""


def table(report: dict) -> str:
    """A row for each step and program; the best of each step in bold."""
    names = list(report["versions"])
    rows = ["| step | program | wall, s | CPU, s | peak memory, MB | repository, MB |", "|---|---|---:|---:|---:|---:|"]
    formats = {"wall_s": (1, ".2f"), "cpu_s": (1, ".2f"), "memory_bytes": (1e6, ",.0f"), "stored_bytes": (1e6, ",.1f")}
    for step, figures in report["medians"].items():
        best = {key: best_of(figures, key, names) for key in formats}
        for tool in names:
            if not figures[tool]["wall_s"]:
                continue
            cells = []
            for key, (unit, form) in formats.items():
                value = format(figures[tool][key] / unit, form) if key in figures[tool] else ""
                cells.append(f"**{value}**" if value and best[key] == tool and step != "init" else value)
            rows.append(f"| {step} | {tool} | {' | '.join(cells)} |")
    host, states = report["machine"], report["states"]
    first, last = states[0], states[-1]
    changes = f"{sum(state['files_changed'] for state in states[1:]):,} files with other bytes, {sum(state['bytes_in_changed_files'] for state in states[1:]) / 1e6:,.0f} MB"
    lines = [
        f"{first['label']} ({first['files']:,} files, {first['bytes'] / 1e6:,.0f} MB), then {last['label']} at the same path"
        f"{f', in {len(states) - 1} steps' if len(states) > 2 else ''} ({changes}; all with new inodes). "
        f"Medians of {report['rounds_count']}. {host['cores']} cores of {host['cpu']}, {host['memory']} memory, {host['file_system']}, "
        f"Linux {host['kernel']}; others used {host['busy_before']:.0%} of it before; page cache warm; {report['date'][:10]}, commit {report['commit']}.",
        "",
        *rows,
        "",
        *(f"- {tool}: {report['versions'][tool]}; {report['settings'][tool]}. Restored: {report['restored'][tool]}." for tool in names),
    ]
    return "\n".join(lines)
