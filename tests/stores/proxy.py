#!/usr/bin/env python3
"""A store that is far away: passes HTTP requests on to a store nearby, each some milliseconds late, any number beside one another.

    python3 tests/stores/proxy.py 9000 127.0.0.1:3900 50            listens on 9000, 50 ms
    python3 tests/stores/proxy.py 9000 127.0.0.1:3900 50 1000       the same, over a line of 1000 Mbit/s in each direction

At its end (Ctrl-C) it says, in JSON, how many requests of each kind there were, how many of them were under way at once at most, and how many
bytes went to the store and came from it, without heads.
"""

import asyncio
import json
import signal
import sys
from collections import Counter


def kind_of(head):
    """As stores bill it: listing is a GET that costs as much as a PUT."""
    method, target = head.split(b" ", 2)[:2]
    query = target.partition(b"?")[2]
    if method == b"GET" and (b"list-type=" in query or b"prefix=" in query or query.startswith(b"uploads")):
        return "LIST"
    return method.decode("ascii", "replace")


class Line:
    """One direction of the line, which all requests share. Nothing waits where it has no rate."""

    def __init__(self, bytes_per_second):
        self.bytes_per_second, self.free_at = bytes_per_second, 0.0

    async def carry(self, size):
        if self.bytes_per_second:
            now = asyncio.get_running_loop().time()
            self.free_at = max(now, self.free_at) + size / self.bytes_per_second
            await asyncio.sleep(self.free_at - now)


class Proxy:
    def __init__(self, host, port, delay, bytes_per_second):
        self.host, self.port, self.delay = host, port, delay
        self.there, self.back = Line(bytes_per_second), Line(bytes_per_second)
        self.requests = Counter()
        self.under_way = self.most = self.sent = self.received = 0

    async def serve(self, client, to_client):
        store, to_store = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        try:
            while True:
                head = await client.readuntil(b"\r\n\r\n")
                self.requests[kind_of(head)] += 1
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                try:
                    await asyncio.sleep(self.delay)
                    if b"100-continue" in head.lower():
                        # The store is not asked whether it wants the body: that is one journey less than it might be.
                        to_client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        lines = head.split(b"\r\n")
                        head = b"\r\n".join(line for line in lines if not line.lower().startswith(b"expect:"))
                    to_store.write(head)
                    size = await self.body(head, client, to_store, self.there)
                    self.sent += size
                    await to_store.drain()
                    answer = await store.readuntil(b"\r\n\r\n")
                    to_client.write(answer)
                    status = int(answer.split()[1])
                    if not head.startswith(b"HEAD") and status not in (204, 304):
                        size = await self.body(answer, store, to_client, self.back)
                        self.received += size
                    await to_client.drain()
                finally:
                    self.under_way -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            to_client.close()
            to_store.close()

    @staticmethod
    async def body(head, source, target, line):
        """Passes a body on, and gives its size."""
        fields = dict(field.lower().split(b":", 1) for field in head.split(b"\r\n")[1:] if b":" in field)
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            total = 0
            while True:
                length = await source.readuntil(b"\r\n")
                size = int(length.split(b";")[0], 16)
                target.write(length + await source.readexactly(size + 2))
                await line.carry(size)
                await target.drain()
                if size == 0:
                    return total
                total += size
        total = left = int(fields.get(b"content-length", b"0"))
        while left:
            data = await source.read(min(left, 1 << 18))
            if not data:
                raise ConnectionError
            target.write(data)
            await line.carry(len(data))
            await target.drain()
            left -= len(data)
        return total

    def told(self):
        return {"requests": self.requests, "most": self.most, "sent": self.sent, "received": self.received}


async def main():
    port, (host, to), delay = int(sys.argv[1]), sys.argv[2].split(":"), float(sys.argv[3]) / 1000
    megabits = float(sys.argv[4]) if len(sys.argv) > 4 else 0
    proxy = Proxy(host, int(to), delay, megabits * 1e6 / 8)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port, limit=1 << 20)
    over = asyncio.Event()
    for end in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(end, over.set)
    async with server:
        await over.wait()
    print(json.dumps(proxy.told()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
