"""What states of something that changes in place add to a repository, and what its last state costs to restore: databases, a mail spool, an image, a tree.

`python3 states.py WORK [CORPUS...] [--states 12] [--programs icecore,icecore-whole,restic,borg]` makes the states one after the other in one folder and has
each program back it up at once, as a job every ten minutes would. Work is counted and not timed, so that a state is the same amount everywhere. Then each
program restores the last state `--restores` times in turn, and what came is compared. It prints the bytes that each state added, CPU seconds of all backups
but the first, and what a restore took, and writes `WORK/results/states-CORPUS.json`.
"""

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple

import corpora
import report
import tools
from corpora import as_root, debian_image, install, message, mounted, postgres
from report import file_bytes
from rounds import compare, run

PROGRAMS = {
    tool.name: tool
    for tool in (tools.Icecore, tools.IcecoreKeyFile, tools.IcecoreWhole, tools.Restic, tools.Rustic, tools.Borg, tools.Bupstash, tools.Vykar, tools.PgBackRest)
}


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


# Upgraded one after the other from Debian 12 to 13, each with what it needs, and then from the beginning as an upgrade to the same version.
UPGRADED = ["libc6", "perl", "python3", "git", "openssh-client", "sqlite3", "coreutils", "util-linux", "bash", "apt", "dpkg", "tar"]


def image(folder: Path) -> Iterator[str]:
    """A root file system in a file, mounted, in which packages are upgraded."""
    install("debootstrap", "e2fsprogs")
    (folder / "data").mkdir()
    disk = folder / "data/disk.img"
    debian_image(folder, disk)

    def apt(root: Path, *arguments: str) -> None:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        as_root("chroot", root, "apt-get", "--quiet", "--yes", "--no-install-recommends", *arguments, env=environment, stderr=sys.stderr)

    with mounted(disk, folder) as root:
        apt(root, "update")
        apt(root, "install", *(name for name in UPGRADED if name != "libc6"))
        apt(root, "clean")
    yield "Debian 12 with python3, git, perl, openssh-client, sqlite3"
    with mounted(disk, folder) as root:
        (root / "etc/apt/sources.list").write_text("deb http://deb.debian.org/debian trixie main\n")
        apt(root, "update")
    state = 0
    while True:
        name = UPGRADED[state % len(UPGRADED)]
        with mounted(disk, folder) as root:
            apt(root, "install", "--reinstall", name)
            apt(root, "clean")
        yield f"{name} of Debian 13" if state < len(UPGRADED) else f"{name} once more"
        state += 1


def tree(folder: Path, per_mille: int = 20) -> Iterator[str]:
    """Part of a kernel's source; in each state some files are edited in one place."""
    chance = random.Random(1)
    place = folder / "data"
    shutil.copytree(next((folder.parents[1] / "corpora/src/0").rglob("drivers")) / "net", place, symlinks=True)
    files = sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    state = 0
    while True:
        yield f"{len(files):,} files" if state == 0 else f"edit {state}, of {len(files) * per_mille // 1000} files"
        state += 1
        for path in chance.sample(files, len(files) * per_mille // 1000):
            lines = path.read_bytes().splitlines(keepends=True)
            at = chance.randrange(len(lines) + 1)
            lines[at : at + chance.randrange(3)] = [b"/* edit %d, of line %d */\n" % (state, at)] * chance.randrange(1, 4)
            path.write_bytes(b"".join(lines))


CORPORA: Dict[str, Callable[..., Iterator[str]]] = {"db": db, "sqlite": sqlite, "spool": spool, "image": image, "tree": tree}


class Program(NamedTuple):
    tool: tools.Tool
    folder: Path
    bytes: List[int]
    cpu_s: List[float]
    restores: List[dict]


def measure(corpus: str, work: Path, names: List[str], states: int, restores: int) -> dict:
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
        if PROGRAMS[name] is tools.PgBackRest and corpus != "db":
            continue
        folder = place / name
        tool = PROGRAMS[name](folder, source / "data", place / "passphrase")
        programs.append(Program(tool, folder, [], [], []))
    labels: List[str] = []
    with (work / "results" / f"states-{corpus}.log").open("w") as log:

        def carry_out(program: Program, commands: tools.Commands, folder: Path, **options) -> dict:
            figures = run(program.tool, commands, folder, log, **options)
            if figures.get("exit_code"):
                sys.exit(f"{program.tool.name} failed, see {log.name}")
            return figures

        for program in programs:
            carry_out(program, program.tool.init(), program.folder)
        for label in CORPORA[corpus](source):
            labels.append(label)
            print(f"state {len(labels)}: {label}", file=sys.stderr, flush=True)
            for program in programs:
                before = file_bytes(program.tool.repository)
                figures = carry_out(program, program.tool.backup(f"state{len(labels)}"), program.folder)
                program.bytes.append(file_bytes(program.tool.repository) - before)
                program.cpu_s.append(figures["cpu_s"])
            if len(labels) == states:
                break
        for number in range(restores):
            first = number % len(programs)
            for program in programs[first:] + programs[:first]:
                tool = program.tool
                tool.target.mkdir()
                figures = carry_out(program, tool.restore(), tool.target, is_synced=True)
                program.restores.append(figures | {"comparison": compare(tool.source, tool.restored())})
                as_root("rm", "-rf", tool.target)
    result = {"corpus": corpus, "machine": report.machine(work), "labels": labels, "programs": {}}
    for program in programs:
        tool = program.tool
        figures = {"bytes": program.bytes, "cpu_s": program.cpu_s, "restores": program.restores}
        result["programs"][tool.name] = {"version": tool.version(), "settings": tool.settings} | figures
    as_root("rm", "-rf", place)
    return result


def table(result: dict) -> str:
    """Megabytes that each state added, the sum and CPU seconds of all but the first, and medians of the restores of the last."""
    programs = result["programs"]

    def row(what: str, cell: Callable[[dict], str]) -> str:
        return f"| {what} | " + " | ".join(cell(figures) for figures in programs.values()) + " |"

    def restored(key: str, unit: float = 1) -> Callable[[dict], str]:
        return lambda figures: f"{statistics.median(one[key] for one in figures['restores']) / unit:.{0 if unit > 1 else 2}f}"

    def identical(figures: dict) -> str:
        comparisons = [one["comparison"] for one in figures["restores"]]
        if not all(one["contents_equal"] for one in comparisons):
            return "**bytes differ**"
        differing = max(one["metadata_differing"] for one in comparisons)
        return f"bytes equal, {differing} with other metadata" if differing else "identical"

    lines = [f"| {result['corpus']}, MB | " + " | ".join(programs) + " |", "|---|" + "---:|" * len(programs)]
    for number, label in enumerate(result["labels"]):
        lines.append(row(label, lambda figures, number=number: f"{figures['bytes'][number] / 1e6:.2f}"))
    lines.append(row("all but the first", lambda figures: f"{sum(figures['bytes'][1:]) / 1e6:.2f}"))
    lines.append(row("CPU s of these", lambda figures: f"{sum(figures['cpu_s'][1:]):.1f}"))
    if all(figures["restores"] for figures in programs.values()):
        lines += [row("restore of the last, wall s", restored("wall_s")), row("CPU s", restored("cpu_s"))]
        lines += [row("memory, MB", restored("memory_bytes", 1e6)), row("restored", identical)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("corpora", nargs="*", default=list(CORPORA), metavar="CORPUS", help=", ".join(CORPORA))
    parser.add_argument("--states", type=int, default=12)
    parser.add_argument("--restores", type=int, default=3)
    parser.add_argument("--program", type=Path, default=shutil.which("icecore"), help="icecore's program")
    parser.add_argument("--programs", default="icecore,icecore-whole,restic,borg", help=", ".join(PROGRAMS))
    arguments = parser.parse_args()
    tools.Icecore.program = str(arguments.program)
    work = arguments.work.resolve()
    os.environ["PATH"] = f"{work / 'peers/bin'}:{os.environ['PATH']}"
    (work / "results").mkdir(parents=True, exist_ok=True)
    install("time")
    if "tree" in arguments.corpora:
        corpora.prepare("src", work)
    for corpus in arguments.corpora:
        result = measure(corpus, work, arguments.programs.split(","), arguments.states, arguments.restores)
        (work / "results" / f"states-{corpus}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(result), flush=True)


if __name__ == "__main__":
    main()
