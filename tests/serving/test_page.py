from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coalmine.manifest import (
    DatasetVersion,
    Estimate,
    Example,
    LookupTable,
    Manifest,
    Outcome,
    ReleaseDecision,
    Tensor,
    Trigger,
)
from coalmine.serving.page import content_security_policy, page
from coalmine.spec import Task


def manifest(**more: Any) -> Manifest:
    inputs = (
        Tensor(name="distance", datatype="INT64"),
        Tensor(name="pressure", datatype="FP64", nullable=True),
        Tensor(name="carrier", datatype="BYTES", nullable=True),
        Tensor(name="weekend", datatype="BOOL"),
    )
    known: dict[str, Any] = {
        "model": "delays",
        "version": "1.2.0",
        "parent": "1.1.0",
        "task": Task.BINARY,
        "files": (),
        "inputs": inputs,
        "outputs": (Tensor(name="label", datatype="BOOL"), Tensor(name="probability", datatype="FP64")),
        "classes": (False, True),
        "example": Example(
            inputs={"distance": 2475, "pressure": 1013.5, "carrier": None, "weekend": True}, outputs={}
        ),
        "trusted_types": (),
        "dataset": DatasetVersion(
            name="flights",
            md5="0" * 32,
            train=("2013-01", "2013-02", "2013-03"),
            test=("2013-04",),
            train_rows=80123,
            test_rows=27662,
        ),
        "code": "4f" * 20,
        "estimator": {},
        "decision": ReleaseDecision(
            outcome=Outcome.RELEASE,
            reasons=("It is better.",),
            champion="1.1.0",
            metrics={"log_loss": Estimate(value=0.4312, low=0.4274, high=0.4353)},
            champion_metrics={"log_loss": Estimate(value=0.4435, low=0.43, high=0.45)},
        ),
        "environment": {},
        "created": "2026-03-04T05:06:07Z",
        "trigger": Trigger(kind="person", who="Ada <ada@example.com>"),
    }
    return Manifest(**(known | more))


class Page(HTMLParser):
    """The page as a browser reads it: tags with their attributes, and texts."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._words: list[str] = []
        self._within: list[str] = []
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._within.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self._within[-1:] not in (["style"], ["script"]):
            self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def field(self, name: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
        """The box of an input, and the element that is filled in."""
        (at,) = [
            place for place, (_, attributes) in enumerate(self.tags) if attributes.get("data-name") == name
        ]
        inputs = [attributes for tag, attributes in self.tags[at:] if tag == "input"]
        return self.tags[at][1], inputs[0]


def read(**more: Any) -> Page:
    return Page(page(manifest(**more), "blue"))


def test_the_page_says_which_release_in_which_slot_and_what_it_was_made_of() -> None:
    text = read().text
    assert "delays 1.2.0" in text
    assert "It predicts true or false. Served in slot blue, released 4 March 2026, 05:06 UTC." in text
    assert "80,123 rows of flights, 2013-01 to 2013-03" in text
    assert "27,662 rows of flights, 2013-04" in text
    assert "It is better." in text


def test_metrics_stand_with_their_intervals_beside_those_of_the_release_before() -> None:
    assert "log_loss 0.4312 0.4274 to 0.4353 0.4435" in re.sub(r"\s+", " ", spaced(page(manifest(), "blue")))


def spaced(html: bytes) -> str:
    return re.sub(r"<[^>]*>", " ", html.decode())


def test_a_first_release_without_metrics_says_so() -> None:
    decision = ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={})
    text = read(decision=decision).text
    assert "nothing: it is the first release" in text
    assert "no metrics on record" in text


def test_a_dataset_without_partitions_names_none() -> None:
    dataset = DatasetVersion(name="credit", md5="0" * 32, train=(), test=(), train_rows=700, test_rows=300)
    assert "Trained on700 rows of creditTested on300 rows of credit" in read(dataset=dataset).text


def test_what_is_looked_up_is_told() -> None:
    table = LookupTable(
        dataset="weather",
        md5="0" * 32,
        key=("origin", "hour"),
        columns=(Tensor(name="wind", datatype="FP64"),),
        missing="null",
        files=(),
    )
    assert "wind in weather, by origin, hour" in read(lookups=(table,)).text


@pytest.mark.parametrize(
    ("task", "classes", "words"),
    [
        (Task.BINARY, ("good", "bad"), "It predicts bad or good."),
        (Task.MULTICLASS, ("a", "b", "c"), "It predicts one of 3 classes."),
        (Task.REGRESSION, (), "It predicts a number."),
    ],
    ids=lambda value: value.value if isinstance(value, Task) else None,
)
def test_the_page_says_what_is_predicted(task: Task, classes: tuple[str, ...], words: str) -> None:
    assert words in read(task=task, classes=classes).text


def test_every_input_has_a_field_with_a_label_filled_from_the_example() -> None:
    seen = read()
    labels = {each["for"] for each in seen.all("label")}
    values = {}
    for name in ("distance", "pressure", "carrier"):
        box, field = seen.field(name)
        assert field["id"] in labels
        assert field["type"] == "text"
        values[name] = (box["data-datatype"], "data-nullable" in box, field["value"])
    assert values == {
        "distance": ("INT64", False, "2475"),
        "pressure": ("FP64", True, "1013.5"),
        "carrier": ("BYTES", True, ""),
    }


@pytest.mark.parametrize("is_weekend", [True, False])
def test_a_boolean_is_a_checkbox(is_weekend: bool) -> None:
    example = Example(inputs={"weekend": is_weekend}, outputs={})
    _, field = read(example=example).field("weekend")
    assert field["type"] == "checkbox"
    assert ("checked" in field) is is_weekend


def test_the_field_says_what_it_takes() -> None:
    text = read().text
    assert "distance whole number" in text
    assert "pressure number, may be empty" in text
    assert "weekend yes or no" in text


HOSTILE = '"><script>alert(1)</script>'


def test_whatever_a_manifest_says_is_text() -> None:
    name = "x\" onfocus='alert(1)'"
    hostile = {
        "version": HOSTILE,
        "classes": (HOSTILE, "</script>"),
        "inputs": (Tensor(name=name, datatype="BYTES"), Tensor(name=HOSTILE, datatype="FP64")),
        "example": Example(inputs={name: HOSTILE, HOSTILE: 1.0}, outputs={}),
        "decision": ReleaseDecision(
            outcome=Outcome.RELEASE,
            reasons=(HOSTILE,),
            champion=HOSTILE,
            metrics={HOSTILE: Estimate(value=1, low=1, high=1)},
            champion_metrics={HOSTILE: Estimate(value=1, low=1, high=1)},
        ),
        "dataset": DatasetVersion(name=HOSTILE, md5="", train=(HOSTILE,), test=(), train_rows=1, test_rows=1),
        "lookups": (
            LookupTable(
                dataset=HOSTILE,
                md5="",
                key=(HOSTILE,),
                columns=(Tensor(name=HOSTILE, datatype="FP64"),),
                missing="null",
                files=(),
            ),
        ),
        "created": HOSTILE,
        "code": HOSTILE,
    }
    html = page(manifest(**hostile), HOSTILE)
    seen = Page(html)
    assert len(seen.all("script")) == 1
    assert not [tag for tag, attributes in seen.tags if any(each.startswith("on") for each in attributes)]
    assert seen.field(name)[1]["value"] == HOSTILE
    assert HOSTILE.encode() not in html


def test_who_asked_for_the_release_is_not_told_to_its_users() -> None:
    assert "Ada" not in read().text
    assert "ada@example.com" not in page(manifest(), "blue").decode()


def test_the_page_brings_everything_with_it() -> None:
    seen = read()
    for _, attributes in seen.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert not re.match(r"(\w+:)?//", attributes.get(name) or "")
        assert "style" not in attributes  # the policy would drop it
    assert not seen.all("img")
    assert [each["href"] for each in seen.all("link")] == ["data:,"]
    assert not re.search(r"\burl\(|@import|https?://", page(manifest(), "blue").decode())


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else() -> None:
    policy = dict(each.split(" ", 1) for each in content_security_policy().split("; "))
    html = page(manifest(), "blue").decode()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy.pop(directive) == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_same_manifest_gives_the_same_page() -> None:
    assert page(manifest(), "green") == page(manifest(), "green")


@contextmanager
def served(html: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-security-policy", content_security_policy())
            self.send_header("content-length", str(len(html)))
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/below/"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_browser_runs_the_page_under_its_policy(tmp_path: Path) -> None:
    """The script shows the request as a line for the terminal: numbers as typed, empty as missing."""
    example = {"distance": 2**53 + 1, "pressure": None, "carrier": 'O\'Hare "x"', "weekend": True}
    with served(page(manifest(example=Example(inputs=example, outputs={})), "blue")) as url:
        browser = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        text = Page(browser.stdout.encode()).text
        assert f"curl -s '{url}predict'" in text
    carrier = """ "O'\\''Hare \\"x\\"" """.strip()
    record = f'{{"distance": 9007199254740993, "pressure": null, "carrier": {carrier}, "weekend": true}}'
    assert f"-d '{record}'" in text
