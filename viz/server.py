"""Serves the viewer's page and its data on 127.0.0.1. A request needs the token of the URL."""

import gzip
import hmac
import json
import secrets
import sys
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, parse_qs, urlsplit

from sim.errors import WhiskerError
from viz.page_source import GrowingSource, PageSource, ReportedSource, RunSources

HOST = "127.0.0.1"
# A browser reaches this machine under these names, also through a forwarded port. With any other
# name, a foreign page has resolved its own name to this machine (DNS rebinding).
_OWN_NAMES = {HOST, "localhost"}
_MAX_BODY_BYTES = 100_000
_MIN_COMPRESSED_BYTES = 2000
# Interval of comments on an event stream, by which a closed page is noticed.
_KEEP_ALIVE_S = 10.0
# The sandbox gives the report no origin of its own, so that it cannot use the token in its address.
_REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-modals allow-downloads; "
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data:"
)
_HTML = "text/html; charset=utf-8"
_NOT_A_COMMAND = {"error": "a command is a short JSON object"}
_WRONG_TOKEN = "The request has no token, or that of another server."

# The first value of each field of the query; "" for other fields.
type _Query = defaultdict[str, str]


class ViewerServer(ThreadingHTTPServer):
    """Serves one run or several until `shutdown`."""

    daemon_threads = True

    def __init__(
        self,
        source: PageSource | RunSources,
        html: str,
        port: int = 0,
    ) -> None:
        """Open the port.

        Args:
            source: the source of one run, or of several.
            html: the page.
            port: the port; 0: any free one.

        Raises:
            WhiskerError: the port is in use.
        """
        self.source = source
        self.html = html.encode()
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise WhiskerError(
                f"port {port}",
                expected="a free one",
                got=str(error),
                hint="Give another --port, or none to use any free one.",
            ) from error

    def close(self) -> None:
        """Close the port."""
        self.server_close()

    def handle_error(
        self,
        request: object,
        client_address: object,
    ) -> None:
        """Ignore pages that were closed during an answer, and print any other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Return the URL of the page, with its token."""
        return f"http://{HOST}:{self.port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = _parse_query(url)
        path = url.path
        if path == "/favicon.ico":
            self._send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
        elif path in ("/", "/report"):
            self._send_html(path, query)
        elif not self._has_token_header():
            self._refuse(_WRONG_TOKEN)
        elif path == "/api/events":
            self._stream(query)
        elif path == "/api/runs":
            self._answer(lambda: self.runs().listing())
        elif path in _ANSWERS_ON_PAIRS:
            self._answer(lambda: _ANSWERS_ON_PAIRS[path](self.runs(), query))
        elif path in _ANSWERS:
            self._answer(lambda: _ANSWERS[path](self.source_of(query), query))
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"no {path} here"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            self._send_json(HTTPStatus.BAD_REQUEST, _NOT_A_COMMAND)
            return
        body = self.rfile.read(int(length))
        url = urlsplit(self.path)
        if not self._has_token_header():
            self._refuse(_WRONG_TOKEN)
        elif url.path != "/api/command":
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"no {self.path} here"})
        else:
            self._answer(lambda: self._command(_parse_query(url), body))

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing, since the terminal is for messages to the user."""

    def _has_token_header(self) -> bool:
        return self._is_allowed(self.headers.get("X-Whisker-Token", ""))

    def _is_allowed(self, token: str) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        is_right = hmac.compare_digest(token.encode(), self.server.token.encode())
        return host in _OWN_NAMES and is_right

    def source_of(self, query: _Query) -> PageSource:
        """Return the source of the run that the request names, or of the only run."""
        source = self.server.source
        if isinstance(source, RunSources):
            return source.open(query["run"])
        return source

    def runs(self) -> RunSources:
        """Return the source of all runs."""
        if not isinstance(self.server.source, RunSources):
            raise WhiskerError("the list of runs", expected="a folder of runs", got="a single run")
        return self.server.source

    def _send_html(
        self,
        path: str,
        query: _Query,
    ) -> None:
        if not self._is_allowed(query["token"]):
            self._refuse("The link needs its token: open the one that `whiskers` printed.")
        elif path == "/report":
            self._send_report(query)
        else:
            self._send(HTTPStatus.OK, self.server.html, _HTML)

    def _read_report(self, query: _Query) -> bytes:
        source = self.server.source
        if isinstance(source, ReportedSource):
            return source.report()
        return self.runs().report(query["run"])

    def _send_report(self, query: _Query) -> None:
        """Send a run's report. Anyone may have written it, so it must not ask this server."""
        try:
            report = self._read_report(query)
        except WhiskerError as error:
            self._send(HTTPStatus.NOT_FOUND, str(error).encode(), "text/plain; charset=utf-8")
        else:
            self._send(HTTPStatus.OK, report, _HTML, _REPORT_POLICY)

    def _command(
        self,
        query: _Query,
        body: bytes,
    ) -> dict:
        """Start a command, and return the empty answer, or the error that refused it."""
        try:
            command = json.loads(body)
        except ValueError:
            return _NOT_A_COMMAND
        if not isinstance(command, dict):
            return _NOT_A_COMMAND
        try:
            self.source_of(query).command(command)
        except WhiskerError as error:
            return {"error": str(error)}
        return {}

    def _answer(self, ask: Callable[[], dict]) -> None:
        try:
            self._send_json(HTTPStatus.OK, ask())
        except WhiskerError as error:
            self._send_json(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})

    def _stream(self, query: _Query) -> None:
        try:
            source = self.source_of(query)
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
                self.wfile.write(_format_event(event).encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # The page was closed.

    def _refuse(self, message: str) -> None:
        self._send_json(HTTPStatus.FORBIDDEN, {"error": message})

    def _send_json(
        self,
        status: HTTPStatus,
        content: dict,
    ) -> None:
        self._send(status, dump_json(content).encode(), "application/json")

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        content_type: str,
        policy: str = "",
    ) -> None:
        """Send an answer.

        Args:
            status: the status.
            body: the content.
            content_type: its type.
            policy: the Content-Security-Policy; "": the one in the page itself.
        """
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if len(body) > _MIN_COMPRESSED_BYTES:
            # Through a forwarded port on a slow line, the transfer takes most of the time.
            body = gzip.compress(body, compresslevel=5)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if policy:
            self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        self.wfile.write(body)


def _parse_query(url: SplitResult) -> _Query:
    fields = parse_qs(url.query).items()
    return defaultdict(str, {name: values[0] for name, values in fields})


def _parse_prediction(query: _Query) -> int:
    """Return the index of the prediction that a request names."""
    text = query["prediction"]
    if not text.isdecimal():
        raise WhiskerError("a prediction", expected="its index", got=repr(text))
    return int(text)


def _find_rows(source: PageSource, query: _Query) -> dict:
    """Return the rows that the page does not have yet."""
    n_known = query["after"]
    if not isinstance(source, GrowingSource) or not n_known.isdecimal():
        raise WhiskerError("further rows", expected="a recorded run, and the number of known rows")
    return source.rows(int(n_known))


# Path → answer to a GET request about one run.
_ANSWERS: dict[str, Callable[[PageSource, _Query], dict]] = {
    "/api/page": lambda source, query: source.page(),
    "/api/rows": _find_rows,
    "/api/scene": lambda source, query: source.scene(query["task"]),
    "/api/episode": lambda source, query: source.episode(query["key"]),
    "/api/plan": lambda source, query: source.plan(query["key"], _parse_prediction(query)),
    "/api/images": lambda source, query: source.images(query["key"], _parse_prediction(query)),
}

# Path → answer to a GET request about two runs.
_ANSWERS_ON_PAIRS: dict[str, Callable[[RunSources, _Query], dict]] = {
    "/api/compare": lambda runs, query: runs.compare(query["run"], query["against"]),
    "/api/other_episode": lambda runs, query: runs.other_episode(
        query["run"], query["against"], query["key"]
    ),
}


def _format_event(event: tuple[str, dict] | None) -> str:
    """Return an event, or a comment for None, in the format of an event stream."""
    if event is None:
        return ":\n\n"
    name, content = event
    return f"event: {name}\ndata: {dump_json(content)}\n\n"


def dump_json(content: object) -> str:
    """Return strict JSON. A nan raises, since Python would write it as invalid JSON."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)
