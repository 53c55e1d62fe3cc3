"""Feature distance: by hand on a small network, ranks that people would give, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageFilter

from cvtool import weights
from cvtool.cli import command
from cvtool.errors import InputError, UsageError
from cvtool.metrics import feature_distance


def test_it_is_the_mean_over_the_sizes_of_maps_of_length_1(picture, tmp_path):
    torch.manual_seed(0)
    info = weights.Info(reference="resnet.tiny", categories=[{"id": 1, "name": "a"}])
    model = weights.build("resnet.tiny", categories=info.categories).eval()
    path = str(weights.save(model, tmp_path / "r.safetensors", info))
    one, other = picture(52, 40), picture(52, 40, seed=1)
    seen = []
    for module in model.modules():
        module.register_forward_hook(lambda module, given, out: seen.append(out.clone()) if isinstance(out, torch.Tensor) and out.ndim == 4 else None)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.prepare.mean, model.prepare.std))
    with torch.no_grad():
        model.net((torch.from_numpy(np.stack([one, other])).permute(0, 3, 1, 2).float() / 255 - mean) / std)
    last = {out.shape[-2:]: out for out in seen if min(out.shape[-2:]) > 1}  # the last of each size
    assert len(last) >= 2
    total = 0.0
    for out in last.values():
        unit = (out / out.norm(dim=1, keepdim=True)).double().nan_to_num()
        total += float((unit[0] - unit[1]).square().sum(0).mean())
    found = feature_distance.compute(one, other, extractor=path)["feature_distance"]
    assert found == pytest.approx(total / len(last), rel=1e-4)
    assert feature_distance.compute(one, one, extractor=path)["feature_distance"] == 0
    with pytest.raises(InputError, match="1 x 1 pixels are too few"):
        feature_distance.compute(one[:1, :1], other[:1, :1], extractor=path)
    with pytest.raises(UsageError, match="makes no maps"):
        feature_distance.compute(one, other, extractor="handcrafted")
    with pytest.raises(UsageError, match="does not look at pictures"):
        feature_distance.make(extractor="freeform-mask")


def test_the_command_ranks_as_people_do_and_needs_no_download(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("CVTOOL_OFFLINE", "1")
    true = Image.fromarray(picture(128, 96))
    made = {
        "soft": true.filter(ImageFilter.GaussianBlur(0.6)),
        "blurred": true.filter(ImageFilter.GaussianBlur(3)),
        "other": picture(128, 96, seed=5),
    }
    found = {}
    for name, image in made.items():
        for folder, content in (("true", true), (name, image if isinstance(image, Image.Image) else Image.fromarray(image))):
            (tmp_path / folder).mkdir(exist_ok=True)
            content.save(tmp_path / folder / "a.png")
        words = ["--gt", str(tmp_path / "true"), "--dt", str(tmp_path / name), "--metric", "psnr,feature-distance", "--json"]
        said = CliRunner().invoke(command("evaluate"), words)
        assert said.exit_code == 0, said.output
        report = json.loads(said.stdout)
        found[name] = report["metrics"]["feature_distance"]
        assert 0 < found[name] < 4
    assert found["soft"] < found["blurred"] < found["other"]
