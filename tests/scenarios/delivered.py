"""What a promotion of 1.1.0 over 1.0.0 leaves, whether or not it was killed on its way."""

from __future__ import annotations

from tests.scenarios.workplace import MODEL, Workplace

SLOTS = f"k8s/environments/local/{MODEL}/slots.yaml"


def assert_promoted(work: Workplace, before: str) -> None:
    """before: the commit from which it was delivered."""
    assert work.subjects(before) == [
        f"Put {MODEL} 1.1.0 into green of local",
        f"Promote {MODEL} 1.1.0 in local",
    ]
    (rollout,) = {work.trailers(commit)["Rollout"] for commit in ("HEAD", "HEAD^")}
    record = f"models/{MODEL}/rollouts/{rollout}"
    assert work.files_of("HEAD^") == {SLOTS}
    kept = {f"{record}/{name}" for name in ("rollout.yaml", "plan.json", "ticks.jsonl.gz")}
    assert work.files_of("HEAD") == {SLOTS, *kept}
    assert work.git("status", "--short") == ""
    slots = work.read_yaml(SLOTS)
    said = ("schema_version", "environment", "model", "stable", "candidate", "releases", "weights")
    assert {key: slots[key] for key in said} == {
        "schema_version": 1,
        "environment": "local",
        "model": MODEL,
        "stable": "green",
        "candidate": None,
        "releases": {"blue": _release(work, "1.0.0"), "green": _release(work, "1.1.0")},
        "weights": {"blue": 0, "green": 100, "nobody": 0},
    }
    on_local = {tag: on for tag, on in work.tags().items() if "#" in tag}
    assert on_local == {
        f"{MODEL}#local#1": f"Release {MODEL} 1.0.0",
        f"{MODEL}#local#2": f"Release {MODEL} 1.1.0",
    }
    assert work.pushed() == work.head()
    assert work.weights() == {"1.1.0": 100}


def _release(work: Workplace, version: str) -> dict[str, object]:
    tag = f"{MODEL}@v{version}"
    trailers = work.trailers(tag)
    return {
        "version": version,
        "commit": work.git("rev-parse", f"{tag}^{{commit}}"),
        "model_digest": trailers["Digest"],
        "dataset_digests": dict([trailers["Dataset"].split(" ")]),
        "image_digest": None,
    }
