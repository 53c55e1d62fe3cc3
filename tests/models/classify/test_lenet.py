"""LeNet-5: its count, the names of a public file, handwritten digits."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.models.classify import lenet
from cvtool.tasks.train import train


@pytest.mark.system("lenet")
def test_parameters_on_32_pixels():
    model = lenet.build(classes=10)
    assert sum(p.numel() for p in model.parameters()) == 61_706
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert model.net.convnet(torch.rand(1, 1, 32, 32)).shape == (1, 120, 1, 1)


@pytest.mark.system("lenet")
def test_a_public_file_loads(tmp_path):
    torch.manual_seed(0)
    shapes = {"convnet.c1": (6, 1, 5, 5), "convnet.c3": (16, 6, 5, 5), "convnet.c5": (120, 16, 5, 5), "fc.f6": (84, 120), "fc.f7": (10, 84)}
    state = {f"{name}.{part}": torch.randn(shape if part == "weight" else shape[:1]) for name, shape in shapes.items() for part in ("weight", "bias")}
    torch.save(state, tmp_path / "lenet_mnist.pth")
    model, _ = weights.load(f"lenet@{tmp_path / 'lenet_mnist.pth'}")
    assert torch.equal(model.state_dict()["net.fc.f7.weight"], state["fc.f7.weight"])
    gray = torch.rand(2, 1, 32, 32)
    by_hand = gray
    for name in ("c1", "c3"):
        by_hand = torch.nn.functional.conv2d(by_hand, state[f"convnet.{name}.weight"], state[f"convnet.{name}.bias"]).relu()
        by_hand = torch.nn.functional.max_pool2d(by_hand, 2)
    by_hand = torch.nn.functional.conv2d(by_hand, state["convnet.c5.weight"], state["convnet.c5.bias"]).relu().flatten(1)
    by_hand = (by_hand @ state["fc.f6.weight"].T + state["fc.f6.bias"]).relu() @ state["fc.f7.weight"].T + state["fc.f7.bias"]
    assert torch.allclose(model(gray.expand(2, 3, 32, 32)), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.system("lenet")
def test_it_reads_handwritten_digits(tmp_path):
    """The UCI digits that come with scikit-learn: 1,797 of them, every fifth held out."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = tmp_path / "digits" / ("val" if i % 5 == 0 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / f"{i}.png")
    run = train("lenet", tmp_path / "digits", output=tmp_path / "runs", layers=[{"epochs": 15, "val_every": 15}])
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["val_accuracy"] > 0.97
