"""What `init`, `new dataset` and `new model` write, and what they leave alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo as DvcRepo
from git import Repo

from coalmine.datasets.ingest import ingest
from coalmine.datasets.lookups import require_lookups
from coalmine.datasets.schema import check_partition
from coalmine.datasets.sources import open_source
from coalmine.errors import CoalmineError, InputError, MachineUnready, NotFound, RepositoryUnready
from coalmine.evaluation.estimators import build
from coalmine.evaluation.metrics import metrics_of
from coalmine.scaffold import repository as scaffold
from coalmine.scaffold.repository import init, new_dataset, new_model
from coalmine.settings import load_settings
from coalmine.spec import (
    PartitionPeriod,
    Rollout,
    Serving,
    Task,
    load_dataset_spec,
    load_model_spec,
    model_names,
)

ROWS = 400


@pytest.fixture(autouse=True)
def committer(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Kim")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "kim@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One without examples, and without Git: what `new` commands need."""
    top = tmp_path / "repository"
    top.mkdir()
    (top / "coalmine.yaml").write_text("environments: {}\n")
    return top


def houses(rows: int = ROWS) -> pd.DataFrame:
    at = range(rows)
    return pd.DataFrame(
        {
            "id": [f"h{i}" for i in at],
            "sold_on": pd.date_range("2024-01-01", periods=rows, freq="D").strftime("%Y-%m-%d"),
            "rooms": [1 + i % 6 for i in at],
            "area_m2": [None if i % 10 == 0 else 20.5 + i % 97 for i in at],
            "heating": [("gas", "no", "district: north")[i % 3] for i in at],
            "garden": [i % 4 == 0 for i in at],
            "price": [100_000 + 977 * (i % 211) for i in at],
        }
    )


# --- a repository ----------------------------------------------------------------------


def test_a_new_repository_is_committed_and_pushed_with_nothing_left_over(tmp_path: Path) -> None:
    written = init(tmp_path / "shop")

    repository = Repo(tmp_path / "shop")
    assert not repository.is_dirty(untracked_files=True)
    assert repository.active_branch.name == "main"
    assert repository.head.commit == repository.remote("origin").refs["main"].commit
    assert repository.head.commit == Repo(tmp_path / "shop/.coalmine/remotes/git.git").head.commit
    assert sorted(repository.git.ls_files().splitlines()) == sorted(map(str, written))


def test_a_new_repository_has_the_examples_and_reads_them(tmp_path: Path) -> None:
    init(tmp_path / "shop")

    models = model_names(tmp_path / "shop")
    assert models == model_names(Path(scaffold.__file__).parents[2])
    for model in models:
        spec = load_model_spec(tmp_path / "shop", model)
        load_dataset_spec(tmp_path / "shop", spec.dataset)
        require_lookups(tmp_path / "shop", spec)
    assert load_settings(tmp_path / "shop").environments


def test_examples_can_be_left_out_with_all_that_only_they_need(tmp_path: Path) -> None:
    written = {str(path) for path in init(tmp_path / "shop", examples=["credit-risk"])}

    assert "models/credit-risk/model.yaml" in written
    assert "data/german-credit/dataset.yaml" in written
    assert not [path for path in written if "flight" in path or "weather" in path]
    assert list(yaml.safe_load((tmp_path / "shop/dvc.yaml").read_text())["artifacts"]) == ["credit-risk"]
    assert "data/german-credit/dvc.yaml" not in {str(path) for path in init(tmp_path / "bare", examples=[])}


def test_dvc_works_in_a_new_repository_and_sends_nothing_home(tmp_path: Path) -> None:
    init(tmp_path / "shop", examples=[])
    (tmp_path / "shop/rows.csv").write_text("a\n1\n")

    with DvcRepo(str(tmp_path / "shop")) as dvc:
        dvc.add(str(tmp_path / "shop/rows.csv"))
        dvc.push()

    remote = tmp_path / "shop/.coalmine/remotes/dvc"
    assert len([path for path in remote.rglob("*") if path.is_file()]) == 1
    assert dvc.config["core"]["analytics"] is False


def test_an_example_nobody_knows_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean `credit-risk`"):
        init(tmp_path / "shop", examples=["credit-rsk"])
    assert not (tmp_path / "shop").exists()


def _with_file(top: Path) -> None:
    top.mkdir()
    (top / "thesis.txt").write_text("three years of work")


def _as_file(top: Path) -> None:
    top.write_text("a file")


def _with_readme_outside_git(top: Path) -> None:
    top.mkdir()
    (top / "README.md").write_text("mine")


@pytest.mark.parametrize("occupy", [_with_file, _as_file, _with_readme_outside_git])
def test_an_occupied_place_is_refused_and_left_as_it_is(tmp_path: Path, occupy: object) -> None:
    top = tmp_path / "shop"
    assert callable(occupy)
    occupy(top)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    with pytest.raises(InputError, match=r"coalmine init DIR"):
        init(top)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_repository_is_not_started_twice(tmp_path: Path) -> None:
    init(tmp_path / "shop", examples=[])
    with pytest.raises(InputError, match="a coalmine repository already"):
        init(tmp_path / "shop", examples=[])


def test_a_clone_keeps_its_remote_and_its_readme_and_is_not_pushed(tmp_path: Path) -> None:
    host = Repo.init(tmp_path / "host.git", bare=True, initial_branch="main")
    clone = Repo.clone_from(str(tmp_path / "host.git"), tmp_path / "shop")
    (tmp_path / "shop/README.md").write_text("Our shop\n")
    clone.git.add("README.md")
    clone.git.commit("-m", "first")

    init(tmp_path / "shop", examples=[])

    assert [remote.url for remote in clone.remotes] == [str(tmp_path / "host.git")]
    assert (tmp_path / "shop/README.md").read_text() == "Our shop\n"
    assert not clone.is_dirty(untracked_files=True)
    assert len(list(clone.iter_commits())) == 2
    assert not host.refs


def test_another_branch_than_the_one_in_coalmine_yaml_is_refused(tmp_path: Path) -> None:
    Repo.init(tmp_path / "shop", initial_branch="trunk")
    with pytest.raises(RepositoryUnready, match="git branch -m main"):
        init(tmp_path / "shop")
    assert os.listdir(tmp_path / "shop") == [".git"]


def test_without_a_committer_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GIT_") or name == "EMAIL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # Where the host has a domain name, Git would make up an address from it.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    with pytest.raises(RepositoryUnready, match=r"git config --global user\.name"):
        init(tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize("step", ["create_git", "commit", "push", "after push"])
def test_an_interrupted_init_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        # As Git leaves it when it is killed while it writes.
        if (tmp_path / "shop/.git").is_dir():
            (tmp_path / "shop/.git/index.lock").touch()
            (tmp_path / "shop/.git/HEAD.lock").touch()
        raise Killed

    with monkeypatch.context() as patch:
        if step == "after push":
            push = scaffold.bootstrap.push
            patch.setattr(scaffold.bootstrap, "push", lambda *args: (push(*args), killed()))
        else:
            patch.setattr(scaffold.bootstrap, step, killed)
        with pytest.raises(Killed):
            init(tmp_path / "shop", examples=[])

    written = init(tmp_path / "shop", examples=[])

    repository = Repo(tmp_path / "shop")
    assert not repository.is_dirty(untracked_files=True)
    assert sorted(repository.git.ls_files().splitlines()) == sorted(map(str, written))
    assert len(list(repository.iter_commits())) == 1
    assert repository.head.commit == Repo(tmp_path / "shop/.coalmine/remotes/git.git").head.commit


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coalmine.durable.os.fsync", full)
    with pytest.raises(MachineUnready, match="No space left on device"):
        init(tmp_path / "shop")


# --- a dataset -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet", "csv.gz"])
def test_a_file_becomes_a_dataset_that_takes_it_in_as_it_is(
    repository: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"houses.{suffix}"
    if suffix == "parquet":
        houses().astype({"sold_on": "datetime64[us]"}).to_parquet(file)
    else:
        houses().to_csv(file, index=False)

    new_dataset(repository, "houses", str(file))

    spec = load_dataset_spec(repository, "houses")
    assert {name: column.type.value for name, column in spec.columns.items()} == {
        "id": "string",
        "sold_on": "datetime",
        "rooms": "integer",
        "area_m2": "number",
        "heating": "string",
        "garden": "boolean",
        "price": "integer",
    }
    assert spec.columns["heating"].values == ("district: north", "gas", "no")
    assert spec.columns["id"].values is None
    assert (spec.key, spec.time, spec.period) == (("id",), "sold_on", PartitionPeriod.MONTH)
    source = open_source(repository, spec)
    for partition in source.partitions():
        check_partition(source.load(partition), spec, partition, today=None)


def test_bounds_have_room_for_the_next_file(repository: Path, tmp_path: Path) -> None:
    houses().to_csv(tmp_path / "houses.csv", index=False)
    new_dataset(repository, "houses", str(tmp_path / "houses.csv"))
    spec = load_dataset_spec(repository, "houses")
    assert spec.columns["rooms"].maximum == 6
    assert spec.columns["area_m2"].missing == 0.3  # the worst month lacks 4 of 31
    assert (spec.columns["price"].minimum, spec.columns["price"].maximum) == (0, 400_000)


def test_a_dataset_can_be_ingested_as_it_is_written(repository: Path, tmp_path: Path) -> None:
    houses(90).drop(columns="sold_on").to_csv(tmp_path / "houses.csv", index=False)
    new_dataset(repository, "houses", str(tmp_path / "houses.csv"))
    spec = load_dataset_spec(repository, "houses")

    today = pd.Timestamp("2026-01-01").date()
    written = ingest(repository, spec, ["all"], today)
    assert list(written.added) == ["all"]


def test_files_by_month_are_described_together(repository: Path) -> None:
    rows = houses()
    for month, part in rows.groupby(rows["sold_on"].str[:7]):
        (repository / "incoming").mkdir(exist_ok=True)
        part.to_csv(repository / f"incoming/houses-{month}.csv", index=False)

    new_dataset(repository, "houses", str(repository / "incoming/houses-{partition}.csv"))

    spec = load_dataset_spec(repository, "houses")
    assert spec.source.files == "incoming/houses-{partition}.csv"
    assert (spec.period, spec.time) == (PartitionPeriod.MONTH, "sold_on")
    source = open_source(repository, spec)
    assert len(source.partitions()) == 14
    for partition in source.partitions():
        check_partition(source.load(partition), spec, partition, today=None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "does not exist", id="no file"),
        pytest.param("a,b\n", "holds no rows", id="no rows"),
        pytest.param("a,b\n1,2,3\n", "cannot be read", id="more fields than columns"),
    ],
)
def test_a_file_that_cannot_be_described_leaves_nothing_behind(
    repository: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(CoalmineError, match=says):
        new_dataset(repository, "houses", str(tmp_path / "rows.csv"))
    assert not (repository / "data").exists()


# --- a model ---------------------------------------------------------------------------


@pytest.fixture
def with_houses(repository: Path, tmp_path: Path) -> Path:
    houses().to_csv(tmp_path / "houses.csv", index=False)
    new_dataset(repository, "houses", str(tmp_path / "houses.csv"))
    return repository


@pytest.mark.parametrize(
    ("task", "target"), [(Task.BINARY, "garden"), (Task.MULTICLASS, "heating"), (Task.REGRESSION, "price")]
)
def test_a_model_learns_something_as_it_is_written(with_houses: Path, task: Task, target: str) -> None:
    new_model(with_houses, "my-model", "houses", task)

    spec = load_model_spec(with_houses, "my-model")
    assert (spec.task, spec.target) == (task, target)
    assert set(spec.features) == {"rooms", "area_m2", "heating", "garden", "price"} - {target}


@pytest.mark.parametrize("texts", [True, False], ids=["with texts", "numbers only"])
@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_the_estimator_of_a_starter_fits_the_rows(
    repository: Path, tmp_path: Path, task: Task, texts: bool
) -> None:
    rows = houses() if texts else houses().drop(columns="heating")
    rows.to_csv(tmp_path / "houses.csv", index=False)
    new_dataset(repository, "houses", str(tmp_path / "houses.csv"))
    new_model(repository, "my-model", "houses", task)
    spec = load_model_spec(repository, "my-model")
    metrics_of(spec.evaluation, task)  # refuses one that it does not know

    estimator = build(spec.estimator, task, {})
    estimator.fit(rows[list(spec.features)], rows[spec.target])
    assert len(set(estimator.predict(rows[list(spec.features)]))) > 1


def test_a_starter_has_every_key_that_a_stage_depends_on(with_houses: Path) -> None:
    """DVC stops at a parameter that is not in the file, even where leaving it out is fine by the spec."""
    new_model(with_houses, "my-model", "houses", Task.BINARY)
    folder = with_houses / "models/my-model"
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values()
    wanted = {
        key
        for stage in stages
        for params in stage.get("params", [])
        for keys in params.values()
        for key in keys
    }
    assert wanted
    assert wanted <= set(yaml.safe_load((folder / "model.yaml").read_text()))


def test_what_a_starter_calls_defaults_are_the_defaults(with_houses: Path) -> None:
    new_model(with_houses, "my-model", "houses", Task.BINARY)
    spec = load_model_spec(with_houses, "my-model")
    assert (spec.serving, spec.rollout) == (Serving(), Rollout())


def test_a_target_can_be_named(with_houses: Path) -> None:
    new_model(with_houses, "my-model", "houses", Task.REGRESSION, target="rooms")
    assert load_model_spec(with_houses, "my-model").target == "rooms"


def test_a_new_model_is_named_in_dvc_yaml_beside_everything_that_stands_there(with_houses: Path) -> None:
    before = "# Ours.\nartifacts:\n  old: # keep\n    path: models/old/model.skops\n    labels: [a, b]\n"
    (with_houses / "dvc.yaml").write_text(before)

    new_model(with_houses, "my-model", "houses", Task.BINARY)

    after = (with_houses / "dvc.yaml").read_text()
    assert after.startswith(before)
    assert yaml.safe_load(after)["artifacts"]["my-model"]["path"] == "models/my-model/model.skops"


def test_a_new_model_whose_writing_was_cut_short_can_be_asked_for_again(
    with_houses: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            new_model(with_houses, "my-model", "houses", Task.BINARY)
    assert model_names(with_houses) == []

    new_model(with_houses, "my-model", "houses", Task.BINARY)
    assert sorted(path.name for path in (with_houses / "models").iterdir()) == ["my-model"]
    assert list(yaml.safe_load((with_houses / "dvc.yaml").read_text())["artifacts"]) == ["my-model"]


@pytest.mark.parametrize(
    ("name", "dataset", "target", "says"),
    [
        pytest.param("My_Model", "houses", None, "cannot name a model", id="a name GTO does not take"),
        pytest.param("m" * 41, "houses", None, "cannot name a model", id="a name too long"),
        pytest.param("taken", "houses", None, "already", id="a name that is taken"),
        pytest.param("my-model", "house", None, "Did you mean `houses`", id="no such dataset"),
        pytest.param("my-model", "houses", "prize", "Did you mean `price`", id="no such column"),
    ],
)
def test_a_model_that_cannot_be_is_refused_before_anything_is_written(
    with_houses: Path, name: str, dataset: str, target: str | None, says: str
) -> None:
    new_model(with_houses, "taken", "houses", Task.BINARY)
    before = {path: path.read_bytes() for path in with_houses.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=says):
        new_model(with_houses, name, dataset, Task.BINARY, target)
    assert {path: path.read_bytes() for path in with_houses.rglob("*") if path.is_file()} == before


def test_a_task_without_a_column_that_fits_asks_for_the_target(repository: Path, tmp_path: Path) -> None:
    pd.DataFrame({"a": range(100), "b": range(100)}).to_csv(tmp_path / "rows.csv", index=False)
    new_dataset(repository, "rows", str(tmp_path / "rows.csv"))
    with pytest.raises(InputError, match="--target COLUMN"):
        new_model(repository, "my-model", "rows", Task.BINARY)


# --- for editors -----------------------------------------------------------------------


def test_the_schema_that_a_starter_names_is_there_and_knows_its_keys(tmp_path: Path) -> None:
    top = tmp_path / "shop"
    init(top, examples=[])
    houses().to_csv(top / "houses.csv", index=False)
    new_dataset(top, "houses", str(top / "houses.csv"))
    new_model(top, "my-model", "houses", Task.BINARY)

    for file in ("models/my-model/model.yaml", "data/houses/dataset.yaml", "coalmine.yaml"):
        head, text = (top / file).read_text().split("\n", 1)
        name = head.removeprefix("# yaml-language-server: $schema=")
        schema = json.loads(((top / file).parent / name).read_text())
        assert set(yaml.safe_load(text)) <= set(schema["properties"])
