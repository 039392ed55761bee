"""The main job as a story, in a repository of its own: what `make demo` tells.

Everything in it is real: the data, the flows, Prefect's server, Git, DVC, Envoy, and the fault of
the bad model. Only the people are made up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from ruamel.yaml.comments import CommentedMap

from coalmine.audit.answer_terminal import print_answer
from coalmine.demo.traffic import Scores, read_scores
from coalmine.errors import CoalmineError, InputError, MachineUnready
from coalmine.journals import journal
from coalmine.journals.rollouts import LocalRollouts
from coalmine.local.port_book import is_free
from coalmine.operations import platform
from coalmine.operations.audit import open_audit
from coalmine.operations.ingest import ingest
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.process_files import ProcessSpec
from coalmine.scaffold.edited import edited
from coalmine.scaffold.repository import init
from coalmine.settings import FILE, Environment
from coalmine.terminal import watching

MODEL, LOOKUP, ENVIRONMENT = "flight-delays", "weather", "local"
REQUESTS_PER_S = 110
USERS = "demo-users"
LATER = ("2013-07", "2013-08")  # what the users fly: nobody has trained on it
# The lookup stands for a forecast, so it is there ahead of the flights, and is the same for all releases.
FORECAST = tuple(f"2013-{month:02}" for month in range(1, 13))

BAD = "1.1.0"  # minor: Sam changes parameters, not only data
DEFAULT_MINUTES = 2.7  # the same plan with the default margins at this traffic, simulated
MARK = Path(".coalmine/remotes")

STEP_LINE = re.compile(r"Task run '(?P<step>[^']+?)(-[0-9a-f]{3})?' - (?P<sentence>.+)")
SAMS_CLASSIFIER = """- class: sklearn.ensemble.GradientBoostingClassifier
          params: {n_estimators: 80, max_depth: 4, subsample: 0.3, max_features: 5, min_samples_leaf: 200}"""

PEOPLE = {
    "Dana": "Dana Reyes <dana@example.com>",  # data engineer
    "Sam": "Sam Okafor <sam@example.com>",  # data scientist
}


@dataclass(frozen=True)
class Scene:
    """Where the demo plays."""

    top: Path
    workspace: Workspace
    serving: LocalEnvironment
    prefect: Mapping[str, str]
    scores: Path
    console: Console


def tell_story(directory: Path, host: str, port: int, *, keep: bool) -> None:
    """
    host, port: where the users' requests come in.

    Raises:
        InputError: `directory` holds something that is not an earlier demo.
        MachineUnready: another program listens there.
        CoalmineError: what went wrong, and how to mend it; everything started is stopped.
    """
    console = Console()
    started = time.monotonic()
    scene = _set_up(directory.resolve(), host, port, console)
    try:
        _first_release(scene)
        _new_months(scene)
        _bad_release(scene)
        _audit(scene)
        _closing(scene, time.monotonic() - started, keep=keep)
    finally:
        if not keep:
            platform.down(scene.workspace, ENVIRONMENT)


# --- the acts --------------------------------------------------------------------------


def _set_up(top: Path, host: str, port: int, console: Console) -> Scene:
    _act(console, "A repository of its own", f"in {top}, with a bare Git remote and a DVC remote beside it")
    _clear(top)
    _require_free(host, port)
    _become("Dana")
    init(top)
    _git(top, "config", "user.name", "Demo")  # for whoever goes on here by hand
    _git(top, "config", "user.email", "demo@example.com")
    if (address := f"{host}:{port}") != Environment().address:
        _serve_at(top, address)
    workspace = Workspace.open(top)
    serving = LocalEnvironment(workspace, ENVIRONMENT)
    serving.up()
    prefect = platform.start_prefect_server(workspace, serving)
    return Scene(top, workspace, serving, prefect, top / ".coalmine" / "users.json", console)


def _first_release(scene: Scene) -> None:
    _act(
        scene.console,
        "1. The first release",
        "January to March 2013: ingested, validated, versioned, trained, released with the weather",
    )
    ingest(scene.workspace, LOOKUP, FORECAST, partial(_tell_step, scene.console, "ingest"))
    months = ["2013-01", "2013-02", "2013-03"]
    _flow(scene, "retrain-and-deliver", model=MODEL, partitions=months, asked_by=PEOPLE["Dana"])
    _start_users(scene)


def _new_months(scene: Scene) -> None:
    _act(
        scene.console,
        "2. A new month arrives",
        "the scheduled retraining ingests April and trains a challenger",
    )
    _flow(scene, "retrain-and-deliver", model=MODEL, data="next")
    _users(scene)
    _act(scene.console, "   Another month", "May: is the challenger shown to be better?")
    _flow(scene, "retrain-and-deliver", model=MODEL, data="next")
    _users(scene)


def _bad_release(scene: Scene) -> None:
    _act(
        scene.console,
        "3. A model that looks fine offline",
        "Sam trains another model, on complete rows only; a tenth of the users' flights have no air pressure",
    )
    before = _scores(scene)
    _become("Sam")
    _edit_model(scene.top)
    _git(scene.top, "commit", "-q", "-am", "flight-delays: gradient boosting on complete rows")
    _git(scene.top, "push", "-q")
    _flow(scene, "retrain-and-deliver", model=MODEL, data="next", asked_by=PEOPLE["Sam"])
    _cost(scene, before)


def _audit(scene: Scene) -> None:
    _act(scene.console, "4. The audit", "what served when, why, by whom, with which data: asked of Git alone")
    asked = open_audit(scene.workspace, MODEL, ENVIRONMENT)
    print_answer(asked.at(), scene.console)
    print_answer(asked.history(), scene.console)


def _closing(scene: Scene, seconds: float, *, keep: bool) -> None:
    say = partial(scene.console.print, highlight=False, soft_wrap=True)
    # As it can be typed here: an environment that was only just made is on nobody's path.
    program = "coalmine" if shutil.which("coalmine") else str(Path(sys.executable).with_name("coalmine"))
    final = _stop_users(scene)
    reports = [folder / "report.html" for folder in journal.rollouts(scene.top, ENVIRONMENT, MODEL)]
    _act(scene.console, f"Done in {seconds // 60:.0f} min {seconds % 60:.0f} s", "")
    say(
        f"{final.requests:,} user requests at {REQUESTS_PER_S} per second; {final.failures:,} failed, "
        f"{_failed_on_bad(final):,} of them on the bad model. {final.labels:,} labels arrived late."
    )
    say(
        "The gates were the ordinary ones; only the margins in models/flight-delays/model.yaml are wider "
        f"than the defaults, which would take about {DEFAULT_MINUTES} minutes per rollout at this traffic."
    )
    say(f"\nThe page of the rollback: {reports[-1]}")
    if not keep:
        say(f"The Prefect UI with these runs: cd {scene.top} && {program} up")
    else:
        url = scene.prefect["PREFECT_API_URL"].removesuffix("/api")
        say(f"Everything still runs; the Prefect UI: {url}\nTo end it: cd {scene.top} && {program} down")
    say(f"\nTry next, in {scene.top}:")
    for words in ("status", f"rollback {MODEL} --to 1.0.0", "retrain credit-risk --data all"):
        say(f"  {program} {words}")


# --- how it is done --------------------------------------------------------------------


def _require_free(host: str, port: int) -> None:
    if not is_free(host, port):
        raise MachineUnready(
            f"{host}:{port} is in use by another program here, so the demo's users cannot come in. "
            f"End that program (`lsof -i :{port}` names it), or name another address with --address"
        )


def _serve_at(top: Path, address: str) -> None:
    def edit(content: CommentedMap) -> None:
        content["environments"][ENVIRONMENT]["address"] = address

    path = top / FILE
    path.write_text(edited(path.read_text(encoding="utf-8"), edit), encoding="utf-8")
    _git(top, "commit", "-q", "-am", f"Users come in at {address}")
    _git(top, "push", "-q")


def _clear(top: Path) -> None:
    """Room for the demo; never at the cost of anything but an earlier demo."""
    if not top.exists() or not any(top.iterdir()):
        return
    if not (top / MARK).exists():
        raise InputError(
            f"{top} holds something that is not an earlier demo: name another folder with --directory"
        )
    with suppress(CoalmineError):  # an earlier demo that was ended half-way has nothing to stop
        platform.down(Workspace.open(top), ENVIRONMENT)
    shutil.rmtree(top)


def _become(name: str) -> None:
    """Who Git says commits from now on, on this machine's behalf, whatever it is set up to say."""
    who, _, mail = PEOPLE[name].partition(" <")
    for role in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{role}_NAME": who, f"GIT_{role}_EMAIL": mail.rstrip(">")}


def _git(top: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=top, check=True, capture_output=True)


def _flow(scene: Scene, name: str, **parameters: object) -> None:
    """Run a flow as its own process, and show what it does."""
    words = [word for key, value in parameters.items() for word in (f"--{key}", json.dumps(value))]
    # A training must not take the processor from those who serve.
    command = ["nice", sys.executable, "-m", "flows", name, *words]
    with watching(LocalRollouts(scene.top, ENVIRONMENT), MODEL, scene.console):
        process = subprocess.Popen(
            command,
            cwd=scene.top,
            env={**os.environ, **scene.prefect, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said = list(_tell_steps(scene.console, process))
        except BaseException:
            process.terminate()  # the flow brings its users back before it ends
            process.wait(timeout=60)
            raise
    if process.returncode != 0:
        raise CoalmineError(f"The flow {name} failed. It said:\n" + "".join(said[-15:]))


def _tell_steps(console: Console, process: subprocess.Popen[str]) -> Iterator[str]:
    """Every line of the flow; those that its steps say are shown."""
    assert process.stdout is not None
    for line in process.stdout:
        told = STEP_LINE.search(line)
        if told is not None and "Finished in state" not in told["sentence"]:
            _tell_step(console, told["step"], told["sentence"])
        yield line
    process.wait()


def _tell_step(console: Console, step: str, sentence: str) -> None:
    console.print(f"  [dim]{step:<9}[/] {escape(sentence)}", highlight=False, soft_wrap=True)


def _start_users(scene: Scene) -> None:
    url = f"http://{scene.serving.stack.address}"
    argv = (sys.executable, "-m", "coalmine.demo.traffic", str(scene.top), MODEL, url, str(REQUESTS_PER_S))
    scene.serving.stack.run(ProcessSpec(USERS, (*argv, str(scene.scores), *LATER)))
    deadline = time.monotonic() + 30
    while _scores(scene).requests == 0:
        if time.monotonic() > deadline:
            raise CoalmineError(f"The users do not come: see {scene.serving.stack.log(USERS)}")
        time.sleep(0.2)
    scene.console.print(
        f"  Users arrive: {REQUESTS_PER_S} requests per second, real flights of July and August."
    )


def _stop_users(scene: Scene) -> Scores:
    scene.serving.stack.stop(USERS)
    return _scores(scene)


def _scores(scene: Scene) -> Scores:
    return read_scores(scene.scores) or Scores(time.time())


def _users(scene: Scene) -> None:
    scores = _scores(scene)
    by_version = ", ".join(f"{each.requests:,} by {version}" for version, each in scores.by_version.items())
    scene.console.print(
        f"  Users so far: {scores.requests:,} requests ({by_version}), {scores.failures} failed; "
        f"half within {scores.p50_ms:.0f} ms, 99 % within {scores.p99_ms:.0f} ms.",
        highlight=False,
        soft_wrap=True,
    )


def _cost(scene: Scene, before: Scores) -> None:
    """What the bad model cost its users, as they saw it."""
    time.sleep(1.5)  # their last answers are counted
    after = _scores(scene)
    requests, failures = after.requests - before.requests, after.failures - before.failures
    bad = after.by_version.get(BAD)
    if bad is None:
        scene.console.print("  The bad model served nobody.")
        return
    seconds = after.last_by_version_s[BAD] - after.first_by_version_s[BAD]
    scene.console.print(
        f"  [bold]It cost {failures} failed requests[/]: {failures / requests:.2%} of the {requests:,} "
        "in this act. "
        f"The bad model served {bad.requests:,} requests in {seconds:.0f} s; then everybody was back.",
        highlight=False,
        soft_wrap=True,
    )


def _failed_on_bad(scores: Scores) -> int:
    return scores.by_version[BAD].failures if BAD in scores.by_version else 0


def _edit_model(top: Path) -> None:
    """What Sam changes: complete rows only, and an estimator that never met a missing value."""
    path = top / "models" / MODEL / "model.yaml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("rows: all", "rows: complete")
    text = re.sub(r"- class: sklearn\.ensemble\.Hist.*?(?=\n\n)", SAMS_CLASSIFIER, text, flags=re.DOTALL)
    path.write_text(text, encoding="utf-8")


def _act(console: Console, title: str, what: str) -> None:
    console.print(
        f"\n[bold cyan]{title}[/]" + (f"  [dim]{escape(what)}[/]" if what else ""),
        highlight=False,
        soft_wrap=True,
    )
