"""What was found, in words: the facts and tables that a terminal, a CSV file and a page show alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from coalmine.audit.answer import Facts, Part, Sheet, moment
from coalmine.audit.attribution import to_trailer
from coalmine.audit.deeds import Deed
from coalmine.manifest import DatasetVersion, Estimate, LookupTable, Manifest, ReleaseFile, Tensor

if TYPE_CHECKING:  # what a rollout's ticks stand on takes half a second to import
    from coalmine.audit.asked import Asked
    from coalmine.audit.questions.at import Serving
    from coalmine.audit.questions.between import Between
    from coalmine.audit.questions.by_commit import CommitStory
    from coalmine.audit.questions.by_dataset import Use
    from coalmine.audit.questions.by_version import Version
    from coalmine.audit.questions.in_full import Course, InFull
    from coalmine.slots import SlotRelease

STILL = "still"


def of_serving(found: Sequence[Serving]) -> tuple[Part, ...]:
    heads = (
        "Environment",
        "Model",
        "Version",
        "Since",
        "Until",
        "Rollout then",
        "Who",
        "Proof",
        "How",
        "Rollout",
        "Commit",
        "Release commit",
        "Manifest sha256",
        "Datasets",
    )
    return (Sheet("What served", heads, tuple(map(_serving, found)), 8, "Nothing served then."),)


def of_deeds(title: str, deeds: Iterable[Deed]) -> tuple[Part, ...]:
    heads = (
        "When",
        "What",
        "Model",
        "Version",
        "Environment",
        "Who",
        "Proof",
        "Commit",
        "Rollout",
        "In words",
    )
    return (Sheet(title, heads, tuple(map(_deed, deeds)), 7, "Nothing was done."),)


def of_between(found: Between) -> tuple[Part, ...]:
    rows = tuple(
        (r.environment, r.model, r.before or "nothing", r.after or "nothing") for r in found.replaced
    )
    heads = ("Environment", "Model", "Before", "After")
    replaced = Sheet(
        "What serves otherwise", heads, rows, 4, "The same served at the end as at the beginning."
    )
    return (replaced, *of_deeds("What was done", found.deeds))


def of_uses(uses: Iterable[Use]) -> tuple[Part, ...]:
    heads = (
        "Model",
        "Version",
        "Used for",
        "Released",
        "Served",
        "Serves now",
        "Dataset",
        "Digest",
        "Commit",
        "Who",
        "Proof",
    )
    return (Sheet("Releases made of it", heads, tuple(map(_use, uses)), 6, "None of this model."),)


def of_commit(story: CommitStory) -> tuple[Part, ...]:
    facts = Facts(
        f"Commit {story.commit[:12]}",
        (
            ("Commit", story.commit),
            ("Committed", moment(story.at)),
            ("Author", story.author),
            ("Asked for by", to_trailer(story.who)),
            ("Says", story.subject),
        ),
    )
    built = tuple((b.model, b.version, moment(b.released), b.commit) for b in story.built)
    return (
        facts,
        *of_deeds("What it records", story.deeds),
        Sheet("Releases built from its code", ("Model", "Version", "Released", "Commit"), built, 4, "None."),
    )


def of_full(found: Iterable[InFull]) -> tuple[Part, ...]:
    return tuple(part for each in found for part in _in_full(each))


def of_version(found: Version) -> tuple[Part, ...]:
    manifest = found.manifest
    title = f"{manifest.model} {manifest.version}"
    released = (("Released", moment(found.released)), ("Released by", to_trailer(found.who)))
    facts = Facts(title, (*released, *_because(manifest), *_made(manifest, found.release)))
    served = tuple(
        (each.environment, moment(each.since), STILL if each.until is None else moment(each.until))
        for each in found.served
    )
    courses = (
        part
        for each in found.courses
        for part in _course(f"The rollout of {title} in {each.record.environment}", each)
    )
    return (
        facts,
        *_otherwise(found.before, manifest),
        Sheet("When it was stable", ("Environment", "Since", "Until"), served, 3, "Never."),
        *courses,
    )


# --- one line --------------------------------------------------------------------------


def _serving(each: Serving) -> tuple[str, ...]:
    beside = each.beside
    return (
        each.environment,
        each.model,
        each.version,
        moment(each.since),
        STILL if each.until is None else moment(each.until),
        "" if beside is None else f"{beside.weight_percent} % on {beside.version}",
        each.who.who,
        each.who.proof,
        each.action.value,
        each.rollout or "",
        each.commit,
        each.release.commit,
        each.release.model_digest,
        ", ".join(f"{name} {digest}" for name, digest in each.release.dataset_digests.items()),
    )


def _deed(deed: Deed) -> tuple[str, ...]:
    return (
        moment(deed.at),
        deed.action.value,
        deed.model,
        deed.version or "nothing",
        deed.environment or "",
        deed.who.who,
        deed.who.proof,
        deed.commit,
        deed.rollout or "",
        deed.sentence,
    )


def _use(use: Use) -> tuple[str, ...]:
    times = (
        f"{each.environment}: {moment(each.since)} to {STILL if each.until is None else moment(each.until)}"
        for each in use.served
    )
    return (
        use.model,
        use.version,
        use.role.value,
        moment(use.released),
        "; ".join(times) or "never",
        ", ".join(use.serves_now),
        use.dataset,
        use.digest,
        use.commit,
        use.who.who,
        use.who.proof,
    )


# --- one release -----------------------------------------------------------------------


def _in_full(found: InFull) -> Iterator[Part]:
    serving, manifest = found.serving, found.manifest
    title = f"{serving.model} {serving.version} in {serving.environment}"
    yield Facts(title, (*_served(found), *_made(manifest, serving.release)))
    if found.put_there is not None:
        yield from _course(f"The rollout that put {title} there", found.put_there)
    if found.beside is not None:
        record = found.beside.record
        beside = f"The rollout of {record.candidate} that ran then in {serving.environment}"
        yield from _course(beside, found.beside)


def _served(found: InFull) -> Iterator[tuple[str, str]]:
    serving, beside = found.serving, found.serving.beside
    yield "Served since", moment(serving.since)
    yield "Until", STILL if serving.until is None else moment(serving.until)
    if beside is not None:
        yield (
            "Beside it then",
            f"{beside.weight_percent} % of the users on {beside.version} (rollout {beside.rollout})",
        )
    yield "Put there by", f"{to_trailer(serving.who)}: {serving.action}, commit {serving.commit}"
    if found.put_there is not None:
        yield "Rollout", found.put_there.record.id
        approvals = [_approval(each) for each in found.put_there.asked if each.what == "approved"]
        yield "Approved by", "; ".join(approvals) or "nobody, as far as its rollout says"
    yield "Released by", to_trailer(found.released_by)
    yield from _because(found.manifest)


def _because(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.trigger.because is not None:
        yield "Retrained because", manifest.trigger.because


def _approval(approved: Asked) -> str:
    return f"{to_trailer(approved.who)}, {' and '.join(approved.gates)}, at {moment(approved.at)}"


def _made(manifest: Manifest, release: SlotRelease) -> Iterator[tuple[str, str]]:
    decision = manifest.decision
    yield "Release commit", release.commit
    yield "Manifest", f"sha256 {release.model_digest}"
    yield from ((f"File {file.path}", _file(file)) for file in manifest.files)
    yield from _made_of(manifest)
    champion = f"of the champion {decision.champion}"
    yield from ((f"Metric {name} {champion}", _estimate(m)) for name, m in decision.champion_metrics.items())
    yield "Why it was released", " ".join(decision.reasons)
    if release.image_digest is not None:
        yield "Image", release.image_digest


def _made_of(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What two releases of a model are compared by."""
    yield "Dataset", _dataset(manifest.dataset)
    yield from ((f"Lookup {table.dataset}", _lookup(table)) for table in manifest.lookups)
    yield "Code", manifest.code
    yield "Estimator", _settings(manifest.estimator)
    if manifest.tuning is not None:
        yield "Tuned", _settings(manifest.tuning)
    yield "Inputs", _tensors(manifest.inputs)
    yield "Outputs", _tensors(manifest.outputs)
    metrics = manifest.decision.metrics.items()
    yield from ((f"Metric {name}", _estimate(metric)) for name, metric in metrics)
    yield "Built with", ", ".join(f"{name} {version}" for name, version in manifest.environment.items())


def _otherwise(before: Manifest | None, now: Manifest) -> Iterator[Part]:
    if before is None:
        return
    was, is_ = dict(_made_of(before)), dict(_made_of(now))
    differing = tuple(
        (name, was.get(name, "nothing"), is_.get(name, "nothing"))
        for name in {**was, **is_}
        if was.get(name) != is_.get(name)
    )
    heads = ("What", before.version, now.version)
    yield Sheet(f"What differs from {before.version}", heads, differing, 3, "Nothing that it is made of.")


def _course(title: str, course: Course) -> Iterator[Part]:
    record, users = course.record, course.record.exposure
    facts = (
        ("Rollout", record.id),
        ("Ended", f"{record.outcome}: {record.reason}"),
        ("Began", moment(record.started)),
        ("Over", moment(record.ended)),
        (
            "Users' requests to it",
            f"{users.requests:,}, of which {users.failures:,} failed",
        ),
        ("Most of the users on it", f"{max((e.weight_percent for e in course.weights), default=0)} %"),
        *_left(course),
        ("Recorded in", course.commit),
    )
    yield Facts(title, facts)
    weights = tuple((moment(e.at), f"{e.weight_percent} %", e.what) for e in course.weights)
    yield Sheet(
        "Weights over time", ("When", "On the candidate", "What"), weights, 3, "No event was recorded."
    )
    gates = tuple(
        (g.stage, f"{g.weight_percent} %", g.gate, g.verdict or "not recorded", g.said) for g in course.gates
    )
    heads = ("Stage", "Weight", "Gate", "Verdict", "Figures")
    yield Sheet("What the gates said at the end of each stage", heads, gates, 5, "No gate measured anything.")
    asked = tuple((moment(a.at), a.what, a.who.who, a.who.proof, a.sentence) for a in course.asked)
    yield Sheet("What was asked of it", ("When", "What", "Who", "Proof", "In words"), asked, 5, "Nothing.")


def _left(course: Course) -> Iterator[tuple[str, str]]:
    """When the last users were taken away from it again."""
    for before, after in reversed(list(pairwise(course.weights))):
        if before.weight_percent > 0 == after.weight_percent:
            yield "Seen last by users", f"{moment(after.at)}, by {before.weight_percent} % of them"
            return


def _tensors(tensors: Iterable[Tensor]) -> str:
    return ", ".join(f"{t.name} {t.datatype}{' or null' if t.nullable else ''}" for t in tensors)


def _dataset(dataset: DatasetVersion) -> str:
    return (
        f"{dataset.name} md5 {dataset.md5}, trained on {_span(dataset.train)} ({dataset.train_rows:,} rows), "
        f"tested on {_span(dataset.test)} ({dataset.test_rows:,} rows)"
    )


def _lookup(table: LookupTable) -> str:
    partitions = f"{len(table.files)} {'partition' if len(table.files) == 1 else 'partitions'}"
    return f"md5 {table.md5}, {partitions} released with the model, by {', '.join(table.key)}"


def _span(partitions: Sequence[str]) -> str:
    if not partitions:
        return "the whole file"
    return partitions[0] if len(partitions) == 1 else f"{partitions[0]} to {partitions[-1]}"


def _file(file: ReleaseFile) -> str:
    return f"sha256 {file.sha256}, md5 {file.md5}, {file.size_bytes:,} bytes"


def _estimate(metric: Estimate) -> str:
    return f"{metric.value:.4g} ({metric.low:.4g} to {metric.high:.4g})"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in settings.items())
