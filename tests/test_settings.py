"""What coalmine.yaml may say of when an environment takes a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.errors import SpecError
from coalmine.settings import Settings, load_settings

HEAD = "environments:\n  staging: {}\n  production:\n"


def load(tmp_path: Path, production: str) -> Settings:
    (tmp_path / "coalmine.yaml").write_text(f"{HEAD}    {production}\n")
    return load_settings(tmp_path)


def test_times_of_a_day_mean_the_same_with_quotes_and_without(tmp_path: Path) -> None:
    plain = load(
        tmp_path, "freezes: [{days: [mon], from: 16:00, to: 24:00}, {from: 2026-12-18, to: 2027-01-03}]"
    )
    quoted = load(
        tmp_path,
        "freezes: [{days: [mon], from: '16:00', to: '24:00'}, {from: '2026-12-18', to: '2027-01-03'}]",
    )
    assert plain == quoted
    assert [str(freeze) for freeze in plain.environments["production"].freezes] == [
        "mon 16:00 to 24:00",
        "2026-12-18 to 2027-01-03",
    ]


@pytest.mark.parametrize(
    ("production", "says"),
    [
        pytest.param(
            "after: stagin", r"production.after` names `stagin`.*There are: staging, production", id="after"
        ),
        pytest.param("after: production", "circle.*production after production", id="after itself"),
        pytest.param(
            "after: {environment: staging, held: 24h}", "did you mean `held_for`", id="a typing error"
        ),
        pytest.param("after: {environment: staging, held_for: 24}", "`90m`, `24h`, `7d`", id="no unit"),
        pytest.param("time_zone: Europe/Berln", "did you mean `Europe/Berlin`", id="no such zone"),
        pytest.param("time_zone: Europe", "unknown time zone `Europe`", id="a folder of zones"),
        pytest.param("releases_per_day: 0", "releases_per_day.*greater than or equal to 1", id="none a day"),
        pytest.param(
            "freezes: [{from: fri 16:00, to: fri 16:00}]", "nothing would ever begin", id="a whole week"
        ),
        pytest.param(
            "freezes: [{days: [fri], from: '09:00', to: '09:00'}]", "`00:00` and `24:00`", id="no time"
        ),
        pytest.param(
            "freezes: [{from: 2026-12-18, to: 2026-12-17}]", "not later than `from`", id="backwards"
        ),
        pytest.param("freezes: [{from: '16:00', to: '18:00'}]", "`16:00` with `days`", id="on no day"),
        pytest.param(
            "freezes: [{days: [fri], from: '16:00', to: '24:01'}]", "`24:01` is no time", id="no such time"
        ),
        pytest.param(
            "freezes: [{from: 2026-12-18 16:00Z, to: 2026-12-19}]", "zone of its own", id="another zone"
        ),
        pytest.param(
            "freezes: [{from: 2026-12-18, to: 9999-12-31}]", "no year from 1970", id="for all years"
        ),
        pytest.param("freezes: [{from: fri 16:00, till: mon 08:00}]", "`from`|known here", id="another word"),
        pytest.param("freezes: [{days: [freitag], from: '16:00', to: '18:00'}]", "days", id="no such day"),
        pytest.param(
            "freezes: [{from: mon 00:00, to: fri 12:00}, {from: fri 08:00, to: mon 00:01}]",
            "leave no minute of a week",
            id="for ever",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_place_and_remedy(
    tmp_path: Path, production: str, says: str
) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        load(tmp_path, production)
    assert str(refused.value).startswith("coalmine.yaml")


def test_a_longer_circle_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "coalmine.yaml").write_text(
        "environments:\n  a: {after: c}\n  b: {after: a}\n  c: {after: b}\n  d: {after: a}\n"
    )
    with pytest.raises(SpecError, match="a after c after b after a"):
        load_settings(tmp_path)
