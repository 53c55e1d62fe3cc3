"""Mask R-CNN: one sigmoid mask a class, taught on the true class's channel, pasted with the predicted box."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvtool.batch import Place
from cvtool.models.segment import mask_rcnn
from cvtool.models.segment.mask_rcnn import mask_loss, paste
from cvtool.results import Instances


@pytest.mark.system("mask-rcnn")
def test_the_published_parameter_count():
    with torch.device("meta"):
        model = mask_rcnn.build(classes=90, **mask_rcnn.VARIANTS["resnet50"])
    assert sum(p.numel() for p in model.parameters()) == 44_401_393


@pytest.mark.system("mask-rcnn")
def test_masks_are_28_by_28_one_channel_a_class():
    torch.manual_seed(0)
    model = mask_rcnn.build(classes=3, **mask_rcnn.VARIANTS["tiny"])
    batch = model.prepare([np.zeros((64, 64, 3), np.uint8)])
    _, features = model.features(batch)
    boxes = [torch.tensor([[0.0, 0, 10, 50], [5, 5, 60, 20]])]  # whatever the size of the RoI
    assert model.mask_logits(features, boxes, [(64, 64)]).shape == (2, 4, 28, 28)


@pytest.mark.system("mask-rcnn")
def test_only_the_true_classs_channel_is_taught():
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 28, 28, requires_grad=True)
    drawn = (torch.rand(3, 28, 28) > 0.5).float()
    classes = torch.tensor([2, 4, 1])
    loss = mask_loss(logits, drawn, classes)
    loss.backward()
    taught = logits.grad.abs().sum((2, 3)) > 0
    assert taught.tolist() == [[k == c for k in range(5)] for c in classes.tolist()]
    by_hand = sum(F.binary_cross_entropy_with_logits(logits[i, c], drawn[i]) for i, c in enumerate(classes)) / 3
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.system("mask-rcnn")
def test_with_softmax_the_classes_compete():
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 28, 28, requires_grad=True)
    drawn = torch.zeros(2, 28, 28)
    drawn[:, 10:20, 10:20] = 1
    loss = mask_loss(logits, drawn, torch.tensor([1, 3]), kind="softmax")
    loss.backward()
    assert (logits.grad.abs().sum((2, 3)) > 0).all()
    log_p = logits.log_softmax(1)
    total = sum(-log_p[i, c if drawn[i, y, x] else 0, y, x] for i, c in ((0, 1), (1, 3)) for y in range(28) for x in range(28))
    torch.testing.assert_close(loss, total / (2 * 28 * 28))
    with pytest.raises(ValueError, match="sigmoid or softmax"):
        mask_rcnn.build(classes=1, mask_loss="dice", **mask_rcnn.VARIANTS["tiny"])


@pytest.mark.system("mask-rcnn")
def test_the_predicted_box_places_the_mask():
    full = torch.ones(1, 28, 28)
    drawn = paste(full, torch.tensor([[10.0, 20.0, 50.0, 40.0]]), Place(100, 80, 100, 80))[0]
    rows, cols = drawn.nonzero().T
    assert drawn.shape == (100, 80)
    assert drawn[22:38, 12:48].all()
    assert (rows >= 19).all()
    assert (rows <= 41).all()
    assert (cols >= 9).all()
    assert (cols <= 51).all()


@pytest.mark.system("mask-rcnn")
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_it_learns_the_masks_of_two_shapes(kind):
    """Overfitted on a disc and a bar, the drawn masks meet the truth."""
    torch.manual_seed(0)
    rows, cols = np.mgrid[:64, :64]
    disc, bar = (rows - 20) ** 2 + (cols - 20) ** 2 < 144, (abs(rows - 48) < 6) & (abs(cols - 40) < 20)
    picture = np.full((64, 64, 3), 30, np.uint8)
    picture[disc], picture[bar] = (220, 60, 60), (60, 60, 220)
    truth = Instances(torch.tensor([[8.0, 8, 33, 33], [20, 42, 61, 55]]), torch.tensor([0, 1]), masks=torch.from_numpy(np.stack([disc, bar])))
    model = mask_rcnn.build(classes=2, mask_loss=kind, **mask_rcnn.VARIANTS["tiny"])
    batch = model.prepare([picture] * 2, [truth] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model.losses(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        for _ in range(30):  # the running statistics of the normalisation catch up
            model.losses(batch)
    model.eval()
    with torch.no_grad():
        found = model.predict(model.prepare([picture]), conf=0.3)[0]
    for label, mask in ((0, disc), (1, bar)):
        mine = found.masks[found.labels == label]
        assert len(mine), f"class {label} not found"
        best = max((m.numpy() & mask).sum() / (m.numpy() | mask).sum() for m in mine)
        assert best > 0.7, (kind, label, best)
