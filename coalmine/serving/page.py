"""The page at `/`, where a person tries the model: one file, no network but `/predict`.

Made once when the server starts, from the manifest alone. Style and script are the same for every
model and stand in the Content-Security-Policy by their hashes, so nothing else can run, whatever
a manifest says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, assert_never

import orjson

from coalmine.manifest import DatasetVersion, Estimate, LookupTable, Manifest, Tensor
from coalmine.serving.records import class_name
from coalmine.spec import Task

_KINDS = {"BOOL": "yes or no", "INT64": "whole number", "FP64": "number", "BYTES": "text"}


def page(manifest: Manifest, slot: str) -> bytes:
    """HTML in UTF-8. Pure: the same manifest and slot give the same bytes."""
    texts = {
        "model": manifest.model,
        "version": manifest.version,
        "classes": orjson.dumps([class_name(each) for each in manifest.classes]).decode(),
        "sentence": _sentence(manifest, slot),
    }
    example = manifest.example.inputs
    parts = {
        "style": _static("page.css"),
        "script": _static("page.js"),
        "fields": "\n".join(
            _field(number, each, example.get(each.name)) for number, each in enumerate(manifest.inputs)
        ),
        "facts": _facts(manifest),
        "metrics": _metrics(manifest),
    }
    return Template(_static("page.html")).substitute(_escaped(texts), **parts).encode()


def content_security_policy() -> str:
    """The header with which the page is to be sent. `data:` is the empty icon."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash(_static('page.css'))}",
            f"script-src {_hash(_static('page.js'))}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _sentence(manifest: Manifest, slot: str) -> str:
    match manifest.task:
        case Task.BINARY:
            says = " or ".join(map(class_name, reversed(manifest.classes)))
        case Task.MULTICLASS:
            says = f"one of {len(manifest.classes)} classes"
        case Task.REGRESSION:
            says = "a number"
        case _:
            assert_never(manifest.task)
    return f"It predicts {says}. Served in slot {slot}, released {_moment(manifest.created)}."


def _field(number: int, wanted: Tensor, value: Any) -> str:
    key = f"f{number}"
    kind = _KINDS[wanted.datatype] + (", may be empty" if wanted.nullable else "")
    box = f'data-name="{escape(wanted.name)}" data-datatype="{wanted.datatype}"' + (
        " data-nullable" if wanted.nullable else ""
    )
    label = f'<label for="{key}">{escape(wanted.name)} <span class="kind">{kind}</span></label>'
    error = f'<p class="error" id="{key}-error" hidden></p>'
    common = f'id="{key}" aria-describedby="{key}-error"'
    if wanted.datatype == "BOOL":
        checked = " checked" if value else ""
        return f'<div class="field check" {box}><input type="checkbox" {common}{checked}>{label}{error}</div>'
    # Not type="number": it hides what it cannot read. No `inputmode`: some telephones then show no minus.
    typed = (
        f'<input type="text" {common} value="{escape(_typed(value))}" '
        'autocomplete="off" autocapitalize="off" spellcheck="false">'
    )
    return f'<div class="field" {box}>{label}{typed}{error}</div>'


def _typed(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _facts(manifest: Manifest) -> str:
    """Without the name of who asked for the release: users of the model may read this page."""
    dataset, decision = manifest.dataset, manifest.decision
    facts = [
        ("Released", _moment(manifest.created)),
        ("Trained on", _rows(dataset, dataset.train_rows, dataset.train)),
        ("Tested on", _rows(dataset, dataset.test_rows, dataset.test)),
        *(("Looks up", _lookup(table)) for table in manifest.lookups),
        ("Replaces", decision.champion or "nothing: it is the first release"),
        ("Code", manifest.code[:12]),
        ("Digest", manifest.digest[:12]),
    ]
    rendered = "".join(f"<dt>{name}</dt><dd>{escape(words)}</dd>" for name, words in facts)
    if decision.reasons:
        reasons = "".join(f"<li>{escape(each)}</li>" for each in decision.reasons)
        rendered += f"<dt>Why</dt><dd><ul>{reasons}</ul></dd>"
    return rendered


def _lookup(table: LookupTable) -> str:
    columns = ", ".join(each.name for each in table.columns)
    return f"{columns} in {table.dataset}, by {', '.join(table.key)}"


def _rows(dataset: DatasetVersion, rows: int, partitions: Sequence[str]) -> str:
    # A dataset without partitions names none here.
    ends = sorted({*partitions[:1], *partitions[-1:]})
    return ", ".join(filter(None, [f"{rows:,} rows of {dataset.name}", " to ".join(ends)]))


def _metrics(manifest: Manifest) -> str:
    metrics, before = manifest.decision.metrics, manifest.decision.champion_metrics
    if not metrics:
        return '<p class="soft">This release has no metrics on record.</p>'
    head = "<th scope='col'>On the test rows</th><th scope='col'>value</th><th scope='col'>interval</th>"
    if before:
        head += f"<th scope='col'>{escape(manifest.decision.champion or 'before')}</th>"
    body = "".join(_metric(name, each, before) for name, each in metrics.items())
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _metric(name: str, estimate: Estimate, before: dict[str, Estimate]) -> str:
    cells = [_number(estimate.value), f"{_number(estimate.low)} to {_number(estimate.high)}"]
    if before:
        cells.append(_number(before[name].value) if name in before else "")
    return (
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _moment(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _escaped(texts: dict[str, str]) -> dict[str, str]:
    return {name: escape(text) for name, text in texts.items()}


def _static(name: str) -> str:
    return files("coalmine.serving").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
