"""What was released, why, and who asked for what."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from coalmine.audit.report.pieces import facts_list, table
from coalmine.audit.report.words import time_of_day
from coalmine.audit.story import Story
from coalmine.manifest import Comparison, Estimate, Manifest
from coalmine.rollout.events import Event, EventKind


def released(manifest: Manifest) -> str:
    data, decision = manifest.dataset, manifest.decision
    facts = [
        ("Version", f"{manifest.version}, after {manifest.parent or 'nothing: the first release'}"),
        ("Dataset", f"{data.name} {data.md5}"),
        ("Trained on", f"{_span(data.train)} ({data.train_rows:,} rows)"),
        ("Tested on", f"{_span(data.test)} ({data.test_rows:,} rows)"),
        *(
            (f"Lookup by {', '.join(lookup.key)}", f"{lookup.dataset} {lookup.md5}")
            for lookup in manifest.lookups
        ),
        ("Estimator", str(manifest.estimator.get("class", ""))),
        ("Code", manifest.code),
        ("Digest", manifest.digest),
        ("Built with", ", ".join(f"{name} {version}" for name, version in manifest.environment.items())),
    ]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in decision.reasons)
    return (
        f"{facts_list(facts)}<h3>Why it was released</h3><ul>{reasons}</ul>"
        f"{_metrics(decision.metrics, decision.champion_metrics, decision.champion)}"
        f"{_comparisons(decision.comparisons)}"
    )


def _span(partitions: Sequence[str]) -> str:
    if not partitions:
        return "the whole file"
    return partitions[0] if len(partitions) == 1 else f"{partitions[0]} to {partitions[-1]}"


def _metrics(challenger: dict[str, Estimate], champion: dict[str, Estimate], version: str | None) -> str:
    if not challenger:
        return ""
    rows = [
        (name, _estimate(estimate), _estimate(champion[name]) if name in champion else "")
        for name, estimate in challenger.items()
    ]
    return table(("Metric", "This release", f"Champion {version or ''}"), rows)


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    rows = [
        (
            f"{c.metric}, {c.slice or 'all rows'}",
            f"{c.rows:,}",
            _estimate(c.gain),
            "not judged"
            if c.required_gain is None
            else f"{'passed' if c.passed else 'failed'} (over {c.required_gain:g})",
        )
        for c in comparisons
    ]
    return table(("Against the champion", "Rows", "Gain", "Required"), rows)


def who(story: Story, manifest: Manifest) -> str:
    delivery, release = story.about.triggered_by, manifest.trigger
    facts = [
        ("Rollout started by", f"{delivery.who} ({delivery.kind}; proof: {delivery.proof})"),
        ("Released by", f"{release.who} ({release.kind}; proof: {release.proof})"),
        *([] if release.because is None else [("Retrained because", release.because)]),
        ("Released at", manifest.created),
        ("Prefect flow run", delivery.run or release.run or "none"),
    ]
    return facts_list(facts) + _asked(story)


_ASKED = (EventKind.PAUSED, EventKind.RESUMED, EventKind.APPROVED, EventKind.ASK_REFUSED)


def _asked(story: Story) -> str:
    """What people asked of it while it ran."""
    by_hand = [event for event in story.events if event.kind in _ASKED or _ended_by_hand(event)]
    items = "".join(f"<li>{time_of_day(event.at_s)} {escape(event.sentence)}</li>" for event in by_hand)
    return f"<h3>Asked while it ran</h3><ul>{items}</ul>" if items else ""


def _ended_by_hand(event: Event) -> bool:
    words = ("aborted by ", "promoted early by ", "superseded by ")
    return event.kind in (EventKind.PROMOTING, EventKind.ROLLING_BACK) and any(
        w in event.sentence for w in words
    )
