"""Label smoothing in the texts' form and in torch's."""

import pytest
import torch
import torch.nn.functional as F

from cvtool.losses.label_smoothing import smooth, to_all, to_others

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 3, 4, 2])


@pytest.mark.system("label-smoothing")
def test_the_class_keeps_all_but_eps_and_the_others_share_it():
    weights = smooth(TARGET, 5, 0.1)
    for row, target in zip(weights, TARGET.tolist(), strict=True):
        assert row[target].item() == pytest.approx(0.9)
        assert [row[k].item() for k in range(5) if k != target] == pytest.approx([0.025] * 4)
    assert torch.allclose(weights.sum(1), torch.ones(6))


@pytest.mark.system("label-smoothing")
def test_torchs_form_and_the_conversion():
    theirs = F.cross_entropy(LOGITS, TARGET, label_smoothing=0.1)
    assert torch.allclose(F.cross_entropy(LOGITS, smooth(TARGET, 5, 0.1, over="all")), theirs)
    assert torch.allclose(F.cross_entropy(LOGITS, smooth(TARGET, 5, to_others(0.1, 5))), theirs)
    ours = F.cross_entropy(LOGITS, smooth(TARGET, 5, 0.1))
    assert torch.allclose(F.cross_entropy(LOGITS, TARGET, label_smoothing=to_all(0.1, 5)), ours)
    assert (ours - theirs).abs() > 1e-3
    assert to_all(0.08, 5) == pytest.approx(0.1)


@pytest.mark.system("label-smoothing")
def test_without_smoothing_it_is_cross_entropy():
    assert torch.allclose(F.cross_entropy(LOGITS, smooth(TARGET, 5, 0.0)), F.cross_entropy(LOGITS, TARGET))


@pytest.mark.system("label-smoothing")
def test_a_classifier_is_trained_with_it_and_validated_without():
    from cvtool import weights
    from cvtool.batch import Batch, Place
    from cvtool.results import Labels

    model = weights.build("resnet.tiny", categories=[{"id": i, "name": str(i)} for i in range(5)])
    batch = Batch(
        torch.randn(4, 3, 32, 32),
        torch.zeros(4, 32, 32, dtype=torch.bool),
        [Place(32, 32, 32, 32)] * 4,
        [Labels(TARGET[i : i + 1]) for i in range(4)],
    )
    plain = model.eval().losses(batch)["cross_entropy"]
    model.label_smoothing = 0.1
    assert torch.equal(model.losses(batch)["cross_entropy"], plain)
    logits = model.train()(batch.images)
    torch.testing.assert_close(model.losses(batch)["cross_entropy"], F.cross_entropy(logits, smooth(TARGET[:4], 5, 0.1)))


def test_mixed_targets_are_softened_too():
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
    softened = smooth(mixed, 3, 0.2)
    assert torch.allclose(softened, 0.8 * mixed + 0.1 * (1 - mixed))
    assert torch.allclose(softened.sum(1), torch.ones(2))


@pytest.mark.parametrize("wrong", [(5, -0.1, "others"), (5, 1.1, "all"), (1, 0.1, "others"), (5, 0.1, "none")])
def test_what_cannot_be_smoothed(wrong):
    classes, eps, over = wrong
    with pytest.raises(ValueError, match="smoothing takes"):
        smooth(TARGET, classes, eps, over=over)
