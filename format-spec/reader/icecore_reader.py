"""A plain second reader of icecore repositories in a folder, written from the pages of the format alone.

    icecore_reader.py -r REPO (--password-file F | --key-file F) snapshots
    icecore_reader.py -r REPO (--password-file F | --key-file F) restore SNAPSHOT|latest --target DIR
    icecore_reader.py -r REPO (--password-file F | --key-file F) verify
    icecore_reader.py -r REPO (--password-file F | --key-file F) heal OBJECT --to FILE

Exit codes: 0 done, 1 failed for another reason, 2 wrong usage, 10 no repository, 12 wrong passphrase or key, 14 damage.
"""
from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path
from typing import List, Optional

import names
from bodies import Snapshot
from conventions import RuleError, Time
from repository import NoKey, NoRepository, Problems, Repository, SnapshotFrames
from restoring import Restore
from verifying import Verify


def rfc3339(time: Time) -> str:
    seconds, nanoseconds = time
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return f"@{seconds}.{nanoseconds:09d}"
    return moment.isoformat(timespec="seconds") + (f".{nanoseconds:09d}Z" if nanoseconds else "Z")


def printable(data: "str | bytes") -> str:
    shown = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def line(snapshot: Snapshot, suspect: bool) -> str:
    body = snapshot.body
    fields = [snapshot.id.hex(), rfc3339(snapshot.header.time)]
    fields += [body.series, " ".join(map(printable, body.paths)), ",".join(body.tags)] if body else ["?", "?", "?"]
    return "\t".join(map(printable, fields)) + ("\tsuspect" if suspect else "")


def list_snapshots(repository: Repository) -> int:
    repository.load_tables()
    for snapshot, suspect in repository.snapshots():
        print(line(snapshot, suspect))
    return repository.problems.exit_code()


def choose(repository: Repository, wanted: str) -> Snapshot:
    shown = [snapshot for snapshot, _ in repository.snapshots()]
    found = shown[-1:] if wanted == "latest" else [s for s in shown if s.id.hex().startswith(wanted.lower())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} snapshots are called {wanted!r}")
    return found[0]


def restore(repository: Repository, wanted: str, target: str) -> int:
    repository.load_tables()
    snapshot = choose(repository, wanted)
    if snapshot.body is None or not repository.credential.chunk_id_key:
        raise NoKey("our credential does not open this snapshot")
    work = Restore(snapshot, SnapshotFrames(repository, snapshot), os.fsencode(target), repository.problems)
    work.run()
    return repository.problems.exit_code() or (1 if work.failures else 0)


def verify(repository: Repository) -> int:
    Verify(repository).run()
    code = repository.problems.exit_code()
    print("no errors" if code == 0 else f"{len(repository.problems.found)} errors")
    return code


def heal(repository: Repository, wanted: str, to: str) -> int:
    name = names.parse(wanted)
    if name is None:
        raise LookupError(f"{wanted!r} is no name of an object")
    with repository.problems.stops_at(name):
        healed = repository.heal(name)
    Path(to).write_bytes(healed)
    return repository.problems.exit_code()


def arguments(given: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="icecore_reader.py")
    parser.add_argument("-r", "--repository", required=True)
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--password-file")
    secret.add_argument("--key-file")
    parser.add_argument("--tier", action="append", default=[], metavar="NAME=FOLDER", help="where a tier is on this machine")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("snapshots")
    restoring = commands.add_parser("restore")
    restoring.add_argument("snapshot")
    restoring.add_argument("--target", required=True)
    commands.add_parser("verify")
    healing = commands.add_parser("heal")
    healing.add_argument("object")
    healing.add_argument("--to", required=True)
    return parser.parse_args(given)


def run(args: argparse.Namespace, problems: Problems) -> int:
    if not os.path.isdir(args.repository):
        raise NoRepository(f"{args.repository} is no folder")
    repository = Repository(Path(args.repository), problems)
    repository.given_tiers = dict(given.partition("=")[::2] for given in args.tier)
    repository.open(Path(args.password_file or args.key_file).read_bytes(), bool(args.key_file))
    if args.command == "snapshots":
        return list_snapshots(repository)
    if args.command == "restore":
        return restore(repository, args.snapshot, args.target)
    if args.command == "heal":
        return heal(repository, args.object, args.to)
    return verify(repository)


def outcome(args: argparse.Namespace, problems: Problems) -> int:
    """Runs the command; what stopped it is added to the problems or printed."""
    try:
        return run(args, problems)
    except RuleError as error:
        if not error.reported:
            problems.add(args.repository, error)
        return problems.exit_code()
    except NoRepository as error:
        print(error, file=sys.stderr)
        return 10
    except NoKey as error:
        print(error, file=sys.stderr)
        return 12
    except (OSError, LookupError) as error:
        print(error, file=sys.stderr)
        return 14 if problems.exit_code() == 14 else 1


def main(given: Optional[List[str]] = None) -> int:
    problems = Problems()
    code = outcome(arguments(given), problems)
    for problem in problems.found:
        print(f"error: {problem}", file=sys.stderr)
    for note in problems.notes:
        print(f"note: {note}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
