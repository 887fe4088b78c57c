#!/usr/bin/env python3
"""What 50 milliseconds on each request cost: backup and restore against a bulk client (boto3) at equal parallelism, through `proxy.py`.

    python3 tests/stores/far.py [--program target/release/icecore] [--mebibytes 256]

Needs boto3, which moto brings: run it with target/stores/moto/bin/python. The store is moto unless --garage is given.
"""

import argparse
import io
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

import servers
from servers import ROOT, free_port, wait_for
from stores import Client, make_data, requests

PARALLEL = 16


def bulk(endpoint, environment, total, part=8 << 20):
    """Seconds that sending and fetching the same bytes takes in parts of 8 MiB, 16 at once."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
        config=Config(max_pool_connections=PARALLEL),
    )
    keys = [f"bulk/{number}" for number in range(total // part)]
    bytes_of_part = bytes(part)
    took = []
    for act in (
        lambda key: client.put_object(Bucket="bucket", Key=key, Body=io.BytesIO(bytes_of_part)),
        lambda key: client.get_object(Bucket="bucket", Key=key)["Body"].read(),
    ):
        began = time.monotonic()
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(act, keys))
        took.append(time.monotonic() - began)
    return took


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/icecore"))
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--milliseconds", type=int, default=50)
    parser.add_argument("--garage", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="icecore-far-") as folder:
        folder = pathlib.Path(folder)
        kind = servers.Garage if arguments.garage else servers.Moto
        server, far = kind.__new__(kind), None
        try:
            server.__init__(folder)
            near = server.environment()
            port = free_port()
            proxy = [sys.executable, str(pathlib.Path(__file__).with_name("proxy.py")), str(port), near["AWS_ENDPOINT_URL"].removeprefix("http://")]
            far = subprocess.Popen([*proxy, str(arguments.milliseconds)], stdout=subprocess.PIPE, text=True)
            wait_for(port, "the proxy")
            server.environment = lambda: {**near, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            data = make_data(folder / "data", 1, files=arguments.mebibytes, size=2 << 20)
            total = sum(path.stat().st_size for path in data.iterdir())
            sent, fetched = bulk(f"http://127.0.0.1:{port}", near, total)
            rate = lambda seconds: f"{total / seconds / (1 << 20):.0f} MiB/s in {seconds:.1f} s"
            print(f"bulk client: sent at {rate(sent)}, fetched at {rate(fetched)}")
            client = Client(str(pathlib.Path(arguments.program).resolve()), server, folder / "client")
            client.run("init", "--new-key-file", str(folder / "key"))
            began = time.monotonic()
            told = client.summary("backup", str(data), "--series", "data")
            print(f"backup:  {rate(time.monotonic() - began)}; {requests(told)}")
            for name, more in [("restore", []), ("restore --threads 2", ["--threads", "2"])]:
                with tempfile.TemporaryDirectory(dir=folder) as target:
                    began = time.monotonic()
                    told = client.summary("restore", "latest", "--target", target, "--no-cache", *more)
                    print(f"{name}: {rate(time.monotonic() - began)}; {requests(told)}")
            began = time.monotonic()
            told = client.summary("snapshots")
            print(f"snapshots: {time.monotonic() - began:.1f} s; {requests(told)}")
            far.send_signal(signal.SIGINT)
            print(f"all of it through the proxy: {far.communicate()[0].strip()}")
        finally:
            if far is not None and far.poll() is None:
                far.kill()
            server.stop()


if __name__ == "__main__":
    main()
