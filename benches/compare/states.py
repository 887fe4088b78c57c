"""What states of something that changes in place add to a repository: databases, a mail spool.

`python3 states.py WORK [CORPUS...] [--states 12] [--programs icecore,icecore-whole,restic,borg]` makes the states one after the other in one folder and has
each program back it up at once, as a job every ten minutes would. Work is counted and not timed, so that a state is the same amount everywhere. It prints
the bytes that each state added, CPU seconds of all backups, and writes `WORK/results/states-CORPUS.json`.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple

import tools
from corpora import as_root, install, message, postgres
from report import file_bytes
from rounds import run


class IcecoreWhole(tools.Icecore):
    name = "icecore-whole"
    settings = "as icecore, with --no-delta"

    def backup(self, label: str) -> tools.Commands:
        return [command + ["--no-delta"] for command in super().backup(label)]


PROGRAMS = {tool.name: tool for tool in (tools.Icecore, IcecoreWhole, tools.Restic, tools.Borg, tools.Bupstash, tools.Vykar)}


def db(folder: Path, scale: int = 50, transactions: int = 5_000) -> Iterator[str]:
    """A PostgreSQL data folder under pgbench. It is stopped for each backup, so that a state is whole."""
    install("postgresql-15")
    data, sockets = folder / "data", folder / "sockets"
    sockets.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(sockets, "postgres")
    postgres(folder, "initdb", "--auth=trust", "--username=bench", "--pgdata", data)
    server = ["pg_ctl", "--pgdata", data, "--wait", "--options", f"-k {sockets} -c listen_addresses=", "--log", folder / "log"]
    bench = ["pgbench", "--host", sockets, "--username", "bench"]
    postgres(folder, *server, "start")
    postgres(folder, *bench, "--quiet", "--initialize", "--scale", str(scale), "postgres")
    state = 0
    while True:
        postgres(folder, *server, "stop")
        yield f"scale {scale}" if state == 0 else f"{state * transactions:,} transactions"
        state += 1
        postgres(folder, *server, "start")
        postgres(folder, *bench, "--random-seed", str(state), "--client", "1", "--transactions", str(transactions), "postgres")


def sqlite(folder: Path, rows: int = 1_000_000, changes: int = 2_000) -> Iterator[str]:
    """An SQLite file of 100-byte rows with an index, of which some are changed, added and removed."""
    (folder / "data").mkdir()
    connection = sqlite3.connect(folder / "data/items.sqlite")
    connection.execute("create table items (id integer primary key, name text, note text, count integer)")
    connection.execute("create index by_name on items (name)")
    chance = random.Random(1)

    def row(number: int):
        return number, f"{chance.randbytes(6).hex()} {number}", chance.randbytes(30).hex(), chance.randrange(1000)

    connection.executemany("insert into items values (?, ?, ?, ?)", map(row, range(rows)))
    state = 0
    while True:
        connection.commit()
        yield f"{rows:,} rows" if state == 0 else f"{state * changes:,} changes"
        state += 1
        for number in range(changes):
            if number % 4 == 0:
                connection.execute("insert into items values (?, ?, ?, ?)", row(rows + state * changes + number))
            elif number % 4 == 1:
                connection.execute("delete from items where id = ?", (chance.randrange(rows),))
            else:
                connection.execute("update items set count = count + 1, note = ? where id = ?", (chance.randbytes(30).hex(), chance.randrange(rows)))


def spool(folder: Path, boxes: int = 40, messages: int = 500, more: int = 10) -> Iterator[str]:
    """Mail in mbox files: mail comes at the end of each, and now and then one is expunged, which moves what follows."""
    place = folder / "data"
    place.mkdir()
    mail: List[List[int]] = [[box * 1_000_000 + number for number in range(messages)] for box in range(boxes)]
    chance, state = random.Random(1), 0
    while True:
        for box, numbers in enumerate(mail):
            (place / f"box-{box}").write_text("".join(f"From sender\n{message(number)}\n" for number in numbers))
        yield f"{boxes} boxes of {messages} messages" if state == 0 else f"{state * more} more messages in each"
        state += 1
        for box, numbers in enumerate(mail):
            numbers.extend(box * 1_000_000 + messages + state * more + number for number in range(more))
            if chance.random() < 0.3:
                del numbers[chance.randrange(len(numbers))]


CORPORA: Dict[str, Callable[..., Iterator[str]]] = {"db": db, "sqlite": sqlite, "spool": spool}


class Program(NamedTuple):
    tool: tools.Tool
    folder: Path
    bytes: List[int]
    cpu_s: List[float]


def measure(corpus: str, work: Path, names: List[str], states: int) -> dict:
    place = Path(tempfile.mkdtemp(prefix=f"states-{corpus}-", dir=work))
    place.chmod(0o755)
    source = place / "source"
    source.mkdir()
    (place / "passphrase").write_text("a passphrase for measurements\n")
    programs = []
    for name in names:
        if not PROGRAMS[name].is_installed():
            print(f"{name} is not installed", file=sys.stderr)
            continue
        folder = place / name
        tool = PROGRAMS[name](folder, source / "data", place / "passphrase")
        programs.append(Program(tool, folder, [], []))
    labels = []
    with (place / "log").open("w") as log:
        for program in programs:
            run(program.tool, program.tool.init(), program.folder, log)
        for label in CORPORA[corpus](source):
            labels.append(label)
            for tool, folder, added, cpu_s in programs:
                before = file_bytes(tool.repository)
                figures = run(tool, tool.backup(f"state{len(labels)}"), folder, log)
                if figures.get("exit_code"):
                    sys.exit(f"{tool.name} failed, see {log.name}")
                added.append(file_bytes(tool.repository) - before)
                cpu_s.append(figures["cpu_s"])
            if len(labels) == states:
                break
    result = {"corpus": corpus, "labels": labels, "programs": {}}
    for tool, _, added, cpu_s in programs:
        result["programs"][tool.name] = {"version": tool.version(), "settings": tool.settings, "bytes": added, "cpu_s": cpu_s}
    as_root("rm", "-rf", place)
    return result


def table(result: dict) -> str:
    """Megabytes that each state added, and the sum and CPU seconds of all but the first."""
    programs = result["programs"]
    lines = [f"| {result['corpus']}, MB | " + " | ".join(programs) + " |", "|---|" + "---:|" * len(programs)]
    for number, label in enumerate(result["labels"]):
        cells = [f"{figures['bytes'][number] / 1e6:.2f}" for figures in programs.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines.append("| all but the first | " + " | ".join(f"{sum(figures['bytes'][1:]) / 1e6:.2f}" for figures in programs.values()) + " |")
    lines.append("| CPU s of these | " + " | ".join(f"{sum(figures['cpu_s'][1:]):.1f}" for figures in programs.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("corpora", nargs="*", default=list(CORPORA), metavar="CORPUS", help=", ".join(CORPORA))
    parser.add_argument("--states", type=int, default=12)
    parser.add_argument("--program", type=Path, default=shutil.which("icecore"), help="icecore's program")
    parser.add_argument("--programs", default="icecore,icecore-whole,restic,borg", help=", ".join(PROGRAMS))
    arguments = parser.parse_args()
    tools.Icecore.program = str(arguments.program)
    work = arguments.work.resolve()
    (work / "results").mkdir(parents=True, exist_ok=True)
    for corpus in arguments.corpora:
        result = measure(corpus, work, arguments.programs.split(","), arguments.states)
        (work / "results" / f"states-{corpus}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(result), flush=True)


if __name__ == "__main__":
    main()
