"""icecore beside its peers: python3 benches/compare/compare.py WORK [CORPUS...] [--tools a,b] [--rounds N]

WORK is a folder for everything; corpora that are prepared there are used again. CORPUS is one or more of those of corpora.py, `src` if
none is named, or `all`, in the order of their importance. Prints a Markdown table for each. All figures are written to
WORK/results/*.json after each round, so a run may be stopped at any time and what was finished is kept; `report.py` makes tables and
plots of them again. Needs Debian, root or sudo, Python 3, a Rust toolchain and a C compiler. `install-peers WORK/peers` gets the peers that
can be had; those that are in WORK/peers/bin or in PATH take part. Run it on a machine that does nothing else.
"""

import argparse
import datetime
import json
import os
import signal
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


def compare(name: str, work: Path, scratch: Path, programs: list, count: int) -> dict:
    states = states_of(name, work)
    date = datetime.datetime.now(datetime.timezone.utc)
    stem = f"{name}-{commit()}-{date:%Y%m%dT%H%M%SZ}"
    results = work / "results"
    results.mkdir(exist_ok=True)
    host = report.machine(scratch)
    if host["busy_before"] > 0.1:
        print(f"others use {host['busy_before']:.0%} of the machine: these figures are for trying the script only", file=sys.stderr)
    whole = {
        "corpus": name,
        "about": corpora.CORPORA[name].about,
        "date": date.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": host,
        "versions": {tool.name: tool.version() for tool in programs},
        "settings": {tool.name: tool.settings for tool in programs},
        "states": described(name, work),
        "rounds": [],
    }
    path = results / f"{stem}.json"
    print(f"All figures: {path}", file=sys.stderr)
    for figures in rounds.all_rounds(count, work, scratch, states, corpora.CORPORA[name].partial, programs, results / f"{stem}.log"):
        whole["rounds"].append(figures)
        path.write_text(json.dumps(whole, indent=1) + "\n")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("corpora", nargs="*", metavar="corpus", help=", ".join(corpora.CORPORA))
    parser.add_argument("--tools", default="", help=f"of {','.join(tool.name for tool in tools.TOOLS)}; all of them unless said")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="for repositories and restores, WORK unless named; best an ext4 with a journal and without `discard`")
    parser.add_argument("--program", type=Path, help="icecore's program; built from this source unless named")
    arguments = parser.parse_args()
    chosen = list(corpora.CORPORA) if arguments.corpora == ["all"] else arguments.corpora or ["src"]
    unknown = sorted(set(chosen) - set(corpora.CORPORA))
    if unknown:
        parser.error(f"no such corpus: {', '.join(unknown)}")
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    # What is stopped puts its source back in its place first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["PATH"] = f"{work / 'peers/bin'}:{os.environ['PATH']}"
    corpora.install("time")
    tools.Icecore.program = str(arguments.program or build_icecore())
    programs = choose_tools(arguments.tools)
    failed = []
    for name in chosen:
        whole = compare(name, work, arguments.scratch or work, programs, arguments.rounds)
        print(f"\n{report.section(whole)}", flush=True)
        if any(report.restored_as(whole, tool.name) != "identical" for tool in programs if issubclass(tool, tools.Icecore)):
            failed.append(name)
    if failed:
        sys.exit(f"icecore did not bring everything back: {', '.join(failed)}")


if __name__ == "__main__":
    main()
