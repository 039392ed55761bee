"""What the demo's users send: real flights, as the model's inputs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import orjson

from coalmine.datasets.lookups import request_inputs
from coalmine.demo.traffic import flights
from coalmine.spec import load_model_spec

TOP = Path(__file__).parents[2]


def test_a_request_brings_the_inputs_and_leaves_the_weather_to_the_server() -> None:
    spec = load_model_spec(TOP, "flight-delays")
    for flight in islice(flights(TOP, "flight-delays", ["2013-07"]), 100):
        tensors = orjson.loads(flight.body)["inputs"]
        assert tuple(each["name"] for each in tensors) == request_inputs(spec)
        assert None not in [each["data"][0] for each in tensors]
        assert flight.label in (0, 1)
    assert not {"temp", "pressure"} & {each["name"] for each in tensors}
