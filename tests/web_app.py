"""The school's web app as the notifications see it: takes them, checks who speaks, answers as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass
class WebApp:
    """What was received.

    Attributes:
        url: where notifications go.
        secret: with which they must be signed.
        answers: statuses for the next requests; afterwards 204.
        received: bodies that came with a valid signature and were answered 2xx.
        ids: the ids of all requests, in order.
    """

    url: str
    secret: str
    answers: list[int] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Check a request and choose its answer; raises if the signature is wrong."""
        message = Webhook(self.secret).verify(body, headers)
        self.ids.append(headers["webhook-id"])
        self.headers.append(headers)
        status = self.answers.pop(0) if self.answers else 204
        if status < 300:
            self.received.append(message)
        return status

    def types(self) -> list[str]:
        """The types of what was received, in order."""
        return [message["type"] for message in self.received]


@contextmanager
def listening_web_app(secret: str) -> Iterator[WebApp]:
    """A web app on a free port."""
    app: WebApp

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            try:
                status = app.take({name.lower(): value for name, value in self.headers.items()}, body)
            except Exception:
                status = 400
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("location", app.url + "elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        app = WebApp(f"http://127.0.0.1:{server.server_port}/zoom/", secret)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield app
        finally:
            server.shutdown()
            thread.join()
