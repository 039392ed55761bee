from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.slots import Slot
from coalmine.telemetry.pairs import WAITING, Ask, ServedPairs, of_this_machine
from tests.telemetry.told import Told, telling

PATH = "/served"


@dataclass
class Server:
    """A model server that remembers what it answered."""

    told: Told
    epoch: str = "1"
    served: list[tuple[str, list[float]]] = field(default_factory=list)

    def tell(self, query: str) -> str:
        after = int(query.removeprefix("after="))
        served = [{"id": request_id, "scores": scores} for request_id, scores in self.served[after:]]
        return json.dumps({"epoch": self.epoch, "next": len(self.served), "served": served})

    def start_again(self) -> None:
        self.epoch += "1"
        self.served.clear()


@pytest.fixture
def servers() -> Iterator[dict[Slot, Server]]:
    with ExitStack() as stack:
        servers = {slot: Server(stack.enter_context(telling())) for slot in Slot}
        for server in servers.values():
            server.told.answers[PATH] = server.tell
        yield servers


def served_pairs(servers: dict[Slot, Server]) -> ServedPairs:
    ports = {slot: server.told.port for slot, server in servers.items()}
    return ServedPairs(of_this_machine("m", ports), tolerance=0.1)


@pytest.fixture
def pairs(servers: dict[Slot, Server]) -> ServedPairs:
    return served_pairs(servers)


def both(servers: dict[Slot, Server], request_id: str, blue: list[float], green: list[float]) -> None:
    servers[Slot.BLUE].served.append((request_id, blue))
    servers[Slot.GREEN].served.append((request_id, green))


@pytest.mark.parametrize(
    ("green", "different"),
    [
        pytest.param([0.5], 0, id="equal"),
        pytest.param([0.6], 0, id="within the tolerance"),
        pytest.param([0.61], 1, id="beyond it"),
        pytest.param([0.5, 0.5], 1, id="another number of rows"),
    ],
)
def test_answers_are_compared_by_tolerance(
    servers: dict[Slot, Server], pairs: ServedPairs, green: list[float], different: int
) -> None:
    both(servers, "a", [0.5], green)
    read = pairs.read()
    assert (read.compared, read.different) == (1, different)


def test_answers_are_joined_by_request_id_whenever_they_come(
    servers: dict[Slot, Server], pairs: ServedPairs
) -> None:
    servers[Slot.BLUE].served += [("a", [0.1]), ("b", [0.9]), ("never copied", [0.5])]
    assert pairs.read().compared == 0
    servers[Slot.GREEN].served += [("b", [0.9]), ("a", [0.1])]
    assert pairs.read().compared == 2
    assert pairs.read().compared == 2


def test_an_id_that_comes_twice_is_compared_with_nothing(
    servers: dict[Slot, Server], pairs: ServedPairs
) -> None:
    both(servers, "a", [0.1], [0.1])
    servers[Slot.BLUE].served.append(("a", [0.9]))
    assert pairs.read().compared == 0


def test_a_server_that_was_started_again_is_read_from_its_beginning_and_takes_nothing_back(
    servers: dict[Slot, Server], pairs: ServedPairs
) -> None:
    both(servers, "a", [0.1], [0.1])
    servers[Slot.BLUE].served.append(("b", [0.1]))
    before = pairs.read()
    servers[Slot.GREEN].start_again()
    servers[Slot.GREEN].served.append(("b", [0.9]))
    after = pairs.read()
    assert before.epoch == after.epoch
    assert (after.compared, after.different) == (2, 1)
    assert pairs.read() == after


def test_an_epoch_does_not_outlive_who_counts_in_it(servers: dict[Slot, Server]) -> None:
    assert served_pairs(servers).read().epoch != served_pairs(servers).read().epoch


def test_answers_of_all_servers_of_a_slot_are_joined_while_servers_come_and_go() -> None:
    pods = {name: Server(Told(), epoch=name) for name in ("b1", "b2", "g1", "g2")}
    serving = {Slot.BLUE: ["b1", "b2"], Slot.GREEN: ["g1"]}

    def ask(name: str) -> Ask:
        return lambda path: pods[name].tell(path.partition("?")[2]).encode()

    pairs = ServedPairs(
        lambda: {slot: {name: ask(name) for name in names} for slot, names in serving.items()}, tolerance=0.1
    )
    pods["b1"].served.append(("a", [0.1]))
    pods["b2"].served.append(("b", [0.1]))
    pods["g1"].served.append(("b", [0.1]))
    assert pairs.read().compared == 1
    serving[Slot.BLUE], serving[Slot.GREEN] = ["b2"], ["g2"]
    pods["g2"].served += [("a", [0.9]), ("c", [0.1])]
    pods["b2"].served.append(("c", [0.1]))
    read = pairs.read()
    assert (read.compared, read.different) == (3, 1)


def test_what_waits_for_its_other_half_is_bounded(servers: dict[Slot, Server], pairs: ServedPairs) -> None:
    servers[Slot.BLUE].served += [(str(number), [0.5]) for number in range(WAITING + 10)]
    pairs.read()
    servers[Slot.GREEN].served += [("3", [0.5]), (str(WAITING + 3), [0.5])]
    assert pairs.read().compared == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("no JSON", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param('{"epoch": "1", "next": 1}', id="nothing served"),
        pytest.param(
            '{"epoch": "1", "next": 1, "served": [{"id": "a", "scores": ["x"]}]}', id="text for a score"
        ),
        pytest.param(None, id="an older server"),
    ],
)
def test_what_was_not_asked_for_is_not_compared(
    servers: dict[Slot, Server], pairs: ServedPairs, answer: str | None
) -> None:
    if answer is None:
        del servers[Slot.GREEN].told.answers[PATH]
    else:
        servers[Slot.GREEN].told.answers[PATH] = answer
    with pytest.raises(TelemetryUnavailable, match="m-green"):
        pairs.read()
