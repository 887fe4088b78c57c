#!/usr/bin/env python3
"""Google Cloud Storage as its XML interface has it, in front of an S3 server: what differs between the two, and icecore uses, is translated.

    python3 tests/stores/google.py 9000 127.0.0.1:5000

Objects have generations, conditions speak of these, headers are called `x-goog-...`, and nothing is signed. There is no emulator of this
interface in a package; what it cannot show is how Google lets in who signs, and what Google itself does.
"""

import http.client
import http.server
import sys
import zlib

# The store checks no signature, but wants to know who asks.
SIGNED = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
LEFT_OUT = ("authorization", "connection", "transfer-encoding", "content-length", "host", "server", "date")


def generation(etag):
    """A number that changes with the bytes; never 0, which stands for no object."""
    return str((1 << 32) + zlib.crc32(etag.encode()))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store = ""

    def ask(self, method, body=None, headers=()):
        connection = http.client.HTTPConnection(self.store)
        try:
            connection.request(method, self.path, body, {**dict(headers), "Authorization": SIGNED})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def generation_there(self):
        status, headers, _ = self.ask("HEAD")
        return generation(dict(headers).get("ETag", "")) if status == 200 else "0"

    def serve(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in LEFT_OUT}
        wanted = headers.pop("x-goog-if-generation-match", None)
        if wanted == "0" and self.command == "PUT":
            # The store decides itself between two who come at the same time.
            headers["If-None-Match"] = "*"
        elif wanted is not None and self.generation_there() != wanted:
            return self.answer(412, [], b"<Error><Code>PreconditionFailed</Code><Message>the generation is another one</Message></Error>")
        translated = {name.replace("x-goog-", "x-amz-"): value for name, value in headers.items()}
        self.answer(*self.ask(self.command, body, translated.items()))

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in LEFT_OUT:
                self.send_header(name.lower().replace("x-amz-", "x-goog-"), value)
            if name.lower() == "etag":
                self.send_header("x-goog-generation", generation(value))
        length = dict((name.lower(), value) for name, value in headers).get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("content-length", length)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    Handler.store = sys.argv[2]
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
