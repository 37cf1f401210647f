"""The viewer's server answers the requests of its page and refuses those of others."""

import gzip
import http.client
import json
import threading
from contextlib import closing, contextmanager

import pytest

from sim.errors import WhiskerError
from viz.server import ViewerServer


class Source:
    """A source that records the commands that it receives."""

    def __init__(self):
        self.commands = []

    def page(self):
        return {"kind": "test"}

    def scene(self, task):
        return {"task": task, "long": "x" * 10_000}

    def episode(self, key):
        raise WhiskerError(f"episode {key!r}", expected="another")

    def plan(self, key, prediction):
        return {"path": [key, prediction]}

    def images(self, key, prediction):
        return {"wrist_cam": [key, prediction]}

    def command(self, command):
        if command.get("command") == "fly":
            raise WhiskerError("command 'fly'", expected="step")
        self.commands.append(command)

    def events(self, wait_s):
        yield "status", {"state": "paused"}
        yield None
        yield "part", {"key": "a/1"}


@contextmanager
def serving(source):
    """Serve a source in a thread."""
    with closing(ViewerServer(source, "<p>page</p>")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server():
    with serving(Source()) as server:
        yield server


@contextmanager
def answer(server, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(
        method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    yield connection.getresponse()
    connection.close()


def status_of(server, path, *request, **headers):
    with answer(server, path, *request, **headers) as response:
        return response.status


def answer_with_token(server, path, *request, **headers):
    return answer(
        server,
        path,
        *request,
        X_Whisker_Token=server.token,
        **headers,
    )


def ask(server, path, *request):
    with answer_with_token(server, path, *request) as response:
        content = response.read()
        if response.headers["Content-Encoding"] == "gzip":
            content = gzip.decompress(content)
        return response.status, json.loads(content)


def command(server, body):
    return ask(server, "/api/command", "POST", body)


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/?token={server.token}"


def test_the_page_comes_for_the_token_only(server):
    with answer(server, f"/?token={server.token}") as response:
        assert response.status == 200
        assert response.read() == b"<p>page</p>"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    for path in ("/", "/?token=", "/?token=wrong", "/?token=%F0"):
        with answer(server, path) as response:
            assert response.status == 403
            assert b"token" in response.read()


@pytest.mark.parametrize(
    "path",
    [
        "/api/page?",
        "/api/scene?task=a",
        "/api/episode?key=a",
        "/api/plan?key=a&prediction=0",
        "/api/images?key=a&prediction=0",
        "/api/events?",
        "/anything?",
    ],
)
def test_nothing_is_told_without_the_token(server, path):
    assert status_of(server, path) == 403
    for token in ("wrong", ""):
        assert status_of(server, path, X_Whisker_Token=token) == 403
    # A token in a link is not enough for data, since a page elsewhere could make a browser follow
    # the link.
    assert status_of(server, f"{path}&token={server.token}") == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        # A forwarded port is another and fine.
        ("localhost:9000", 200),
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
    ],
)
def test_a_name_that_was_resolved_to_here_is_refused(server, host, status):
    with answer_with_token(server, "/api/page", Host=host) as response:
        assert response.status == status


def test_data_is_told_and_packed_when_long(server):
    assert ask(server, "/api/page") == (200, {"kind": "test"})
    status, scene = ask(server, "/api/scene?task=pick%20it")
    assert status == 200
    assert scene["task"] == "pick it"
    assert len(scene["long"]) == 10_000
    with answer_with_token(server, "/api/scene?task=a") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(response.read()) < 500


def test_what_cannot_be_done_is_one_message(server):
    assert ask(server, "/api/episode?key=b/2") == (
        422,
        {"error": "episode 'b/2': expected another."},
    )
    assert ask(server, "/api/nothing")[0] == 404


def test_a_prediction_is_asked_about_by_its_index(server):
    assert ask(server, "/api/plan?key=a%2F1&prediction=12") == (200, {"path": ["a/1", 12]})
    assert ask(server, "/api/images?key=a%2F1&prediction=0") == (200, {"wrist_cam": ["a/1", 0]})
    for query in ("key=a", "key=a&prediction=-1", "key=a&prediction=two"):
        status, refusal = ask(server, f"/api/plan?{query}")
        assert status == 422
        assert refusal["error"].startswith("a prediction: expected its index, got ")


def test_commands_are_json_objects(server):
    assert command(server, b'{"command": "step"}') == (200, {})
    assert server.source.commands == [{"command": "step"}]
    for body in (b"[1]", b"step", b"\xff"):
        assert command(server, body) == (200, {"error": "a command is a short JSON object"})
    refusal = {"error": "command 'fly': expected step."}
    assert command(server, b'{"command": "fly"}') == (200, refusal)
    assert status_of(server, "/api/command", "POST", b"{}") == 403
    status, _ = command(server, b"x" * 200_000)
    assert status == 400
    assert len(server.source.commands) == 1


def test_events_arrive_as_they_happen(server):
    with answer_with_token(server, "/api/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.read().decode() == (
            'event: status\ndata: {"state":"paused"}\n\n:\n\nevent: part\ndata: {"key":"a/1"}\n\n'
        )


def test_a_port_in_use_is_refused(server):
    with pytest.raises(
        WhiskerError,
        match=f"port {server.port}: expected a free one",
    ):
        ViewerServer(Source(), "", server.port)
    with pytest.raises(WhiskerError, match="port 99999"):
        ViewerServer(Source(), "", 99999)


def test_two_servers_have_tokens_of_their_own(server):
    with closing(ViewerServer(Source(), "")) as other:
        assert other.token != server.token
        assert len(other.token) >= 32


def test_a_single_run_gives_out_its_report():
    class Reported(Source):
        def report(self):
            return b"<h1>report</h1>"

    with serving(Reported()) as server:
        with answer(server, f"/report?token={server.token}") as response:
            assert response.status == 200
            assert response.read() == b"<h1>report</h1>"
        assert status_of(server, "/report") == 403


def test_a_source_without_reports_has_none(server):
    assert status_of(server, f"/report?token={server.token}") == 404
