"""Questions as text: what is understood, and what is said of everything else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alflow.domain import Structure
from alflow.domain.formula import normal_formula
from alflow.errors import QueryError, StructureError
from alflow.store import Expression, column
from alflow.store.asking.columns import COLUMNS, Kind, described
from alflow.store.asking.expressions import MAX_DEPTH, MAX_TERMS, And, Comparison
from alflow.store.asking.parsing import parse_question

WORDS = [
    *(column.name for column in COLUMNS),
    *("and", "or", "not", "in", "between", "like", "is", "null", "AND", "(", ")", ",", "=", "!=", "<", "<=", ">", ">="),
    *(
        "3",
        "-1.5e3",
        "0.3",
        "1e999",
        "nan",
        "C2H6O",
        "flagged",
        "'a''b'",
        '"x',
        "2026-11-27",
        "%",
        "\0",
        "&",
        "é",
        "\n",
    ),
]


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_any_text_is_a_question_or_told_what_is_wrong(text: str) -> None:
    try:
        found = parse_question(text)
    except QueryError:
        return
    assert found is None or isinstance(found, Expression)


@pytest.mark.parametrize("opening", ["(", "not ", "not ("])
@pytest.mark.parametrize("deep", [100, 10_000])
def test_deep_nesting_is_refused_in_a_sentence(opening: str, deep: int) -> None:
    text = opening * deep + "walker = 1" + ")" * (deep * opening.count("("))
    with pytest.raises(QueryError, match=r"nested more than \d+ deep; write it flatter"):
        parse_question(text)


def test_twenty_parentheses_are_no_trouble() -> None:
    assert parse_question("(" * 20 + "walker = 1 or walker = 2" + ")" * 20) == parse_question(
        "walker = 1 or walker = 2"
    )


def test_too_many_comparisons_and_values_are_refused() -> None:
    with pytest.raises(QueryError, match=f"more than {MAX_TERMS} comparisons; use 'in"):
        parse_question(" or ".join(["walker = 1"] * (MAX_TERMS + 1)))
    with pytest.raises(QueryError, match="A list may have 10000 values"):
        parse_question(f"walker in ({', '.join(['1'] * 10_001)})")
    with pytest.raises(QueryError, match="100000 characters"):
        parse_question("walker = 1 " + " " * 100_000)
    deep: Expression = column.walker == 1
    for _ in range(MAX_DEPTH - 1):
        deep = ~deep
    with pytest.raises(QueryError, match=f"nested more than {MAX_DEPTH} deep"):
        _ = ~deep


def test_text_and_python_say_the_same() -> None:
    pairs = {
        "formula = C2H6O and max_force_ev_ang < 20 and disagreement > 0.3 and generation >= 2": (
            (column.formula == "C2H6O")
            & (column.max_force < 20)
            & (column.disagreement_ev_ang > 0.3)
            & (column.generation >= 2)
        ),
        "walker in (1, 2) or NOT walker IS NULL": column.walker.is_in([1, 2]) | ~column.walker.is_null(),
        "walker not in (1) or walker is not null": ~column.walker.is_in([1]) | ~column.walker.is_null(),
        "(energy between -1e3 and 2) or host like 'node%'": column.energy.between(-1e3, 2) | column.host.like("node%"),
        "disagreement >= threshold": column.disagreement >= column.threshold,
        "labelled_at > 2026-11-27": column.labelled_at > datetime(2026, 11, 27, tzinfo=UTC),
        "labelled_at <> '2026-11-27T12:00+02:00'": column.labelled_at != datetime(2026, 11, 27, 10, tzinfo=UTC),
    }
    for text, expression in pairs.items():
        assert parse_question(text) == expression
    assert (column.labelled_at == date(2026, 11, 27)) == parse_question("labelled_at = 2026-11-27")
    assert parse_question(" \n ") is None


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("disagrement > 1", "disagrement", "There is no column 'disagrement'. Did you mean 'disagreement'?"),
        ("walker = 1 and zzz = 2", "zzz", "There is no column 'zzz'. `alflow query --columns-list` lists them."),
        ("n_atoms = abc", "abc", "n_atoms is a whole number, such as 2; found 'abc'."),
        ("n_atoms = 2.5", "2.5", "n_atoms is a whole number of at most 19 digits; found 2.5."),
        ("step < 99999999999999999999", "99999999999999999999", "whole number of at most 19 digits"),
        ("energy < '3'", "'3'", "energy_ev is a number, such as 0.3 or 1e-3; found '3' in quotes."),
        ("energy < 1e999", "1e999", "energy_ev is a number; found inf."),
        ("energy < nan", "nan", "energy_ev is a number, such as 0.3 or 1e-3; found 'nan'."),
        ("decision = flaged", "flaged", "Did you mean 'flagged'?"),
        ("formula = c2h6o", "c2h6o", "'c2h6o' is no formula; expected symbols and numbers, such as C2H6O"),
        ("formula = Xx2", "Xx2", "Xx"),
        ("formula > CH4", ">", "formula is text, which has no order here; use =, !=, in or like."),
        ("walker like '1%'", "like", "walker is a whole number; 'like' is for text."),
        ("forces > 1", ">", "forces_ev_ang is an array, which can be shown but not compared."),
        ("disagreement > time", "time", "different units cannot be compared: disagreement_ev_ang in eV/Å and time_fs"),
        ("walker = null", "null", "Nothing equals null; write 'is null' or 'is not null'."),
        ("walker is 3", "3", "Expected null or not null after 'is'; found '3'."),
        ("labelled_at > 2026-13-01", "2026-13-01", "labelled_at is a time, such as 2026-11-27"),
        ("walker in 1", "1", "Expected values in parentheses after 'in'; found '1'."),
        ("walker between 1 or", "or", "Expected 'and' and the upper end of 'between'; found 'or'."),
        ("0.3 < disagreement", "0.3", "and its value behind the sign; found '0.3'"),
        ("disagreement > 0,3", ",", "Decimals are written with a point."),
        ("(walker = 1", "(", "This parenthesis is never closed."),
        ("walker = 1)", ")", "Expected and, or, or the end; found ')'."),
        ("host = 'node", "'", "This quote is never closed."),
        ("walker = 1 && step = 2", "&", "The character '&' means nothing here. Write 'and'."),
        ("host = and", "and", "Expected a value of host; found 'and'. Put it in quotes if it is a text."),
        ("walker not = 1", "=", "after walker; found '='"),
        ("host = '\0'", "'\0'", "A text may hold no zero bytes"),
    ],
)
def test_what_is_wrong_is_said_and_the_place_is_marked(text: str, place: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_question(text)
    told, shown, marks = str(caught.value).split("\n")
    assert message in told
    assert shown == "  " + text.replace("\0", " ")
    start = marks.index("^") - 2
    assert text[start : start + len(marks.strip())] == place


def test_a_wrong_place_far_away_is_still_in_sight() -> None:
    with pytest.raises(QueryError) as caught:
        parse_question("walker = 1 or " * 40 + "wlker = 2" + " or walker = 1" * 40)
    _, shown, marks = str(caught.value).split("\n")
    assert shown[marks.index("^") : marks.rindex("^") + 1] == "wlker"
    assert len(shown) < 110


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: column.walker == None, "ask whether walker is null"),  # noqa: E711
        (lambda: column.energy < "3", "energy_ev is a number; found '3'"),
        (lambda: column.energy < float("inf"), "energy_ev is a number; found inf"),
        (lambda: column.walker == True, "walker is a whole number; found True"),  # noqa: E712
        (lambda: column.host == 3, "host is text; found 3"),
        (lambda: column.host.like(3), "takes a text with % and _; found 3"),
        (lambda: column.host == "\ud800", "no broken Unicode"),
        (lambda: column.host == "x" * 1001, "A text may have 1000 characters"),
        (lambda: column.labelled_at > 3, "labelled_at is a time"),
        (lambda: column.energy == column.host, "only columns that hold numbers can"),
        (lambda: column.positions == 3, "is an array"),
        (lambda: column.wlker, "Did you mean 'walker'"),
        (lambda: bool(column.walker == 1), "Join questions with &, | and ~"),
        (lambda: 1 < column.walker < 3, "Join questions with &, | and ~"),
    ],
)
def test_python_is_told_the_same(wrong: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message.replace("|", r"\|")):
        wrong()


@given(st.dictionaries(st.sampled_from(["C", "H", "O", "Si", "S", "I", "Cl"]), st.integers(1, 99), min_size=1))
def test_a_formula_is_understood_however_it_is_written(counts: dict[str, int]) -> None:
    spelt = "".join(symbol * (counts[symbol] % 3) + f"{symbol}{counts[symbol]}" for symbol in counts)
    total = {symbol: number + number % 3 for symbol, number in counts.items()}
    atoms = [symbol for symbol, number in total.items() for _ in range(number)]
    structure = Structure.of(atoms, [[float(i), 0.0, 0.0] for i in range(len(atoms))])
    assert normal_formula(spelt) == structure.formula
    assert parse_question(f"formula = {spelt}") == Comparison(described("formula"), "=", structure.formula)


@pytest.mark.parametrize("text", ["", "H0", "H02", "h2o", "H 2", "2H", "H9999999999", "H٣"])
def test_what_is_no_formula_is_said(text: str) -> None:
    with pytest.raises(StructureError, match="is no formula"):
        normal_formula(text)


def test_every_column_has_one_meaning_and_a_unit_where_its_name_has_one() -> None:
    names = [name for about in COLUMNS for name in (about.name, *about.aliases)]
    assert len(names) == len(set(names))
    endings = {"_ev_ang": "eV/Å", "_ev": "eV", "_fs": "fs", "_s": "s", "_mb": "MB", "_ang": "Å", "_ev_ang3": "eV/Å³"}
    for about in COLUMNS:
        fits = [unit for ending, unit in endings.items() if about.name.endswith(ending)]
        assert about.unit in (fits or ["", "e", "UTC"]), about.name
        assert (about.words != ()) == (about.kind is Kind.WORD)
    assert isinstance(parse_question("walker = 1 and walker = 2"), And)
