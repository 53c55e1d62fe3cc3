"""A publisher of weights on 127.0.0.1, as well behaved or as broken as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Publisher:
    """files: path -> bytes. asked: (path, Range header or None) of every request, in order.

    cut: the next answers break off after so many bytes of body each. status: path -> code to answer instead. redirect: path -> (path, headers).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.cut: list[int] = []
        self.status: dict[str, list[int]] = {}
        self.redirect: dict[str, tuple[str, dict[str, str]]] = {}
        self.ranges = True
        self.lengths = True
        self.delay = threading.Event()
        self.delay.set()
        self.url = ""


@contextmanager
def publisher() -> Iterator[Publisher]:
    """One that listens until the block ends."""
    state = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            state.headers.append(dict(self.headers))
            state.delay.wait(10)
            if codes := state.status.get(self.path):
                self.answer(codes.pop(0), {}, b"")
            elif self.path in state.redirect:
                target, headers = state.redirect[self.path]
                self.answer(302, {"Location": target, **headers}, b"")
            elif (body := state.files.get(self.path)) is None:
                self.answer(404, {}, b"")
            elif wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    self.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                else:
                    self.answer(206, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}, body[start:])
            else:
                self.answer(200, {}, body)

        def answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            for name, value in (({"Content-Length": str(len(body))} if state.lengths else {}) | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: state.cut.pop(0)] if body and state.cut else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
