"""`cvtool models cost` as a user has it."""

import json

import pytest

from cvtool.__main__ import main


def test_totals_and_a_table_of_parts(capsys):
    assert main(["models", "cost", "resnet.20"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("resnet.20 at 32 x 32: 269,722 parameters, 0.041 GMACs (0.081 GFLOPs)")
    assert "weights" in out[1]
    table = [line.split("\t") for line in out[2:]]
    assert table[0] == ["part", "kind", "output", "parameters", "MMACs", "M activations"]
    rows = {row[0]: row for row in table[1:]}
    assert rows["net.conv1"][2:5] == ["16x32x32", "432", "0.44"]
    assert rows["net.fc"][1] == "Linear"
    assert sum(int(row[3].replace(",", "")) for row in table[1:]) == 269_722


@pytest.mark.system("conv2d")
@pytest.mark.system("grouped-conv")
@pytest.mark.system("depthwise-separable")
def test_several_models_as_json_lines(capsys):
    assert main(["models", "cost", "resnet.tiny", "vit.tiny", "resnext.tiny", "--img-size", "64", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["model"] for one in found] == ["resnet.tiny", "vit.tiny", "resnext.tiny"]
    for one in found:
        assert one["image"] == [64, 64]
        assert one["flops"] == 2 * one["macs"] > 0
        assert one["peak_bytes"] > one["weight_bytes"]


def test_time_is_measured_on_request(capsys):
    assert main(["models", "cost", "resnet.tiny", "--time", "--device", "cpu", "-b", "2"]) == 0
    assert "time on cpu, fp32, batch of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["resnet.tiny", "--device", "cpu"], 2, "--device has no effect without --time"),
        (["resnet.tiny", "--batch-size", "4"], 2, "--batch-size has no effect without --time"),
        (["resnet.tiny", "--precision", "bf16"], 2, "--precision has no effect without --time"),
        (["resnett"], 4, "unknown model 'resnett'"),
        (["knn", "--time"], 4, "fitted"),
        ([], 2, "REF"),
    ],
)
def test_what_has_no_effect_or_no_model_is_an_error(words, code, said, capsys):
    assert main(["models", "cost", *words]) == code
    assert said in capsys.readouterr().err


def test_what_is_fitted_has_a_size_and_no_products(capsys):
    assert main(["models", "cost", "viola-jones"]) == 0
    assert "nothing is counted" in capsys.readouterr().out


def test_the_environments_device_is_for_other_commands(capsys, monkeypatch):
    monkeypatch.setenv("CVTOOL_DEVICE", "cpu")
    assert main(["models", "cost", "resnet.tiny"]) == 0
