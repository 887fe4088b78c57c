"""What is reported beside and of the figures: the corpus, the machine, medians, the table."""

import filecmp
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import tools


def files_below(folder: Path):
    for above, _, names in os.walk(folder):
        for name in names:
            yield Path(above, name)


def file_bytes(folder: Path) -> int:
    """Lengths of all files, as `du --apparent-size` counts them, without the folders themselves."""
    return sum(path.lstat().st_size for path in files_below(folder) if not path.is_symlink())


def corpus(revisions: Path) -> list[dict]:
    described = []
    for name, label in zip("ab", (revisions / "complete").read_text().splitlines()):
        files = [path for path in files_below(revisions / name) if not path.is_symlink()]
        described.append({"revision": label, "files": len(files), "bytes": sum(path.stat().st_size for path in files)})
    described[1] |= changed_files(revisions / "a", revisions / "b")
    return described


def changed_files(old: Path, new: Path) -> dict:
    """How many files of `new` are not in `old`, or have other bytes there."""
    changed = new_bytes = 0
    for path in files_below(new):
        before = old / path.relative_to(new)
        if path.is_symlink() or (before.is_file() and filecmp.cmp(path, before, shallow=False)):
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


def table(report: dict) -> str:
    names = [tool.name for tool in tools.TOOLS]
    rows = ["| step | program | wall, s | CPU, s | peak memory, MB | repository, MB |", "|---|---|---:|---:|---:|---:|"]
    for name, of_tool in report["medians"].items():
        for tool in names:
            figures = of_tool[tool]
            stored = f"{figures['stored_bytes'] / 1e6:,.1f}" if "stored_bytes" in figures else ""
            rows.append(
                f"| {name} | {tool} | {figures['wall_s']:.2f} | {figures['cpu_s']:.2f} | {figures['memory_bytes'] / 1e6:,.0f} | {stored} |"
            )
    host, (old, new) = report["machine"], report["corpus"]
    lines = [
        f"{old['revision']} ({old['files']:,} files, {old['bytes'] / 1e6:,.0f} MB), then {new['revision']} at the same path, unpacked anew "
        f"({new['files_changed']:,} files with other bytes, {new['bytes_in_changed_files'] / 1e6:,.0f} MB; all with new inodes). "
        f"Medians of {report['rounds_count']}. {host['cores']} cores of {host['cpu']}, {host['memory']} memory, {host['file_system']}, "
        f"Linux {host['kernel']}; page cache warm; {report['date'][:10]}, commit {report['commit']}.",
        "",
        *rows,
        "",
        *(f"- {tool.name}: {report['versions'][tool.name]}; {tool.settings}. Restored: {report['restored'][tool.name]}." for tool in tools.TOOLS),
    ]
    return "\n".join(lines)
