"""icecore beside its peers: python3 benches/compare/compare.py WORK [CORPUS...] [--tools a,b] [--rounds N]

WORK is a folder for everything; corpora that are prepared there are used again. CORPUS is one or more of those of corpora.py, `src` if
none is named. Prints a Markdown table for each and writes all figures to WORK/results/*.json. Needs Debian, root or sudo, Python 3, a Rust
toolchain and a C compiler. Gets restic and borg with apt-get if they are missing; other peers take part if they are installed
(`install-peers` builds some). Run it on a machine that does nothing else.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import corpora
import report
import rounds
import tools

PROJECT = Path(__file__).resolve().parents[2]


def build_icecore() -> str:
    corpora.run("cargo", "build", "--release", "--locked", "-p", "icecore-cli", cwd=PROJECT)
    metadata = corpora.run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1", cwd=PROJECT)
    return str(Path(json.loads(metadata)["target_directory"], "release/icecore"))


def commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"], cwd=PROJECT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def choose_tools(names: str) -> list:
    known = {tool.name: tool for tool in tools.TOOLS}
    asked = names.split(",") if names else list(known)
    unknown = sorted(set(asked) - set(known))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if {"restic", "borg"} & set(asked):
        missing = [package for tool, package in (("restic", "restic"), ("borg", "borgbackup")) if tool in asked and not known[tool].is_installed()]
        if missing:
            corpora.install(*missing)
    absent = [name for name in asked if not known[name].is_installed()]
    if absent:
        print(f"not installed, so left out: {', '.join(absent)}", file=sys.stderr)
    return [known[name] for name in asked if name not in absent]


def states_of(name: str, work: Path) -> list:
    return [work / "corpora" / name / str(number) for number in range(len(corpora.prepare(name, work)))]


def described(name: str, work: Path) -> list:
    """What the states of a corpus hold; found out once."""
    known = work / "corpora" / name / "described.json"
    if not known.exists():
        known.write_text(json.dumps(report.described(corpora.prepare(name, work), states_of(name, work))))
    return json.loads(known.read_text())


def compare(name: str, work: Path, programs: list, count: int) -> dict:
    states = states_of(name, work)
    date = datetime.datetime.now(datetime.timezone.utc)
    stem = f"{name}-{commit()}-{date:%Y%m%dT%H%M%SZ}"
    results = work / "results"
    results.mkdir(exist_ok=True)
    host = report.machine(work)
    if host["busy_before"] > 0.1:
        print(f"others use {host['busy_before']:.0%} of the machine: these figures are for trying the script only", file=sys.stderr)
    figures = rounds.all_rounds(count, work, states, corpora.CORPORA[name].partial, programs, results / f"{stem}.log")
    whole = {
        "corpus": name,
        "date": date.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": host,
        "versions": {tool.name: tool.version() for tool in programs},
        "settings": {tool.name: tool.settings for tool in programs},
        "states": described(name, work),
        "rounds_count": count,
        "restored": {tool.name: report.restored_as(figures, tool.name) for tool in programs},
        "medians": report.medians(figures),
        "rounds": figures,
    }
    path = results / f"{stem}.json"
    path.write_text(json.dumps(whole, indent=1) + "\n")
    print(f"All figures: {path}", file=sys.stderr)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("corpora", nargs="*", metavar="corpus", help=", ".join(corpora.CORPORA))
    parser.add_argument("--tools", default="", help=f"of {','.join(tool.name for tool in tools.TOOLS)}; all of them unless said")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.corpora) - set(corpora.CORPORA))
    if unknown:
        parser.error(f"no such corpus: {', '.join(unknown)}")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    tools.Icecore.program = build_icecore()
    programs = choose_tools(arguments.tools)
    failed = []
    for name in arguments.corpora or ["src"]:
        whole = compare(name, work, programs, arguments.rounds)
        print(f"\n### {corpora.CORPORA[name].about}\n\n{report.table(whole)}", flush=True)
        if whole["restored"].get("icecore", "identical") != "identical":
            failed.append(name)
    if failed:
        sys.exit(f"icecore did not bring everything back: {', '.join(failed)}")


if __name__ == "__main__":
    main()
