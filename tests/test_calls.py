"""The one syntax of named parts."""

import pytest

from cvtool.calls import Call, bind, one, read, weighted
from cvtool.errors import UsageError


def test_a_list_keeps_numbers_with_the_call_before_them():
    assert read("flip,randaugment:2,9,color") == [Call("flip"), Call("randaugment", (2, 9)), Call("color")]
    assert read("erasing:0.25,fill=noise, mixup:.2 ,") == [Call("erasing", (0.25,), {"fill": "noise"}), Call("mixup", (0.2,))]
    assert read("") == []


def test_one_call_with_a_source_and_arguments():
    assert one("torch:Adamax") == Call("torch:Adamax")
    assert one("timm:lamb:betas=1") == Call("timm:lamb", (), {"betas": 1})
    assert one("adam:debias=false") == Call("adam", (), {"debias": False})
    assert str(one("nesterov:shifted,momentum=0.9")) == "nesterov:shifted,momentum=0.9"


def test_sums_and_weighted_lists():
    assert weighted("dice+0.5*ce") == [(1.0, Call("dice")), (0.5, Call("ce"))]
    assert weighted("l1:1,adv:0.01") == [(1.0, Call("l1")), (0.01, Call("adv"))]
    assert weighted("1e+1*l1+focal:gamma=2") == [(10.0, Call("l1")), (1.0, Call("focal", (), {"gamma": 2}))]


def test_binding_checks_names_kinds_and_counts():
    takes = {"n": 2, "m": 9.0, "fill": "grey"}
    assert bind(one("randaugment:3,5"), takes) == {"n": 3, "m": 5.0, "fill": "grey"}
    for wrong in ("randaugment:1,2,grey,4", "randaugment:k=1", "randaugment:1.5", "randaugment:1,n=2"):
        with pytest.raises(UsageError):
            bind(one(wrong), takes)


@pytest.mark.parametrize("text", ["2*", "x*ce", "+", "a:1,a=2,a=3", "!"])
def test_what_is_no_call_is_refused(text):
    with pytest.raises(UsageError):
        weighted(text)
