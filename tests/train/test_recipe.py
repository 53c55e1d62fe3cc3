"""Recipes: layers, kinds of values, suggestions, TOML and back."""

from __future__ import annotations

import tomllib

import pytest

from cvtool.errors import InputError, UsageError
from cvtool.train import recipe
from cvtool.train.recipe import Plan


def test_later_layers_win_and_variants_lie_over_the_model() -> None:
    own = {"lr": 0.1, "epochs": 3, "schedule": "step", "variants": {"small": {"lr": 0.2}, "big": {"lr": 0.3}}}
    assert recipe.of_model(own, "small") == {"lr": 0.2, "epochs": 3, "schedule": "step"}
    assert recipe.of_model(own, "other")["lr"] == 0.1
    found = recipe.resolve(recipe.of_model(own, "small"), {"epochs": 5}, {"epochs": 7, "ema": 0.9})
    assert (found["lr"], found["epochs"], found["ema"], found["optimizer"]) == (0.2, 7, 0.9, "adamw")
    assert set(found) == set(recipe.DEFAULTS)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("learning_rates", 1, "unknown setting 'learning_rates'"),
        ("batchsize", 4, "did you mean batch_size"),
        ("epochs", 2.5, "whole number"),
        ("epochs", 0, "at least 1"),
        ("lr", "fast", "a number"),
        ("lr", float("nan"), "a number"),
        ("lr", -1, "at least 0"),
        ("channels_last", 1, "true or false"),
        ("ema", 1, "below 1"),
        ("augment", True, "text"),
        ("epochs", True, "whole number"),
    ],
)
def test_wrong_settings(key: str, value: object, said: str) -> None:
    with pytest.raises(UsageError) as error:
        recipe.resolve({key: value})
    assert said in str(error.value)


def test_kinds_follow_the_default() -> None:
    found = recipe.resolve({"lr": 1, "warmup": ".5", "cache": 0})
    assert (found["lr"], found["warmup"], found["cache"]) == (1.0, 0.5, "0")
    assert type(found["lr"]) is float


def test_a_plan_is_a_config_file(tmp_path) -> None:
    made = {"command": 'cvtool train -m "x y" \\ \n', "folder": str(tmp_path)}
    plan = Plan("faster-rcnn.small", {"data": "a b/c", "split": "trainval"}, recipe.resolve({"optimizer": "sgd", "lr": 1e-5}), made)
    path = tmp_path / "recipe.toml"
    path.write_text(plan.to_toml(), encoding="utf-8")
    values = tomllib.loads(path.read_text())
    assert values["data"] == "a b/c"
    assert values["lr"] == 1e-5
    assert "steps" not in values  # what is off has no value that the option takes
    assert Plan.read(path) == plan
    for text in ("model = 3\nlr", "lr = 1.0", 'model = "m"\nwhat = 1'):
        path.write_text(text)
        with pytest.raises(InputError):
            Plan.read(path)


def test_relative_paths_are_found_from_elsewhere(tmp_path, monkeypatch) -> None:
    (tmp_path / "one" / "data").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    plan = Plan("m", {"data": "data", "split": "train"}, {}, {"folder": str(tmp_path / "one")})
    monkeypatch.chdir(tmp_path / "two")
    assert plan.located() == {"data": str(tmp_path / "one" / "data"), "split": "train"}
    monkeypatch.chdir(tmp_path / "one")
    assert plan.located()["data"] == "data"


def test_toml_text() -> None:
    values = {"a": True, "b": 1.5, "c": [1, 2], "d": 'quo"te\n\t\x7f', "e": None, "t": {"odd key": "x", "k": 1e-07}}
    assert tomllib.loads(recipe.toml(values)) == {key: value for key, value in values.items() if key != "e"}
