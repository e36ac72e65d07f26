"""A real HTTP server on this machine for the download tests, which misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What the server offers: `files` path -> bytes; `faults` path -> faults to commit first.

    A fault is a status (an int) or one of
        "cut"       half of what was asked for, then the line goes dead
        "stall"     half of it, then nothing more until the server is closed
        "whole"     the range asked for is ignored
        "elsewhere" another range than the one asked for
        "long"      more bytes are announced than come
        "short"     fewer bytes are announced and sent than the file has
        "unasked"   a part (206), though the whole was asked for
    `requests` lists (method, path) of all requests, `ranges` the Range header of each.
    As a proxy it answers `http://any.host/path` under that whole address.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.faults: dict[str, list[int | str]] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str | None] = []
        self.etags = True
        self.url = ""
        self.closing = threading.Event()

    def count(self, path: str) -> int:
        return sum(asked == path for _, asked in self.requests)


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    """Serve a `Site` on a free port of the loopback interface."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def refuse(self, status, headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, body):
            path = self.path.partition("?")[0]
            site.requests.append((self.command, path))
            site.ranges.append(self.headers.get("Range"))
            faults = site.faults.get(path)
            fault = faults.pop(0) if faults else None
            content = site.files.get(path)
            if path in site.redirects:
                self.refuse(302, {"Location": site.redirects[path]})
            elif isinstance(fault, int) or content is None:
                status = fault if isinstance(fault, int) else 404
                self.refuse(status, site.headers.get(f"{path} refused", {}))
            else:
                self.send(path, content, fault, body)

        def send(self, path, content, fault, body):
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            size, start = len(content), 0
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and self.headers.get("If-Range", etag) == etag and fault != "whole":
                start = int(asked[1])
                if start >= size:
                    return self.refuse(416, {"Content-Range": f"bytes */{size}"})
            if fault == "elsewhere":
                start += 1
            part = content[start:]
            if fault == "short":
                part = part[: len(part) // 2]
            self.send_response(206 if start or fault == "unasked" else 200)
            if start or fault == "unasked":
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Content-Length", str(len(part) + 10 * (fault == "long")))
            if site.etags:
                self.send_header("ETag", etag)
            for name, value in site.headers.get(path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return None
            self.close_connection = fault is not None
            with contextlib.suppress(ConnectionError):
                self.wfile.write(part[: len(part) // 2] if fault in ("cut", "stall") else part)
                if fault == "stall":
                    self.wfile.flush()
                    site.closing.wait(20)
            return None

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # clients that hang up are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
