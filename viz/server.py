"""The viewer's local server: the page, and what it asks for. On 127.0.0.1, for whoever has the token in the URL."""

import gzip
import hmac
import json
import secrets
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, runtime_checkable
from urllib.parse import parse_qs, urlsplit

from sim.errors import WhiskerError

HOST = "127.0.0.1"
# Under these names a browser reaches this machine, also through a forwarded port; any other is a page elsewhere that
# had its own name resolved to here (DNS rebinding).
_OWN_NAMES = {HOST, "localhost"}
_MOST_BODY_BYTES = 100_000
# Comments on an event stream, so that a page that is gone is noticed.
_KEEP_ALIVE_S = 10.0


@runtime_checkable
class PageSource(Protocol):
    """Where the page's data comes from. Called from many threads."""

    def page(self) -> dict: ...

    def scene(self, task: str) -> dict:
        """Raises WhiskerError: no such task."""

    def episode(self, key: str) -> dict:
        """Raises WhiskerError: no such episode, or it cannot be read."""

    def plan(self, key: str, prediction: int) -> dict:
        """Return the paths of a prediction's plans, where the episode came without them.

        Raises:
            WhiskerError: there is no such prediction, or it cannot be read.
        """

    def images(self, key: str, prediction: int) -> dict:
        """Return what the cameras showed at a prediction, where the episode came without it.

        Raises:
            WhiskerError: there is no such prediction, or it cannot be read.
        """

    def command(self, command: dict) -> None:
        """Raises WhiskerError: it cannot be done."""

    def events(self, wait_s: float) -> Iterator[tuple[str, dict] | None]:
        """Name and content of everything that happens from now on; None when nothing did for that long."""


class ViewerServer(ThreadingHTTPServer):
    """Serves until `shutdown`."""

    daemon_threads = True

    def __init__(self, source: PageSource, html: str, port: int = 0) -> None:
        """Args:
        port: 0: one that is free.

        Raises:
            WhiskerError: the port is in use.
        """
        self.source, self.html = source, html.encode()
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise WhiskerError(
                f"port {port}", expected="a free one", got=str(error), do="Give another --port, or none: one is found."
            ) from error

    def close(self) -> None:
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that was closed in the middle of an answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        source = self.server.source
        match url.path:
            case "/" if self._is_allowed(query.get("token", "")):
                self._send(HTTPStatus.OK, self.server.html, "text/html; charset=utf-8")
            case "/favicon.ico":
                self._send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
            case "/":
                self._refuse("The link needs its token: open the one that `whiskers` printed.")
            case _ if not self._is_allowed(self.headers.get("X-Whisker-Token", "")):
                self._refuse("no token, or another server's")
            case "/api/page":
                self._answer(source.page)
            case "/api/scene":
                self._answer(lambda: source.scene(query.get("task", "")))
            case "/api/episode":
                self._answer(lambda: source.episode(query.get("key", "")))
            case "/api/plan":
                self._answer(lambda: source.plan(query.get("key", ""), _index(query)))
            case "/api/images":
                self._answer(lambda: source.images(query.get("key", ""), _index(query)))
            case "/api/events":
                self._stream(source)
            case _:
                self._send_json(HTTPStatus.NOT_FOUND, {"error": f"no {url.path} here"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MOST_BODY_BYTES:
            self.close_connection = True
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "a command is a short JSON object"})
            return
        body = self.rfile.read(int(length))
        if not self._is_allowed(self.headers.get("X-Whisker-Token", "")):
            self._refuse("no token, or another server's")
        elif urlsplit(self.path).path != "/api/command":
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"no {self.path} here"})
        else:
            self._answer(lambda: self._command(body))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the terminal is for what the person there has to know."""

    def _is_allowed(self, token: str) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return host in _OWN_NAMES and hmac.compare_digest(token.encode(), self.server.token.encode())

    def _command(self, body: bytes) -> dict:
        """Empty, or what was refused: for a command that is an answer, not a fault."""
        try:
            command = json.loads(body)
        except ValueError:
            command = None
        if not isinstance(command, dict):
            return {"error": "a command is a short JSON object"}
        try:
            self.server.source.command(command)
        except WhiskerError as error:
            return {"error": str(error)}
        return {}

    def _answer(self, ask) -> None:
        try:
            self._send_json(HTTPStatus.OK, ask())
        except WhiskerError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _stream(self, source: PageSource) -> None:
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        try:
            for event in source.events(_KEEP_ALIVE_S):
                text = ":\n\n" if event is None else f"event: {event[0]}\ndata: {dump_json(event[1])}\n\n"
                self.wfile.write(text.encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # the page was closed

    def _refuse(self, message: str) -> None:
        self._send_json(HTTPStatus.FORBIDDEN, {"error": message})

    def _send_json(self, status: HTTPStatus, content: dict) -> None:
        self._send(status, dump_json(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        # Through a forwarded port over a slow line this is what one waits for.
        packed = gzip.compress(body, compresslevel=5) if len(body) > 2000 else None
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if packed is not None:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed or body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(packed or body)


def _index(query: dict[str, str]) -> int:
    """Return the index of a prediction that was asked about."""
    text = query.get("prediction", "")
    if not text.isdecimal():
        raise WhiskerError("a prediction", expected="its index", got=repr(text))
    return int(text)


def dump_json(content: object) -> str:
    """Strict: a nan, which Python would write as no JSON at all, is an error."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
