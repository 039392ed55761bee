"""The client of Prometheus's HTTP API: on recorded answers, on a server of its own, and on the real one."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coalmine.settings import PrometheusSettings
from coalmine.telemetry.prometheus import LARGEST_ANSWER, Fault, Prometheus, QueryFailed, number_in, series_in
from tests.ports import reserved_port
from tests.telemetry.real_prometheus import awaited, running_prometheus, scrape


def success(kind: str, result: Any, **more: Any) -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more})


def series(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1764100000.123, value]}


def error(kind: str, words: str) -> str:
    return json.dumps({"status": "error", "errorType": kind, "error": words})


# Answers of Prometheus 2.42, but for the warning, which is Thanos's, and the histogram, of Prometheus 3.
@pytest.mark.parametrize(
    ("status", "body", "fault", "said"),
    [
        pytest.param(200, success("vector", []), Fault.EMPTY, "finds nothing", id="empty"),
        pytest.param(
            200, success("vector", [series("1"), series("2")]), Fault.SEVERAL, "2 series", id="several"
        ),
        pytest.param(200, success("vector", [series("NaN")]), Fault.NOT_FINITE, "NaN", id="NaN"),
        pytest.param(200, success("vector", [series("+Inf")]), Fault.NOT_FINITE, r"\+Inf", id="infinite"),
        pytest.param(200, success("scalar", [1.0, "NaN"]), Fault.NOT_FINITE, "NaN", id="scalar NaN"),
        pytest.param(200, success("string", [1.0, "hello"]), Fault.TEXT, "text, `hello`", id="text"),
        pytest.param(
            200,
            success("vector", [{"metric": {}, "histogram": [1.0, {"count": "1"}]}]),
            Fault.TEXT,
            "histogram_quantile",
            id="histogram",
        ),
        pytest.param(200, success("matrix", []), Fault.SEVERAL, "range selector", id="a range"),
        pytest.param(
            200,
            success("vector", [series("1")], warnings=["No StoreAPIs matched"]),
            Fault.INCOMPLETE,
            "No StoreAPIs",
            id="a part of the data",
        ),
        pytest.param(
            400,
            error("bad_data", 'invalid parameter "query": 1:5: parse error: unexpected end of input'),
            Fault.REFUSED,
            "parse error",
            id="no PromQL",
        ),
        pytest.param(
            422, error("execution", "found duplicate series"), Fault.REFUSED, "duplicate", id="cannot be run"
        ),
        pytest.param(
            503,
            error("timeout", "query timed out in expression evaluation"),
            Fault.TIMEOUT,
            "timed out",
            id="given up",
        ),
        pytest.param(401, "Unauthorized\n", Fault.UNAUTHORISED, "401", id="401"),
        pytest.param(403, "", Fault.UNAUTHORISED, "403", id="403"),
        pytest.param(404, "404 page not found", Fault.BROKEN, "404", id="another path"),
        pytest.param(429, "", Fault.BROKEN, "429", id="too many"),
        pytest.param(500, "<html>", Fault.BROKEN, "500", id="500"),
        pytest.param(502, "", Fault.BROKEN, "502", id="502"),
        pytest.param(302, "", Fault.BROKEN, "302", id="a redirection"),
        pytest.param(200, "<html>login</html>", Fault.BROKEN, "login", id="a page"),
        pytest.param(200, "[]", Fault.BROKEN, "no Prometheus", id="another JSON"),
        pytest.param(
            200, success("vector", [{}]), Fault.BROKEN, "no Prometheus", id="a series without a value"
        ),
        pytest.param(200, success("vector", [series("many")]), Fault.BROKEN, "no Prometheus", id="a word"),
    ],
)
def test_whatever_is_not_one_finite_number_has_its_kind_and_words(
    status: int, body: str, fault: Fault, said: str
) -> None:
    with pytest.raises(QueryFailed, match=said) as caught:
        number_in(status, body.encode())
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (success("vector", [series("0.25", slot="green")]), 0.25),
        (success("vector", [series("0")]), 0.0),
        (success("vector", [series("-1e3")]), -1000.0),
        (success("scalar", [1.0, "42"]), 42.0),
    ],
    ids=["vector", "zero", "negative", "scalar"],
)
def test_one_number_is_that_number(body: str, number: float) -> None:
    assert number_in(200, body.encode()) == number


def test_all_series_come_with_their_labels_and_the_moment() -> None:
    body = success("vector", [series("0.25", slot="green"), series("NaN", slot="blue")])
    green, blue = series_in(200, body.encode())
    assert (green.labels, green.value) == ({"slot": "green"}, 0.25)
    assert green.at_s == blue.at_s > 0
    assert math.isnan(blue.value)  # whether it can be used is the reader's to say
    assert series_in(200, success("vector", []).encode()) == []


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        pytest.param(200, success("scalar", [1.0, "42"]), Fault.BROKEN, id="no series"),
        pytest.param(200, success("vector", [{}]), Fault.BROKEN, id="a series without a value"),
        pytest.param(
            200,
            success("vector", [])[:-1] + ', "warnings": ["a part is missing"]}',
            Fault.INCOMPLETE,
            id="a warning",
        ),
        pytest.param(503, "", Fault.BROKEN, id="503"),
    ],
)
def test_an_answer_that_may_lack_series_is_none(status: int, body: str, fault: Fault) -> None:
    with pytest.raises(QueryFailed) as caught:
        series_in(status, body.encode())
    assert caught.value.fault is fault


# --- a server of its own ---------------------------------------------------------------


class Recording(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.headers: list[dict[str, str]] = []
        self.status, self.body = 200, success("scalar", [1.0, "1"]).encode()
        self.hangs = False
        self.ended = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Recording

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.hangs:
            self.server.ended.wait(60)
            return
        self.send_response(self.server.status)
        self.send_header("location", self.server.url)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Recording]:
    server = Recording()
    thread = Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield server
    server.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fault_of(prometheus: Prometheus, query: str = "up") -> Fault:
    with pytest.raises(QueryFailed) as caught:
        prometheus.ask(query)
    return caught.value.fault


def test_token_and_tenant_are_sent_and_read_anew_each_time(
    server: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    from_file = Prometheus(PrometheusSettings(url=server.url, token_file=file, tenant="team-a"))
    for token in ("one", "two\n"):
        file.write_text(token)
        assert from_file.ask("up") == 1
    monkeypatch.setenv("PROMETHEUS_TOKEN", "three")
    Prometheus(PrometheusSettings(url=server.url, token_env="PROMETHEUS_TOKEN")).ask("up")
    tokens = [headers["authorization"] for headers in server.headers]
    assert tokens == ["Bearer one", "Bearer two", "Bearer three"]
    assert [headers.get("x-scope-orgid") for headers in server.headers] == ["team-a", "team-a", None]


def test_a_token_that_is_not_there_is_said_before_anybody_is_asked(
    server: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    for keys in ({"token_file": tmp_path / "none"}, {"token_env": "NO_SUCH_TOKEN"}):
        assert fault_of(Prometheus(PrometheusSettings(url=server.url, **keys))) is Fault.UNAUTHORISED
    assert server.headers == []


def test_a_redirection_is_not_followed_with_the_token(server: Recording) -> None:
    server.status = 307
    assert fault_of(Prometheus(PrometheusSettings(url=server.url))) is Fault.BROKEN
    assert len(server.headers) == 1


def test_a_server_that_hangs_is_a_timeout(server: Recording) -> None:
    server.hangs = True
    assert fault_of(Prometheus(PrometheusSettings(url=server.url, timeout_s=0.2))) is Fault.TIMEOUT


def test_an_endless_answer_is_several_series(server: Recording) -> None:
    server.body = b" " * (LARGEST_ANSWER + 1)
    assert fault_of(Prometheus(PrometheusSettings(url=server.url))) is Fault.SEVERAL


def test_nobody_listening_is_unreachable() -> None:
    prometheus = Prometheus(PrometheusSettings(url=f"http://127.0.0.1:{reserved_port()}"))
    assert fault_of(prometheus) is Fault.UNREACHABLE


def test_a_file_without_certificates_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = PrometheusSettings(url="https://127.0.0.1:1", ca_file=tmp_path / "ca.pem")
    with pytest.raises(QueryFailed, match="holds no certificates"):
        Prometheus(settings).ask("up")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, signed by itself; its key is in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's Prometheus")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(pem, private, serialization.NoEncryption()) + certificate.public_bytes(pem)
    )
    return path


def test_a_server_with_a_certificate_of_ones_own_is_trusted_by_its_ca_file_alone(
    server: Recording, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("PROMETHEUS_TOKEN", "secret")
    url = server.url.replace("http:", "https:")
    trusted = PrometheusSettings(url=url, ca_file=certificate, token_env="PROMETHEUS_TOKEN")
    assert Prometheus(trusted).ask("up") == 1
    unknown = PrometheusSettings(url=url, token_env="PROMETHEUS_TOKEN")
    with pytest.raises(QueryFailed, match="certificate verify failed") as caught:
        Prometheus(unknown).ask("up")
    assert caught.value.fault is Fault.UNREACHABLE
    assert len(server.headers) == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param({"url": "localhost:9090"}, "url", id="no scheme"),
        pytest.param({"url": "http://x/?y=1"}, "url", id="a query in the URL"),
        pytest.param({"url": "https://me:secret@x"}, "url", id="a password in the URL"),
        pytest.param({"url": "https://x", "token_file": "a", "token_env": "B"}, "not both", id="two tokens"),
        pytest.param({"url": "http://x", "token_env": "B"}, "everybody to read", id="a token in the clear"),
        pytest.param({"url": "http://x", "ca_file": "a"}, "over https", id="a CA for http"),
        pytest.param({"url": "https://x", "token_env": "$B"}, "token_env", id="no name of a variable"),
        pytest.param({"url": "https://x", "tokn_env": "B"}, "tokn_env", id="unknown key"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(keys: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PrometheusSettings.model_validate(keys)


# --- the real one ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes itself."""
    folder, port = tmp_path_factory.mktemp("prometheus"), reserved_port()
    with running_prometheus(folder, [scrape("itself", port, labels={"slot": "green"})], port) as url:
        prometheus = Prometheus(PrometheusSettings(url=url))
        awaited(lambda: prometheus.ask('up{slot="green"}') == 1, "it has scraped itself")
        yield prometheus


def test_the_real_one_answers_with_a_number(real: Prometheus) -> None:
    assert real.ask('sum(up{slot="green"})') == 1
    assert real.ask("scalar(up) + 41") == 42
    assert real.ask("vector(0.25)") == 0.25


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("no_such_metric", Fault.EMPTY),
        ("vector(0) / 0", Fault.NOT_FINITE),
        ("vector(1) / 0", Fault.NOT_FINITE),
        ('"hello"', Fault.TEXT),
        ("up[1m]", Fault.SEVERAL),
        ('{job="itself"}', Fault.SEVERAL),
        ("sum(", Fault.REFUSED),
        ("up + on() {__name__=~'go_.*'}", Fault.REFUSED),
    ],
)
def test_the_real_ones_other_answers_are_told_apart(real: Prometheus, query: str, fault: Fault) -> None:
    assert fault_of(real, query) is fault
