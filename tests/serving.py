"""A real HTTP server on this machine for the download tests, which misbehaves on request."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What the server offers: `files` path -> bytes; `faults` path -> faults to commit first.

    A fault is a status (an int) or "cut" (half the body, then the line goes dead).
    `requests` lists (method, path) of all requests.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.faults: dict[str, list[int | str]] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.url = ""

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

        def answer(self, body):
            path = self.path.partition("?")[0]
            site.requests.append((self.command, path))
            faults = site.faults.get(path)
            fault = faults.pop(0) if faults else None
            if path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = site.files.get(path)
            if isinstance(fault, int) or content is None:
                self.send_response(fault if isinstance(fault, int) else 404)
                for name, value in site.headers.get(f"{path} refused", {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            for name, value in site.headers.get(path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            if body and fault == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif body:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
