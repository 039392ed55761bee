"""How fast one worker answers, beside the bare HTTP stack and other projects' model servers.

python -m benchmarks.serving [--quick] [--rounds N] [--release DIR]

Every server gets the same fitted models and the same rows, has one core for itself, and is asked
from the other one by one load generator; the servers take turns, so that a noisy machine is noisy
for all. Other projects' servers run in environments of their own, made on first use.
`--quick` leaves these out, and the model on named columns.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.serving import cases, chart, steps
from benchmarks.serving.contenders import ROOT, Contender, own, own_server
from benchmarks.serving.environments import environment
from benchmarks.serving.peers import PEERS
from benchmarks.serving.release import write_release
from benchmarks.serving.rounds import (
    SATURATING,
    WAITING,
    Rates,
    Round,
    Seconds,
    measure_round,
    saturation_per_second,
    seconds_to_ready,
)
from benchmarks.serving.tables import print_servers, print_steps
from benchmarks.serving.targets import judge
from benchmarks.table import report

STARTS = 5
QUICK_SERVERS = 3  # the bare stack, ours, and our HTTP layer alone
FULL = Seconds(warm_up=1.0, saturation=4.0, at_rate=6.0)
QUICK = Seconds(warm_up=0.3, saturation=1.3, at_rate=1.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 45 s: the bare stack and our server")
    parser.add_argument("--rounds", type=int, metavar="N", help="of all servers in turn (default: 5)")
    parser.add_argument(
        "--release",
        type=Path,
        metavar="DIR",
        help="a release folder whose time from start to ready is judged (default: that of named columns)",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving.json"))
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        return _run(arguments, Path(folder))


def _run(arguments: argparse.Namespace, top: Path) -> int:
    seconds = QUICK if arguments.quick else FULL
    made = [_Case.make(case, top) for case in (cases.trees(), cases.columns())]
    judged = own_server((arguments.release or made[-1].release).resolve(), _folder(top / "ready"))
    asked = made[:1] if arguments.quick else made
    versions: dict[str, dict[str, str]] = {}
    for each in asked:
        each.contenders += own(each.case, each.release, _folder(top / each.case.name))
        if arguments.quick:
            del each.contenders[QUICK_SERVERS:]
            continue
        for peer, set_up in PEERS.items():
            home = environment(peer, ROOT / ".coalmine" / "benchmarks")
            versions[peer] = home.versions
            each.contenders.append(set_up(each.case, home, _folder(top / f"{each.case.name}-{peer}")))

    profiles = {each.case.name: steps.profile(each.case, each.release) for each in asked}
    turns = arguments.rounds or (2 if arguments.quick else 5)
    rounds = [found for each in asked for found in _rounds(each, turns, seconds, arguments.quick)]
    ready_s = [seconds_to_ready(judged) for _ in range(3 if arguments.quick else STARTS)]

    print()
    for each in asked:
        of_case = [found for found in rounds if found.case == each.case.name]
        print_servers(each.case.title, each.contenders, of_case)
        print_steps(each.case.title, profiles[each.case.name], of_case)
    drawing = arguments.out.with_suffix(".svg")
    drawing.parent.mkdir(parents=True, exist_ok=True)
    drawing.write_text(chart.draw({each.case.name: each.case.title for each in asked}, rounds))
    measurements = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": sys.version},
        "seconds": asdict(seconds),
        "connections": {"saturation": SATURATING, "at a rate": WAITING},
        "rows": cases.ASKED_ABOUT,
        "servers": {
            each.case.name: [
                {"name": server.name, "settings": server.settings, "note": server.note}
                for server in each.contenders
            ]
            for each in asked
        },
        "versions": versions,
        "rounds": [each.to_json() for each in rounds],
        "steps_us": profiles,
        "ready_s": ready_s,
    }
    status = report(judge(rounds, ready_s, judged.name), arguments.out, measurements)
    print(f"drawn to {drawing}")
    return status


@dataclass
class _Case:
    case: cases.Case
    release: Path
    contenders: list[Contender] = field(default_factory=list)

    @classmethod
    def make(cls, case: cases.Case, top: Path) -> _Case:
        release = top / f"release-{case.name}"
        write_release(case, release)
        return cls(case, release)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _rounds(asked: _Case, turns: int, seconds: Seconds, is_quick: bool) -> Iterator[Round]:
    """All servers in turn, `turns` times."""
    name = asked.case.name
    saturation = {}
    for contender in asked.contenders:
        print(f"{name}: {contender.name}, to fix its rate", flush=True)
        saturation[contender.name] = saturation_per_second(contender, seconds)
    half = {server: max(per_second // 2, 1.0) for server, per_second in saturation.items()}
    common = None if is_quick else min(half.values())
    for turn in range(1, turns + 1):
        for contender in asked.contenders:
            print(f"{name}: round {turn} of {turns}, {contender.name}", flush=True)
            rates = Rates(half[contender.name], common)
            yield measure_round(contender, rates, seconds)


if __name__ == "__main__":
    sys.exit(main())
