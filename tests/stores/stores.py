#!/usr/bin/env python3
"""Runs icecore against real stores on this machine.

    cargo build --release -p icecore-cli
    python3 tests/stores/stores.py                      all stores
    python3 tests/stores/stores.py garage sftp          these
    python3 tests/stores/stores.py --program target/debug/icecore moto

Against each store: doctor (the trial of what the store does), and a life of a repository: backups of several clients at once beside gc, an
interrupted client, restore, check, scrub, forget, gc; then a replica in another store with credentials of its own, whose making is interrupted.
Of Garage a node is killed during backup, gc and restore. Moto speaks TLS with a certificate that nobody vouches for; in it packs go into an archive
class and come back, and object lock keeps what is locked. Ends with 0 where all of it worked.
"""

import argparse
import filecmp
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from archive import archive, object_lock
from servers import ROOT, SERVERS, Moto


class Client:
    """A home folder, from which icecore is run."""

    def __init__(self, program, server, folder, prefix="repository"):
        self.program, self.folder = program, folder
        folder.mkdir(exist_ok=True)
        self.variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "ICECORE_REPOSITORY": server.place(prefix), **server.environment()}

    def command(self, *arguments):
        key = [] if arguments[0] == "init" or "ICECORE_KEY_FILE" in self.variables else ["--key-file", str(self.folder.parent / "key")]
        return [self.program, *arguments, *key]

    def start(self, *arguments, **more):
        return subprocess.Popen(
            self.command(*arguments), env={**self.variables, **more}, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments, expected=0, **more):
        return self.finish(self.start(*arguments, **more), expected, arguments)

    @staticmethod
    def finish(process, expected=0, what=""):
        output, said = process.communicate()
        if process.returncode != expected:
            raise SystemExit(f"FAILED: {what}: {process.returncode} instead of {expected}\n{output}{said}")
        return output

    def summary(self, *arguments, **more):
        return json.loads(self.run(*arguments, "--json", **more).splitlines()[-1])

    def brings_back(self, data, *arguments):
        with tempfile.TemporaryDirectory(dir=self.folder) as target:
            self.run("restore", "latest", "--series", data.name, "--target", target, *arguments)
            same(data, pathlib.Path(target) / data.name)


def same(one, other):
    names = sorted(path.name for path in one.iterdir())
    found = sorted(path.name for path in other.iterdir())
    assert names == found, (one, names, found)
    _, different, failed = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different and not failed, (different, failed)


def make_data(folder, seed, files=20, size=1 << 20):
    folder.mkdir()
    source = random.Random(seed)
    for number in range(files):
        (folder / f"file{number}").write_bytes(source.randbytes(source.randrange(size)))
    return folder


def requests(summary):
    store = summary["store"]
    counts = ", ".join(f"{store[name]} {name.removeprefix('requests_')}" for name in store if name.startswith("requests_"))
    return f"{counts}; {store['bytes_sent']:,} B sent, {store['bytes_received']:,} B received"


def life(program, server, folder):
    """What a repository goes through, with nothing going wrong but a client that is killed."""
    client = Client(program, server, folder / "client")
    print(client.run("init", "--new-key-file", str(folder / "key")).strip())
    print(client.run("doctor").strip())
    data = make_data(folder / "data", 1)
    print("  first backup:", requests(client.summary("backup", str(data), "--series", "data")))
    print("  same again:  ", requests(client.summary("backup", str(data), "--series", "data")))
    (data / "file0").write_bytes(b"changed")
    print("  one changed: ", requests(client.summary("backup", str(data), "--series", "data")))
    client.brings_back(data, "--no-cache")

    others = [Client(program, server, folder / f"other{number}") for number in range(3)]
    datas = [make_data(folder / f"data{number}", 10 + number, files=8) for number in range(3)]
    for _ in range(2):
        running = [other.start("backup", str(data), "--series", data.name) for other, data in zip(others, datas)]
        client.run("forget", "--series", "data", "--keep-last", "1")
        client.run("gc")
        for process in running:
            Client.finish(process, what="a backup beside gc")
    victim = make_data(folder / "victim", 99, files=40)
    process = others[0].start("backup", str(victim), "--series", "victim")
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    others[0].run("backup", str(victim), "--series", "victim")
    client.run("gc")
    for other, data in zip(others, datas):
        other.brings_back(data)
    client.brings_back(victim)
    client.run("check")
    client.run("scrub")
    print("  many clients, one of them killed, beside gc: everything is back")


def replicas(program, server, folder):
    """A replica in another store: its making is interrupted, and only what is missing travels."""
    client = Client(program, server, folder / "client")
    data = make_data(folder / "wide", 5, files=80, size=2 << 20)
    client.run("backup", str(data), "--series", "wide")
    (folder / "second").mkdir()
    second = Moto(folder / "second")
    try:
        place = second.place("replica")
        credentials = {f"ICECORE_TO_{name}": value for name, value in second.environment().items()}
        process = client.start("replicate", "--to", place, **credentials)
        time.sleep(1.5)
        process.send_signal(signal.SIGKILL)
        was_killed = process.wait() != 0
        told = client.summary("replicate", "--to", place, **credentials)
        total = sum(path.stat().st_size for path in data.iterdir())
        print(f"  replica, {'after it was killed once' if was_killed else 'not killed in time'}: {told['bytes_planned']:,} B were missing (its largest folder has {total:,});", requests(told))
        client.run("backup", str(make_data(folder / "new", 6, files=20)), "--series", "new")
        told = client.summary("replicate", "--to", place, **credentials)
        assert told["bytes_sent"] <= 1.02 * told["bytes_planned"], told
        print(f"  what is new: {told['bytes_sent']:,} B sent, {told['bytes_planned']:,} B were missing")
        assert client.summary("replicate", "--to", place, **credentials)["bytes_sent"] == 0
        other = Client(program, second, folder / "other", "replica")
        other.brings_back(data, "--no-cache")
        other.run("scrub")
    finally:
        second.stop()
    print("  the replica has everything")


def without_trust(program, folder):
    """A certificate that nobody vouches for: refused with a way out, which works."""
    (folder / "tls").mkdir()
    server = Moto(folder / "tls", tls=True)
    try:
        client = Client(program, server, folder / "client", "repository")
        process = client.start("init", "--new-key-file", str(folder / "tls-key"))
        _, said = process.communicate()
        assert process.returncode != 0 and "SSL_CERT_FILE" in said, said
        client.run("init", "--new-key-file", str(folder / "tls-key"), SSL_CERT_FILE=str(server.certificate))
    finally:
        server.stop()
    print("  a certificate of its own is refused, and taken once SSL_CERT_FILE names it")


def kill_nodes(program, server, folder):
    """A node of the cluster dies in the middle of each kind of work, and comes back."""
    client = Client(program, server, folder / "client")
    data = make_data(folder / "more", 7, files=60)
    for what, arguments in [
        ("backup", ["backup", str(data), "--series", "more"]),
        ("gc", ["gc"]),
        ("restore", ["restore", "latest", "--series", "more", "--target", str(folder / "restored")]),
    ]:
        if what == "gc":
            client.run("forget", "--series", "data", "--keep-last", "1")
        process = client.start(*arguments)
        time.sleep(0.5)
        server.kill_node(2)
        was_running = process.poll() is None
        output, said = process.communicate()
        if process.returncode != 0:
            print(f"  a node died during {what}: it ended with {process.returncode}: {said.strip()[-300:]}")
            server.start_node(2)
            time.sleep(3)
            client.run(*arguments)
        else:
            print(f"  a node died during {what} ({'running' if was_running else 'it was over already'}): it went on and ended well")
            server.start_node(2)
            time.sleep(3)
        client.run("check")
    same(data, folder / "restored/more")
    client.brings_back(data, "--no-cache")
    print("  nothing is lost")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", default=list(SERVERS), choices=[*SERVERS, []])
    parser.add_argument("--program", default=str(ROOT / "target/release/icecore"))
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    for name in arguments.stores:
        with tempfile.TemporaryDirectory(prefix="icecore-stores-") as folder:
            folder = pathlib.Path(folder)
            print(f"== {name}", flush=True)
            began = time.monotonic()
            server = SERVERS[name].__new__(SERVERS[name])
            try:
                server.__init__(folder)
                life(program, server, folder)
                replicas(program, server, folder)
                if name == "moto":
                    without_trust(program, folder)
                if name == "garage":
                    kill_nodes(program, server, folder)
                if name == "moto":
                    archive(Client(program, server, folder / "client"), server, folder)
                    object_lock(Client(program, server, folder / "other client"), server, folder)
            finally:
                server.stop()
            print(f"== {name} passed in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
