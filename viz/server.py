"""The viewer's local server: the page, and what it asks for.

On 127.0.0.1, for whoever has the token in the URL.
"""

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
# Under these names a browser reaches this machine, also through a forwarded port; any other is a
# page elsewhere that had its own name resolved to here (DNS rebinding).
_OWN_NAMES = {HOST, "localhost"}
_MOST_BODY_BYTES = 100_000
# Comments on an event stream, so that a page that is gone is noticed.
_KEEP_ALIVE_S = 10.0
# Without an origin of its own: the token in its address is of no use to it.
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-modals allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; media-src data:"
)


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


@runtime_checkable
class GrowingSource(PageSource, Protocol):
    """A source of recorded episodes, which become more while their run goes on."""

    def rows(self, after: int) -> dict:
        """The rows that were written after the first `after` of them.

        Raises WhiskerError: they cannot be read.
        """


@runtime_checkable
class ReportedSource(PageSource, Protocol):
    """A source of a run that may have a report."""

    def report(self) -> bytes:
        """Raises WhiskerError: the run has no report."""


@runtime_checkable
class RunSources(Protocol):
    """Several runs. Each request says which one it is about. Called from many threads."""

    def listing(self) -> dict: ...

    def open(self, run: str) -> PageSource:
        """Raises WhiskerError: no such run."""

    def report(self, run: str) -> bytes:
        """Raises WhiskerError: no such run, or it has no report."""


class ViewerServer(ThreadingHTTPServer):
    """Serves until `shutdown`."""

    daemon_threads = True

    def __init__(self, source: PageSource | RunSources, html: str, port: int = 0) -> None:
        """Args:
        source: of one run, or of several.
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
                f"port {port}",
                expected="a free one",
                got=str(error),
                hint="Give another --port, or none: one is found.",
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
        run = query.get("run", "")
        match url.path:
            case "/" if self._is_allowed(query.get("token", "")):
                self._send(HTTPStatus.OK, self.server.html, "text/html; charset=utf-8")
            case "/favicon.ico":
                self._send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
            case "/report" if self._is_allowed(query.get("token", "")):
                self._send_report(run)
            case "/" | "/report":
                self._refuse("The link needs its token: open the one that `whiskers` printed.")
            case _ if not self._is_allowed(self.headers.get("X-Whisker-Token", "")):
                self._refuse("no token, or another server's")
            case "/api/runs":
                self._answer(lambda: self._runs().listing())
            case "/api/page":
                self._answer(lambda: self._source(run).page())
            case "/api/rows":
                self._answer(lambda: self._rows(run, query.get("after", "")))
            case "/api/scene":
                self._answer(lambda: self._source(run).scene(query.get("task", "")))
            case "/api/episode":
                self._answer(lambda: self._source(run).episode(query.get("key", "")))
            case "/api/plan":
                self._answer(lambda: self._source(run).plan(query.get("key", ""), _index(query)))
            case "/api/images":
                self._answer(lambda: self._source(run).images(query.get("key", ""), _index(query)))
            case "/api/events":
                self._stream(run)
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
        elif (url := urlsplit(self.path)).path != "/api/command":
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"no {self.path} here"})
        else:
            run = parse_qs(url.query).get("run", [""])[0]
            self._answer(lambda: self._command(run, body))

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the terminal is for what the person there has to know."""

    def _is_allowed(self, token: str) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return host in _OWN_NAMES and hmac.compare_digest(
            token.encode(), self.server.token.encode()
        )

    def _source(self, run: str) -> PageSource:
        """Return the source of the run that the request names, or that of the only run."""
        source = self.server.source
        return source.open(run) if isinstance(source, RunSources) else source

    def _runs(self) -> RunSources:
        if not isinstance(self.server.source, RunSources):
            raise WhiskerError("the list of runs", expected="a folder of runs", got="a single run")
        return self.server.source

    def _rows(self, run: str, after: str) -> dict:
        source = self._source(run)
        if not isinstance(source, GrowingSource) or not after.isdecimal():
            raise WhiskerError(
                "further rows", expected="a recorded run, and how many rows are known"
            )
        return source.rows(int(after))

    def _read_report(self, run: str) -> bytes:
        source = self.server.source
        return source.report() if isinstance(source, ReportedSource) else self._runs().report(run)

    def _send_report(self, run: str) -> None:
        try:
            report = self._read_report(run)
        except WhiskerError as error:
            self._send(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain; charset=utf-8")
        else:
            # It came with the run folder, from whomever: it may run, but not ask this server for
            # anything.
            self._send(HTTPStatus.OK, report, "text/html; charset=utf-8", _REPORT_POLICY)

    def _command(self, run: str, body: bytes) -> dict:
        """Empty, or what was refused: for a command that is an answer, not a fault."""
        try:
            command = json.loads(body)
        except ValueError:
            command = None
        if not isinstance(command, dict):
            return {"error": "a command is a short JSON object"}
        try:
            self._source(run).command(command)
        except WhiskerError as error:
            return {"error": str(error)}
        return {}

    def _answer(self, ask) -> None:
        try:
            self._send_json(HTTPStatus.OK, ask())
        except WhiskerError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _stream(self, run: str) -> None:
        try:
            source = self._source(run)
        except WhiskerError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
            return
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        try:
            for event in source.events(_KEEP_ALIVE_S):
                text = (
                    ":\n\n"
                    if event is None
                    else f"event: {event[0]}\ndata: {dump_json(event[1])}\n\n"
                )
                self.wfile.write(text.encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # the page was closed

    def _refuse(self, message: str) -> None:
        self._send_json(HTTPStatus.FORBIDDEN, {"error": message})

    def _send_json(self, status: HTTPStatus, content: dict) -> None:
        self._send(status, dump_json(content).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str, policy: str = "") -> None:
        """Args:
        policy: what the page may do, as Content-Security-Policy has it; "": what it says itself.
        """
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
        if policy:
            self.send_header("Content-Security-Policy", policy)
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
