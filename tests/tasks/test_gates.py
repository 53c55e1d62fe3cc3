"""Gates and limits: their grammar, and that a figure which is not there fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvtool.errors import UsageError
from cvtool.tasks.gates import OPERATORS, Gate, gate, limit, verdicts

REPORT = {
    "metrics": {"AP": 0.5, "AP50": 0.75, "APl": None, "per_class.dog.AP50": 0.25, "per_class.a b=c@1.5.AP": 0.1, "recall@1": 1.0},
    "slices": {"weather": {"rain": {"units": 3, "AP": 0.125}}},
    "counts": {"images": 7, "matched_by": "image id"},
}


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("AP>=0.5", True), ("AP >= .5", True), ("AP>0.5", False), ("AP<=0.5", True), ("AP<0.5", False), ("AP==0.5", True), ("AP == 5e-1", True),
        ("AP50>=0.76", False), ("per_class.dog.AP50>=0.2", True), ("per_class.a b=c@1.5.AP >= 0.1", True), ("recall@1>=1", True),
        ("slices.weather.rain.AP<0.2", True), ("slices.weather.rain.units==3", True), ("counts.images>=7", True), ("AP>-1", True),
    ],
)  # fmt: skip
def test_conditions(text: str, passed: bool) -> None:
    row = verdicts([gate(text)], REPORT)[0]
    assert row["passed"] is passed
    assert row["gate"] == text
    assert row["value"] is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("APl>=0", "not measured"), ("APl<1", "not measured"), ("AP5>=0", "did you mean"), ("ap50>=0", "did you mean AP50"),
        ("per_class.dgo.AP50>0", "per_class.dog.AP50"), ("zzz<1", "there are AP"), ("counts.matched_by==1", "no 'counts.matched_by'"),
    ],
)  # fmt: skip
def test_what_is_not_there_fails_whatever_is_asked_of_it(text: str, words: str) -> None:
    row = verdicts([gate(text)], REPORT)[0]
    assert (row["passed"], row["value"]) == (False, None)
    assert words in row["why"]


def test_a_number_that_is_none_fails() -> None:
    for value in (float("nan"), float("inf")):
        assert not verdicts([gate("AP>=0")], {"metrics": {"AP": value}})[0]["passed"]


@pytest.mark.parametrize("text", ["AP", "AP>=", ">=0.5", "AP=0.5", "AP=>0.5", "AP>=40%", "AP>=nan", "AP>=AP50", "AP!=1", "AP>=0.5 AP50>1x", ""])
def test_what_is_no_condition_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is no condition"):
        gate(text)


def test_a_single_equality_sign_is_explained() -> None:
    with pytest.raises(UsageError) as stop:
        gate("AP=0.5")
    assert "'AP==0.5'" in str(stop.value)


words = st.text("abAP5.@ =_/", min_size=1, max_size=12).map(str.strip).filter(lambda key: key and key[-1] != "=")


@given(words, st.sampled_from(list(OPERATORS)), st.floats(-1e3, 1e3, allow_nan=False), st.sampled_from(["", " "]))
def test_any_key_is_read_back(key: str, operator: str, number: float, blank: str) -> None:
    read = gate(f"{key}{blank}{operator}{blank}{number!r}")
    assert (read.key, read.operator, read.number) == (key, operator, number)
    assert verdicts([read], {"metrics": {key: number}})[0]["passed"] is (operator in (">=", "<=", "=="))


def test_keys_that_hold_operators() -> None:
    assert gate("a>=b>=0.5") == Gate("a>=b>=0.5", "a>=b", ">=", 0.5)


def test_limits() -> None:
    assert (limit("0.005").key, limit("0.005").drop) == (None, 0.005)
    assert (limit("AP50 = 0.01").key, limit("AP50=0.01").drop) == ("AP50", 0.01)
    assert limit("per_class.a=b.AP=.1").key == "per_class.a=b.AP"
    for bad in ("AP50", "AP=", "-0.1", "AP=-1", "=1", "AP=x", "nan"):
        with pytest.raises(UsageError, match="is no drop"):
            limit(bad)
