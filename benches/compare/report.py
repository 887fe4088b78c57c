"""What is reported beside and of the figures: the corpus, the machine, medians, the table."""

import argparse
import filecmp
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import plot


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


def medians(report: dict) -> dict:
    """Of each step and program: the medians of its figures, and the exit code if it failed."""
    rounds = report["rounds"]

    def median(name: str, tool: str) -> dict:
        those = [figures[name][tool] for figures in rounds]
        keys = [key for key in those[0] if key not in ("comparison", "exit_code")]
        failed = [figures["exit_code"] for figures in those if "exit_code" in figures]
        return {key: statistics.median(figures[key] for figures in those) for key in keys} | ({"exit_code": failed[0]} if failed else {})

    return {name: {tool: median(name, tool) for tool in rounds[0][name]} for name in rounds[0]}


def restored_as(report: dict, tool: str) -> str:
    """What the comparison of all its restores with their sources found."""
    comparisons = [figures["restore"][tool]["comparison"] for figures in report["rounds"]]
    parts = [figures["partial restore"][tool]["comparison"] for figures in report["rounds"] if "comparison" in figures["partial restore"][tool]]
    if not all(comparison["contents_equal"] for comparison in comparisons + parts):
        return "**CONTENTS DIFFER**"
    differing = max(comparison["metadata_differing"] for comparison in comparisons)
    return f"bytes equal, {differing:,} items with other metadata" if differing else "identical"


# The steps after which the size of the repository tells something new.
STORED = ("first backup", "changed backup", "forget and reclaim")


def best_of(figures: dict, key: str) -> set:
    """The programs with the least of it, as it is printed, among those that did the step."""
    form = FORMATS[key]
    those = {name: form(figure[key]) for name, figure in figures.items() if figure.get(key) and figure["wall_s"] and "exit_code" not in figure}
    least = min((float(text) for text in those.values()), default=None)
    return {name for name, text in those.items() if float(text) == least and len(figures) > 1}


FORMATS = {
    "wall_s": lambda value: f"{value:.2f}",
    "cpu_s": lambda value: f"{value:.2f}",
    "memory_bytes": lambda value: f"{value / 1e6:.0f}",
    "stored_bytes": lambda value: f"{value / 1e6:.1f}",
}


def cells(figures: dict, tool: str, keys: list) -> str:
    """The figures of a program in a step, each bold where no program has less."""
    figure = figures[tool]
    if "exit_code" in figure:
        return f"failed ({figure['exit_code']})"
    if not figure["wall_s"]:
        return "–"
    texts = [(FORMATS[key](figure[key]), tool in best_of(figures, key)) for key in keys]
    return " / ".join(f"**{text}**" if is_best else text for text, is_best in texts)


def rows(steps: dict, tools: list, keys: list) -> list:
    return [f"| {step} | {' | '.join(cells(figures, tool, keys) for tool in tools)} |" for step, figures in steps.items()]


def added(steps: dict) -> dict:
    """What the changed states added to each repository, as a step's figures."""
    before, after = steps["unchanged backup"], steps["changed backup"]
    return {tool: after[tool] | {"stored_bytes": after[tool]["stored_bytes"] - before[tool]["stored_bytes"]} for tool in after}


def table(report: dict) -> str:
    """A column for each program; the best of each row in bold."""
    tools, steps = list(report["versions"]), medians(report)
    stored = {f"{step}, after it": steps[step] for step in STORED} | {"what changed states added": added(steps)}

    def head(what: str) -> list:
        return [f"| {what} | {' | '.join(tools)} |", f"|---|{'---:|' * len(tools)}"]

    return "\n".join([
        *head("wall s / CPU s"), *rows(steps, tools, ["wall_s", "cpu_s"]), "",
        *head("peak memory, MB"), *rows(steps, tools, ["memory_bytes"]), "",
        *head("repository, MB"), *rows(stored, tools, ["stored_bytes"]),
    ])  # fmt: skip


def section(report: dict) -> str:
    """What was measured, the table, and the programs."""
    host, states, count = report["machine"], report["states"], len(report["rounds"])
    first, last = states[0], states[-1]
    files, size = (sum(state[key] for state in states[1:]) for key in ("files_changed", "bytes_in_changed_files"))
    steps = f", in {len(states) - 1} steps" if len(states) > 2 else ""
    about = (
        f"{first['label']} ({first['files']:,} files, {first['bytes'] / 1e6:,.0f} MB), then {last['label']} at the same path{steps} "
        f"({files:,} files with other bytes, {size / 1e6:,.0f} MB; all with new inodes). "
        f"{f'Medians of {count} rounds' if count > 1 else 'One round'}. {host['cores']} cores of {host['cpu']}, {host['memory']} memory, "
        f"{host['file_system']}, Linux {host['kernel']}; others used {host['busy_before']:.0%} of it before; page cache warm; "
        f"{report['date'][:10]}, commit {report['commit']}."
    )
    programs = [
        f"- {tool}: {version}; {report['settings'][tool]}. Restored: {restored_as(report, tool)}." for tool, version in report["versions"].items()
    ]
    return "\n".join([f"### {report['about']}", "", about, "", table(report), "", *programs])


# With a passphrase, and with a key file; `icecore-whole` is in the tables of the corpora only.
OWN = ("icecore", "icecore-keyfile")


def against_best(figures: dict, key: str) -> tuple:
    """The peer with the least of it, and what icecore has for each of that, with a passphrase and with a key file."""
    peers = {name: figure[key] for name, figure in figures.items() if not name.startswith("icecore") and figure.get(key) and figure["wall_s"]}
    peers = {name: value for name, value in peers.items() if "exit_code" not in figures[name]}
    if not peers:
        return "", []
    best = min(peers, key=peers.get)
    return best, [figures[name][key] / peers[best] for name in OWN if name in figures]


def summary(reports: list) -> str:
    """icecore against the best peer of each cell; 1 or more is bold: there a peer is ahead."""
    lines = [
        "| corpus | step | wall | CPU | repository |",
        "|---|---|---:|---:|---:|",
    ]
    for report in reports:
        steps = medians(report)
        for step, figures in steps.items():
            texts = []
            for key in ("wall_s", "cpu_s", "stored_bytes"):
                best, ratios = against_best(figures, key) if key != "stored_bytes" or step in STORED else ("", [])
                ratios = ratios[:1] if key == "stored_bytes" else ratios
                shown = [f"**{ratio:.2f}**" if ratio >= 1 else f"{ratio:.2f}" for ratio in ratios]
                texts.append(f"{' / '.join(shown)} of {best}" if best else "")
            if step != "init" and any(texts):
                lines.append(f"| {report['about']} | {step} | {' | '.join(texts)} |")
    return "\n".join(lines)


def added_beside(reports: list) -> str:
    """What changed states add, as parts of what restic adds, for each program; last the geometric means."""
    all_added = {report["about"]: added(medians(report)) for report in reports if "restic" in report["versions"]}
    programs = [tool for tool in tools_of(reports) if tool != "restic"]

    def part(figures: dict, tool: str) -> float:
        return figures[tool]["stored_bytes"] / figures["restic"]["stored_bytes"]

    def cell(figures: dict, tool: str) -> str:
        return f"{part(figures, tool):.3f}" if tool in figures else ""

    lines = [f"| of restic's | {' | '.join(programs)} |", f"|---|{'---:|' * len(programs)}"]
    lines += [f"| {about} | {' | '.join(cell(figures, tool) for tool in programs)} |" for about, figures in all_added.items()]
    by_tool = [[part(figures, tool) for figures in all_added.values() if tool in figures] for tool in programs]
    means = [f"{statistics.geometric_mean(values):.3f}" if len(values) == len(all_added) else "" for values in by_tool]
    return "\n".join([*lines, f"| geometric mean | {' | '.join(means)} |"])


def tools_of(reports: list) -> list:
    return list(dict.fromkeys(tool for report in reports for tool in report["versions"]))


def merged(reports: list) -> list:
    """Runs of the same programs on the same corpus and machine are rounds of one."""
    by_run = {}
    for one in reports:
        machine = {key: value for key, value in one["machine"].items() if key != "busy_before"}
        known = by_run.setdefault(json.dumps([one["corpus"], one["commit"], one["versions"], machine]), one)
        if known is not one:
            known["rounds"] += one["rounds"]
    return list(by_run.values())


def main() -> None:
    """Prints the sections of results and a summary, and draws them: python3 report.py RESULT.json... [--plot FILE.svg]"""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    reports = merged([json.loads(path.read_text()) for path in arguments.results])
    print("\n\n".join(section(report) for report in reports))
    print(f"\n### icecore against the best peer\n\n{summary(reports)}")
    print(f"\n### What changed states add\n\n{added_beside(reports)}")
    if arguments.plot:
        arguments.plot.write_text(plot.drawn([(report["about"], list(report["versions"]), medians(report)) for report in reports]))


if __name__ == "__main__":
    main()
