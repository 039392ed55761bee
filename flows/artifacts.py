"""What a step leaves to read in the Prefect UI: tables and short texts, under a key for each model.

The rollout as it goes is in `rollout_page`.
"""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from coalmine.manifest import Comparison, Estimate, ReleaseDecision
from coalmine.operations.decide import Decided
from coalmine.operations.ingest import IngestedDataset
from coalmine.operations.record import Recorded


def publish(model: str, result: object) -> None:
    """What `result` says to people; nothing where the step's log says it all."""
    match result:
        case IngestedDataset():
            added = ", ".join(result.added) or "nothing new"
            _text(
                f"data-{result.dataset}", "data", f"{result.dataset}: {added}. DVC digest `{result.digest}`."
            )
        case Decided():
            decision = result.decision
            against = f"{result.version} against {decision.champion or 'nobody'}"
            _text(
                f"decision-{model}",
                "decision",
                f"# {decision.outcome.value.capitalize()}: {against}\n\n{_bullets(decision.reasons)}",
            )
            _table(f"metrics-{model}", f"Metrics: {against}", _metrics(decision))
            if decision.comparisons:
                _table(f"gains-{model}", f"Gains: {against}", [_gain(each) for each in decision.comparisons])
        case Recorded():
            how = f"Released **{result.version}**" if result.version else f"Kept **{result.champion}**"
            _text(f"record-{model}", "record", f"{how} in commit `{result.commit[:12]}`.")


def _bullets(sentences: tuple[str, ...]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _metrics(decision: ReleaseDecision) -> list[dict[str, str]]:
    champions = decision.champion_metrics
    return [
        {
            "metric": name,
            "challenger": _estimate(found),
            "champion": _estimate(champions[name]) if name in champions else "",
        }
        for name, found in decision.metrics.items()
    ]


def _gain(comparison: Comparison) -> dict[str, str]:
    required = comparison.required_gain
    return {
        "metric": comparison.metric,
        "rows": f"{comparison.rows:,}" + (f" ({comparison.slice})" if comparison.slice else ""),
        "gain": _estimate(comparison.gain),
        "required": "not judged" if required is None else f"over {required:g}",
        "passed": "" if required is None else "yes" if comparison.passed else "no",
    }


def _estimate(found: Estimate) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _text(key: str, description: str, markdown: str) -> None:
    create_markdown_artifact(markdown, key, description)


def _table(key: str, description: str, rows: list[dict[str, str]]) -> None:
    create_table_artifact(rows, key, description)
