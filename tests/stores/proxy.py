#!/usr/bin/env python3
"""A store that is far away: passes HTTP requests on to a store nearby, each some milliseconds late, any number beside one another.

    python3 tests/stores/proxy.py 9000 127.0.0.1:3900 50            listens on 9000, 50 ms
    python3 tests/stores/proxy.py 9000 127.0.0.1:3900 50 1000       the same, over a line of 1000 Mbit/s in each direction

At its end (Ctrl-C) it says, in JSON, how many requests of each kind there were, how many of them were under way at once at most, and how many
bytes went to the store and came from it, without heads. Bodies go from socket to socket within the kernel (`splice`), so that little of the machine is
taken away from those that are measured.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter

PIECE = 1 << 20
HEAD_MAX = 1 << 16


class Ended(Exception):
    """The other side closed the connection."""


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
        self.bytes_per_second, self.free_at, self.lock = bytes_per_second, 0.0, threading.Lock()

    def carry(self, size):
        if self.bytes_per_second:
            with self.lock:
                self.free_at = max(time.monotonic(), self.free_at) + size / self.bytes_per_second
                wait = self.free_at - time.monotonic()
            time.sleep(max(wait, 0))


class End:
    """One end of a connection, with what was read of it too early."""

    def __init__(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection, self.early = connection, b""

    def until(self, mark):
        while mark not in self.early:
            more = self.connection.recv(HEAD_MAX)
            if not more or len(self.early) > HEAD_MAX:
                raise Ended
            self.early += more
        found, _, self.early = self.early.partition(mark)
        return found + mark


class Proxy:
    def __init__(self, host, port, delay, bytes_per_second):
        self.store, self.delay = (host, port), delay
        self.there, self.back = Line(bytes_per_second), Line(bytes_per_second)
        self.lock, self.requests = threading.Lock(), Counter()
        self.under_way = self.most = self.sent = self.received = 0

    def serve(self, connection):
        pipe = os.pipe()
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIECE)
            with connection, socket.create_connection(self.store) as to_store:
                client, store = End(connection), End(to_store)
                while True:
                    self.pass_on(client, store, pipe)
        except (Ended, OSError):
            pass
        finally:
            os.close(pipe[0])
            os.close(pipe[1])

    def pass_on(self, client, store, pipe):
        head = client.until(b"\r\n\r\n")
        with self.lock:
            self.requests[kind_of(head)] += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            time.sleep(self.delay)
            if b"100-continue" in head.lower():
                # The store is not asked whether it wants the body: that is one journey less than it might be.
                client.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
            store.connection.sendall(head)
            sent = self.body(head, client, store, self.there, pipe)
            answer = store.until(b"\r\n\r\n")
            client.connection.sendall(answer)
            received = 0
            if not head.startswith(b"HEAD") and int(answer.split()[1]) not in (204, 304):
                received = self.body(answer, store, client, self.back, pipe)
            with self.lock:
                self.sent += sent
                self.received += received
        finally:
            with self.lock:
                self.under_way -= 1

    @classmethod
    def body(cls, head, source, target, line, pipe):
        """Passes a body on, and gives its size."""
        fields = dict(field.lower().split(b":", 1) for field in head.split(b"\r\n")[1:] if b":" in field)
        if b"chunked" not in fields.get(b"transfer-encoding", b""):
            total = int(fields.get(b"content-length", b"0"))
            cls.stretch(total, source, target, line, pipe)
            return total
        total = 0
        while True:
            length = source.until(b"\r\n")
            size = int(length.split(b";")[0], 16)
            target.connection.sendall(length)
            cls.stretch(size + 2, source, target, line, pipe)
            if size == 0:
                return total
            total += size

    @staticmethod
    def stretch(left, source, target, line, pipe):
        """Passes so many bytes on."""
        early, source.early = source.early[:left], source.early[left:]
        line.carry(len(early))
        target.connection.sendall(early)
        left -= len(early)
        while left:
            size = os.splice(source.connection.fileno(), pipe[1], min(left, PIECE))
            if not size:
                raise Ended
            left -= size
            line.carry(size)
            while size:
                size -= os.splice(pipe[0], target.connection.fileno(), size)

    def told(self):
        return {"requests": self.requests, "most": self.most, "sent": self.sent, "received": self.received}


def main():
    port, (host, to), delay = int(sys.argv[1]), sys.argv[2].split(":"), float(sys.argv[3]) / 1000
    megabits = float(sys.argv[4]) if len(sys.argv) > 4 else 0
    proxy = Proxy(host, int(to), delay, megabits * 1e6 / 8)
    listener = socket.create_server(("127.0.0.1", port), backlog=256)

    def listen():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=proxy.serve, args=(connection,), daemon=True).start()

    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    threading.Thread(target=listen, daemon=True).start()
    signal.sigwait(ends)
    print(json.dumps(proxy.told()), flush=True)


if __name__ == "__main__":
    main()
