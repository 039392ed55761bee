"""Starts what people then own: a repository, a model, a dataset.

Everything written here runs as it is. A command that cannot finish writes nothing, or can be
run again; nothing that is there already is overwritten.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterable
from pathlib import Path

from coalmine.datasets.lookups import datasets_of
from coalmine.errors import InputError, NotFound
from coalmine.registry import bootstrap
from coalmine.scaffold import artifacts
from coalmine.scaffold.files import add_folder, write
from coalmine.scaffold.json_schemas import schema_files
from coalmine.scaffold.names import check_name, nearest
from coalmine.scaffold.starters import fill
from coalmine.scaffold.starters.dataset import dataset_yaml
from coalmine.scaffold.starters.model import choose_target, model_yaml
from coalmine.scaffold.template import template_files
from coalmine.settings import FILE as SETTINGS_FILE
from coalmine.settings import STATE, Settings
from coalmine.spec import (
    DatasetSpec,
    ModelSpec,
    Task,
    dataset_names,
    load_dataset_spec,
    model_names,
    parse_spec,
)

_UNFINISHED = STATE / "init-unfinished"
_MAY_BE_THERE = {".git", "README.md", "LICENSE"}  # what a Git host puts into a new repository


# --- a repository ----------------------------------------------------------------------


def init(directory: Path, *, examples: Collection[str] | None = None) -> list[Path]:
    """A repository in `directory`, in Git and DVC, with a first commit; what was written, from its top.

    Both remotes are folders under .coalmine/. Where `directory` is a Git repository with a remote
    of its own, that one stays, and is not pushed to. Interrupted, it can be run again.

    examples: the example models to start with, their datasets along; None takes all of them.

    Raises:
        InputError: `directory` is not empty.
        NotFound: no such example.
        RepositoryUnready: Git does not know who commits, or is on another branch.
        MachineUnready: no Git, or no place to write.
    """
    directory = directory.resolve()
    files = _repository_files(directory.name, examples)
    git = parse_spec(Settings, files[SETTINGS_FILE], str(SETTINGS_FILE)).git
    own_remote = bootstrap.has_own_remote(directory, git.remote)
    if (directory / _UNFINISHED).exists():
        bootstrap.remove_locks(directory)
    else:
        _refuse_occupied(directory)
    bootstrap.check_can_commit(directory, git.branch)

    write(directory, {_UNFINISHED: ""})
    readme = Path("README.md")
    write(
        directory,
        {path: files[path] for path in files if path != readme or not (directory / readme).exists()},
    )
    if not own_remote:
        bootstrap.create_git(directory, git.remote, git.branch)
    bootstrap.commit(directory, files, "Start a coalmine repository")
    if not own_remote:
        bootstrap.push(directory, git.remote, git.branch)
    (directory / _UNFINISHED).unlink()
    return list(files)


def write_schemas(repository: Path) -> list[Path]:
    """JSON Schemas as this version of coalmine has them; what was written, from the top."""
    files = schema_files()
    write(repository, files)
    return list(files)


def _repository_files(title: str, examples: Collection[str] | None) -> dict[Path, str]:
    files = template_files()
    there = sorted(path.parent.name for path in files if path.match("models/*/model.yaml"))
    for name in examples or ():
        if name not in there:
            raise NotFound(f"There is no example `{name}`.{nearest(name, there)}")
    left_out = [] if examples is None else [name for name in there if name not in examples]
    files[artifacts.FILE] = artifacts.without_artifacts(files[artifacts.FILE], left_out)
    files = _without_models(files, left_out)
    version = importlib.metadata.version("coalmine")
    return {
        **files,
        **schema_files(),
        Path("README.md"): fill("README.md", title=title),
        Path("requirements.txt"): fill("requirements.txt", version=version),
        Path(".gitignore"): fill("gitignore"),
        Path(".dvcignore"): fill("dvcignore"),
        Path(".dvc/config"): fill("dvc-config"),
        Path(".dvc/.gitignore"): fill("dvc-gitignore"),
    }


def _without_models(files: dict[Path, str], models: Iterable[str]) -> dict[Path, str]:
    """`files` less `models`, and less the datasets and sources that no other model needs."""
    for model in models:
        files = {path: text for path, text in files.items() if path.parent != Path("models") / model}
    specs = [
        parse_spec(ModelSpec, text, str(path))
        for path, text in files.items()
        if path.match("models/*/model.yaml")
    ]
    needed = {name for spec in specs for name in datasets_of(spec)}
    for path, text in list(files.items()):
        if path.match("data/*/dataset.yaml") and path.parent.name not in needed:
            source = parse_spec(DatasetSpec, text, str(path)).source.python
            module = None if source is None else Path(*source.split(".")).with_suffix(".py")
            files = {
                other: text
                for other, text in files.items()
                if other.parent != path.parent and other != module
            }
    return files


def _refuse_occupied(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file. Name a folder: coalmine init DIR")
    there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    if (directory / SETTINGS_FILE).exists():
        raise InputError(f"{directory} is a coalmine repository already.")
    occupied = [name for name in there if name not in _MAY_BE_THERE or ".git" not in there]
    if occupied:
        shown = ", ".join(occupied[:5]) + (", ..." if len(occupied) > 5 else "")
        raise InputError(
            f"{directory} is not empty: it holds {shown}. Nothing was written. "
            "Name an empty or a new folder: coalmine init DIR"
        )


# --- a dataset -------------------------------------------------------------------------


def new_dataset(repository: Path, name: str, files: str) -> list[Path]:
    """data/<name>/, described by what the rows of `files` are; what was written, from the top.

    files: path or URL of a CSV or Parquet file; `{partition}` stands for a day, month or year
        where there is one file for each.

    Raises:
        InputError: a name that cannot be used, or is taken.
        NotFound, DataRefused: no such file, or one that cannot be read.
    """
    # pandas is slow to import, and most commands never look at a row.
    from coalmine.scaffold.schema_from_file import infer_dataset

    check_name(name, "dataset", dataset_names(repository))
    spec, rows = infer_dataset(repository, name, _from_top(repository, files))
    text = dataset_yaml(spec, rows)
    parse_spec(DatasetSpec, text, f"data/{name}/dataset.yaml")
    stages = _example_of("data/*/dvc.yaml")
    return add_folder(repository, Path("data") / name, {"dataset.yaml": text, "dvc.yaml": stages})


def _from_top(repository: Path, files: str) -> str:
    if "://" in files:
        return files
    path = Path(files).resolve()
    top = repository.resolve()
    return str(path.relative_to(top) if path.is_relative_to(top) else path)


# --- a model ---------------------------------------------------------------------------


def new_model(repository: Path, name: str, dataset: str, task: Task, target: str | None = None) -> list[Path]:
    """models/<name>/ for `task` on `dataset`, and its name in dvc.yaml; what was written, from the top.

    target: the column to predict; None takes the last one that fits `task`.

    Raises:
        InputError: a name that cannot be used, or is taken; no column that fits `task`.
        NotFound: no such dataset or column; names the nearest.
    """
    check_name(name, "model", model_names(repository))
    datasets = dataset_names(repository)
    if dataset not in datasets:
        raise NotFound(f"There is no dataset `{dataset}`.{nearest(dataset, datasets)}")
    data = load_dataset_spec(repository, dataset)
    if target is None:
        target = choose_target(data, task)
    elif target not in data.columns:
        raise NotFound(f"Dataset {dataset} has no column `{target}`.{nearest(target, data.columns)}")
    text = model_yaml(name, data, task, target)
    parse_spec(ModelSpec, text, f"models/{name}/model.yaml")
    stages = _stages_of_a_model()

    folder = Path("models") / name
    artifact = {
        "path": (folder / "model.skops").as_posix(),
        "type": "model",
        "desc": f"{target} of {dataset}",
        "labels": [task.value, dataset],
    }
    # The name first: a run that is cut short here finds no folder, and writes the same name again.
    listed = repository / artifacts.FILE
    there = listed.read_text(encoding="utf-8") if listed.exists() else "artifacts: {}\n"
    write(repository, {artifacts.FILE: artifacts.with_artifact(there, name, artifact)})
    return [*add_folder(repository, folder, {"model.yaml": text, "dvc.yaml": stages}), artifacts.FILE]


# --- examples --------------------------------------------------------------------------


def _example_of(pattern: str) -> str:
    """The text of a file that is the same in every dataset."""
    return next(text for path, text in template_files().items() if path.match(pattern))


def _stages_of_a_model() -> str:
    """dvc.yaml of any example without lookups, which name their files there."""
    files = template_files()
    return next(
        files[path.with_name("dvc.yaml")]
        for path, text in files.items()
        if path.match("models/*/model.yaml") and not parse_spec(ModelSpec, text, str(path)).lookups
    )
