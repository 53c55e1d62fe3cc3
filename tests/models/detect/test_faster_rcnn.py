"""Faster R-CNN: torchvision's numbers through our cut, and what makes `small` learn."""

import numpy as np
import pytest
import torch
from torchvision.models import detection

from cvtool.models.detect import faster_rcnn, keypoint_rcnn
from cvtool.models.segment import mask_rcnn
from cvtool.results import Instances

BUILDERS = [
    (faster_rcnn, "resnet50", "fasterrcnn_resnet50_fpn", 90),
    (faster_rcnn, "resnet50-v2", "fasterrcnn_resnet50_fpn_v2", 90),
    (faster_rcnn, "mobilenet", "fasterrcnn_mobilenet_v3_large_fpn", 90),
    (faster_rcnn, "mobilenet-320", "fasterrcnn_mobilenet_v3_large_320_fpn", 90),
    (mask_rcnn, "resnet50", "maskrcnn_resnet50_fpn", 90),
    (mask_rcnn, "resnet50-v2", "maskrcnn_resnet50_fpn_v2", 90),
    (keypoint_rcnn, "resnet50", "keypointrcnn_resnet50_fpn", 1),
]


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(("module", "variant", "name", "classes"), BUILDERS)
def test_torchvisions_keys_and_shapes(module, variant, name, classes):
    """What the publisher saved loads key for key."""
    with torch.device("meta"):
        theirs = getattr(detection, name)(weights=None, weights_backbone=None)
        ours = module.build(classes=classes, **module.VARIANTS[variant])
    assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize(("module", "variant", "name", "classes"), BUILDERS)
def test_the_published_facts_are_torchvisions_own(module, variant, name, classes):
    weights = {w.url: w for w in detection.__dict__[name].__globals__["WeightsEnum"].__subclasses__() for w in w}
    for key, facts in module.WEIGHTS.items():
        theirs = weights[facts["url"]]
        assert facts["sha256"] in theirs.url
        metrics = theirs.meta["_metrics"]["COCO-val2017"]
        assert facts["metrics"]["AP"] == pytest.approx(metrics["box_map"] / 100), key


@pytest.mark.parametrize(
    ("variant", "name"), [("mobilenet-320", "fasterrcnn_mobilenet_v3_large_320_fpn"), ("mobilenet", "fasterrcnn_mobilenet_v3_large_fpn")]
)
def test_predictions_and_losses_equal_torchvisions(variant, name):
    """The same random weights give the same boxes, scores and losses as torchvision's own model on the same picture."""
    torch.manual_seed(0)
    theirs = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=5)
    ours = faster_rcnn.build(classes=4, **faster_rcnn.VARIANTS[variant])
    theirs.rpn._score_thresh = 0.0
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")})
    for layer in theirs.modules():  # ours freezes the normalisation with torchvision's default epsilon for frozen layers
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 1e-5
    theirs.eval(), ours.eval()
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = theirs([torch.from_numpy(picture).permute(2, 0, 1) / 255])[0]
        found = ours.predict(ours.prepare([picture]))[0]
    assert len(expected["boxes"]) > 0
    torch.testing.assert_close(found.boxes, expected["boxes"], atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-4, rtol=1e-3)
    assert torch.equal(found.labels + 1, expected["labels"])


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return faster_rcnn.build(classes=3, **faster_rcnn.VARIANTS["tiny"])


def example(model, *, size=(64, 80)):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for _ in range(2)]
    target = Instances(torch.tensor([[5.0, 5, 40, 40], [30, 20, 60, 60]]), torch.tensor([0, 2]))
    return model.prepare(pictures, [target, target])


def test_the_four_losses_of_joint_training(tiny):
    assert set(tiny.losses(example(tiny))) == {"objectness", "rpn_box", "classifier", "box"}


def test_losses_do_not_depend_on_the_mode(tiny):
    """`losses` may be asked of a model in eval mode (a validation loss); only the normalisation differs, and here it has seen nothing."""
    tiny.eval()
    batch = example(tiny)
    torch.manual_seed(1)
    with torch.no_grad():
        losses = tiny.losses(batch)
    assert all(torch.isfinite(v) for v in losses.values())
    assert not tiny.rpn.training
    assert not tiny.training


def test_boxes_are_class_specific_in_the_second_stage(tiny):
    raw = tiny(example(tiny))
    proposals = sum(len(p) for p in raw["proposals"])
    assert raw["logits"].shape == (proposals, 4)
    assert raw["deltas"].shape == (proposals, 16)


def test_an_image_without_objects_teaches_the_background(tiny):
    batch = example(tiny)
    batch.targets = [t[:0] for t in batch.targets]
    losses = tiny.losses(batch)
    assert losses["classifier"] > 0
    assert losses["box"] == 0


def test_crowds_teach_nothing(tiny):
    batch = example(tiny)
    from dataclasses import replace

    batch.targets = [replace(t, crowd=torch.tensor([False, True])) for t in batch.targets]
    assert len(tiny.target(batch.targets[0])["boxes"]) == 1


def test_thresholds_are_per_call(tiny):
    tiny.eval()
    batch = example(tiny)
    with torch.no_grad():
        many = tiny.predict(batch, conf=0.0, max_det=50)
        few = tiny.predict(batch, conf=0.0, max_det=3)
        default = tiny.predict(batch)
    assert len(many[0]) == 50
    assert len(few[0]) == 3
    assert (default[0].scores > 0.05).all()
    assert tiny.roi_heads.score_thresh == 0.05


def test_boxes_are_computed_in_full_precision_under_autocast(tiny):
    """In bfloat16 a box less than a pixel wide at x = 400 would have no width, and its loss no value."""
    from cvtool.results import Boxes

    picture = np.zeros((64, 64, 3), np.uint8)
    batch = tiny.prepare([picture], [Boxes(torch.tensor([[60.2, 5.0, 60.4, 30.0]]), torch.tensor([0]))])
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(10):
            torch.manual_seed(seed)
            assert all(torch.isfinite(value) for value in tiny.losses(batch).values())
        raw = tiny(batch)
    assert {raw["proposals"][0].dtype, raw["logits"].dtype, raw["deltas"].dtype} == {torch.float32}
