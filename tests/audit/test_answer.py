"""One answer in its three forms for people: a terminal, a spreadsheet, a page."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console

from coalmine.audit.answer import LIMITS, Answer, Facts, Part, Sheet
from coalmine.audit.answer_page import render
from coalmine.audit.answer_terminal import print_answer

DIGEST = "ef" * 32
WHO = 'Li, <Sam> [bold] & "sons"'
FACTS = Facts("A release", (("Released by", WHO), ("Manifest", f"sha256 {DIGEST}")))
SHEET = Sheet("Deeds", ("When", "Who", "Digest"), (("2026-03-01 14:00:00 UTC", WHO, DIGEST),), 2, "Nothing.")


def answer(*parts: Part) -> Answer:
    return Answer("Who <did> it?", datetime(2026, 3, 1, tzinfo=UTC), "git@host:repo", "ab" * 20, None, parts)


def printed(*parts: Part) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        print_answer(answer(*parts), console)
    return capture.get()


def read(*parts: Part) -> list[list[str]]:
    return list(csv.reader(io.StringIO(answer(*parts).to_csv())))


def test_one_table_is_csv_as_it_is_with_every_column() -> None:
    assert read(SHEET) == [["When", "Who", "Digest"], ["2026-03-01 14:00:00 UTC", WHO, DIGEST]]


def test_several_parts_are_csv_with_a_line_for_each_value() -> None:
    assert read(FACTS, SHEET) == [
        ["Part", "Row", "Name", "Value"],
        ["A release", "1", "Released by", WHO],
        ["A release", "1", "Manifest", f"sha256 {DIGEST}"],
        ["Deeds", "1", "When", "2026-03-01 14:00:00 UTC"],
        ["Deeds", "1", "Who", WHO],
        ["Deeds", "1", "Digest", DIGEST],
    ]


def test_a_terminal_has_facts_whole_and_tables_without_what_has_no_room() -> None:
    said = printed(FACTS, SHEET)
    assert said.count(DIGEST) == 1
    assert said.count(WHO) == 2  # nobody's name is markup
    assert "Digest" not in said
    assert "--csv, --json or --page FILE" in said
    assert "--page FILE" not in printed(FACTS)


def test_a_digest_in_a_terminals_table_is_cut() -> None:
    whole = Sheet("Deeds", ("Digest",), ((DIGEST,), (f"flights {'0a' * 16}.dir",)), 1, "Nothing.")
    said = printed(whole)
    assert "efefefefefef " in said
    assert DIGEST not in said
    assert "flights 0a0a0a0a0a0a " in said


def test_every_form_for_people_ends_with_what_no_record_can_know() -> None:
    page, said = render(answer(FACTS)), " ".join(printed(FACTS).split())
    for sentence in LIMITS:
        assert sentence in page.replace("&#x27;", "'")
        assert sentence in said


def test_a_page_holds_every_column_and_takes_no_words_for_html() -> None:
    page = render(answer(FACTS, SHEET))
    assert page.count(DIGEST) == 2
    assert "<Sam>" not in page
    assert "<did>" not in page
    assert "<title>Who &lt;did&gt; it?</title>" in page
    assert page == render(answer(FACTS, SHEET))


def test_a_table_without_rows_says_so() -> None:
    nothing = Sheet("Deeds", ("When",), (), 1, "Nothing was done.")
    assert "Nothing was done." in printed(nothing)
    assert "Nothing was done." in render(answer(nothing))
    assert read(nothing) == [["When"]]


def test_a_table_that_has_no_room_is_folded_within_the_terminal_and_loses_nothing() -> None:
    long = "Dr. Alexandra von Hohenfels-Waldstein, model risk and validation"
    wide = Sheet(
        "Deeds", ("When", "Who"), (("2026-03-01", long), ("2026-03-02", "田中 一郎 " * 5)), 2, "Nothing."
    )
    console = Console(width=40)
    with console.capture() as capture:
        print_answer(answer(wide), console)
    table = capture.get().split("Deeds\n")[1].split("\n\n")[0].splitlines()
    assert all(cell_len(line) <= 40 for line in table)
    assert " ".join(line[12:].strip() for line in table[1:]).split() == [
        *long.split(),
        *["田中", "一郎"] * 5,
    ]
    assert [line[:12].strip() for line in table if line[:12].strip()] == ["When", "2026-03-01", "2026-03-02"]
