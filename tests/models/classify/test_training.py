"""Each classifier learns eight photographs until it knows them, as `cvtool train` runs it, and `classify` finds their classes again.

Eight pictures, seen until they are known: what cannot do that has a wrong loss, a wrong target or a network through which nothing comes.
"""

import pytest

from cvtool.data import inputs
from cvtool.tasks.classify import classify
from cvtool.tasks.train import train

# row of the ledger, model, settings over its recipe
SYSTEMS = [
    ("resnet-18", "resnet.tiny", {}),
    ("resnet-50", "resnet.tiny", {"block": "bottleneck", "stride_in": "1x1"}),
    ("wide-resnet", "wide-resnet.tiny", {}),
    ("resnext", "resnext.tiny", {}),
    ("se-resnet", "se-resnet.tiny", {}),
    ("densenet", "densenet.tiny", {}),
    ("mobilenet-v2", "mobilenet-v2.tiny", {}),
    ("efficientnet", "efficientnet.tiny", {}),
    (
        "efficientnet-l2",
        "efficientnet.l2",
        {"scale_width": 0.02, "scale_depth": 0.05, "scale_res": 0.08, "norm_momentum": 0.3, "dropout": 0.0, "drop_path": 0.0},
    ),
    ("regnet", "regnet.tiny", {}),
    ("simple-cnn", "simple-cnn.tiny", {"norm": "none", "lr": 5e-3, "epochs": 60}),
    ("lenet", "lenet.5", {"lr": 2e-3, "epochs": 60}),
    ("alexnet", "alexnet.tiny", {"dropout": 0.0, "lr": 2e-3, "epochs": 60}),
    ("vgg-16", "vgg.tiny", {"dropout": 0.0, "lr": 2e-3}),
    ("vgg-19", "vgg.tiny", {"convolutions": (1, 1, 2, 2, 2), "dropout": 0.0, "lr": 2e-3}),
    ("googlenet", "googlenet.tiny", {"dropout": 0.0, "lr": 3e-3, "epochs": 60}),
    ("inception-resnet", "inception-resnet.tiny", {"dropout": 0.0, "lr": 3e-3, "epochs": 80}),
    ("darknet-53", "darknet.tiny", {"lr": 3e-3, "epochs": 45, "image_size": 32}),
    ("knn", "knn.tiny", {}),
    ("linear", "linear.pixels", {}),
    ("svm", "svm.handcrafted", {}),
    ("adaboost", "adaboost.handcrafted", {}),
    ("random-forest", "random-forest.handcrafted", {"trees": 30}),
]
SETTINGS = {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.01, "schedule": "one-cycle", "warmup": 0.2, "batch_size": 8, "epochs": 30,
            "augment": "none", "save_every": 30}  # fmt: skip


@pytest.mark.parametrize(("model", "settings"), [pytest.param(m, s, id=row, marks=pytest.mark.system(row)) for row, m, s in SYSTEMS])
def test_it_learns_eight_photographs(model, settings, eight, tmp_path):
    run = train(model, eight, output=tmp_path / "runs", device="cpu", layers=[SETTINGS | settings])
    found = list(classify(inputs.read([str(eight)]), str(run), top=1, device="cpu"))
    assert len(found) == 8
    for record in found:
        assert record["labels"][0]["category"] == record["file_name"].split("/")[-2]
