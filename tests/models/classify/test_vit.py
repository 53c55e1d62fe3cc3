"""ViT: published counts, torchvision's and timm's weights key for key, positions at other sizes, and what --head and --pos-emb change."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvtool import categories, weights
from cvtool.errors import UsageError
from cvtool.models.classify import vit
from cvtool.tasks.cost import cost


def built(reference, classes=1000, **changes):
    return weights.build(reference, categories=categories.numbered(classes), **changes)


@pytest.mark.system("vit")
@pytest.mark.parametrize(("variant", "count"), [("base", 86_567_656), ("large", 304_326_632), ("huge", 632_045_800), ("small", 22_050_664)])
def test_parameters_are_the_papers(parameters, variant, count):
    assert parameters(f"vit.{variant}") == count


@pytest.mark.system("vit")
@pytest.mark.parametrize(
    ("builder", "reference"), [("vit_b_16", "vit_b_16"), ("vit_b_32", "vit.base-32"), ("vit_l_16", "vit.large"), ("vit_h_14", "vit.huge")]
)
def test_torchvisions_tensors_have_a_place_each(builder, reference):
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs, ours = get_model(builder, weights=None), built(f"{reference}@none")
    renamed = vit.rename(theirs.state_dict())
    assert {key: value.shape for key, value in renamed.items()} == {key: value.shape for key, value in ours.state_dict().items()}


@pytest.mark.system("vit")
def test_torchvisions_weights_give_torchvisions_logits():
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(64, 8, 4, 3, 96, 384, num_classes=5).eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours = built("vit.tiny", 5).eval()
    ours.load_state_dict(vit.rename(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.system("vit")
def test_timms_weights_give_timms_logits():
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(img_size=64, patch_size=8, depth=4, num_heads=3, embed_dim=96, num_classes=5).eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.2)
    ours = built("vit.tiny", 5).eval()
    ours.load_state_dict(vit.rename(theirs.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-4, rtol=1e-4)


@pytest.mark.system("vit")
def test_a_foreign_file_is_read_through_the_reference(tmp_path):
    from torchvision.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(64, 8, 4, 3, 96, 384, num_classes=1000)
    nn.init.normal_(theirs.heads.head.weight)
    torch.save(theirs.state_dict(), tmp_path / "old.pth")
    model, info = weights.load(f"vit.tiny@{tmp_path / 'old.pth'}")
    assert len(info.categories) == 1000
    assert torch.equal(model.net.head.weight, theirs.heads.head.weight)


def test_published_weights_are_torchvisions(torchvisions):
    torchvisions("vit", {"base": "vit_b_16", "base-32": "vit_b_32", "large": "vit_l_16", "large-32": "vit_l_32"})


@pytest.mark.system("vit")
def test_a_picture_is_196_tokens_and_a_class_token():
    with torch.device("meta"):
        model, images = built("vit.small", 3).eval(), torch.zeros(1, 3, 224, 224)
    tokens, grid = model.net.tokens(images)
    assert tokens.shape == (1, 197, 384)
    assert grid == (14, 14)
    model, images = built("vit.tiny", 3).eval(), torch.randn(1, 3, 64, 64)
    assert torch.equal(model.net.features(images), model.net.tokens(images)[0][:, 0])


@pytest.mark.system("vit")
def test_other_sizes_take_interpolated_positions():
    model = built("vit.tiny", 5).eval()
    small, large = model.net.positions.at((8, 8)), model.net.positions.at((12, 12))
    assert small.shape == (1, 65, 96)
    assert large.shape == (1, 145, 96)
    with torch.no_grad():
        before = model(torch.zeros(1, 3, 96, 96))
        model.net.resize(96)
        assert model.net.positions.weight.shape == (1, 145, 96)
        torch.testing.assert_close(model(torch.zeros(1, 3, 96, 96)), before)
    assert built("vit.tiny", 5, image_size=96).net.positions.weight.shape == (1, 145, 96)
    model.prepare = model.prepare.sized(80)
    assert model.prepare([torch.zeros(50, 70, 3, dtype=torch.uint8)]).images.shape == (1, 3, 80, 80)


@pytest.mark.system("vit")
def test_at_another_size_the_parameters_of_the_positions_learn():
    model = built("vit.tiny", 5)
    F.cross_entropy(model(torch.randn(2, 3, 96, 96)), torch.tensor([0, 1])).backward()
    gradient = model.net.positions.weight.grad
    assert gradient.shape == (1, 65, 96)
    assert (gradient.abs().sum(-1) > 0).all()


@pytest.mark.system("vit")
@pytest.mark.parametrize("head", vit.HEADS)
def test_each_head_learns_and_reads_what_it_says(head):
    torch.manual_seed(0)
    model = built("vit.tiny", 4, head=head)
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert (model.net.class_token is None) == (head != "cls")
    tokens, grid = model.net.tokens(images)
    if head == "gap":
        torch.testing.assert_close(model.net.features(images), tokens.mean(1))
    assert tokens.shape[1] == grid[0] * grid[1] + (head == "cls")


def test_what_does_not_go_is_refused():
    with pytest.raises(UsageError, match="unknown head") as caught:
        built("vit.tiny", head="gpa")
    assert "gap" in caught.value.hint
    with pytest.raises(UsageError, match="positional"):
        built("vit.tiny", pos_emb="polar")
    with pytest.raises(UsageError, match="patch"):
        built("vit.tiny", image_size=4)


@pytest.mark.system("vit")
def test_its_cost_is_torchvisions():
    from torchvision.models import ViT_B_16_Weights

    found = cost("vit.base")
    assert found["parameters"] == ViT_B_16_Weights.IMAGENET1K_V1.meta["num_params"]
    assert round(found["macs"] / 1e9, 3) == ViT_B_16_Weights.IMAGENET1K_V1.meta["_ops"]


@pytest.mark.system("vit")
@pytest.mark.system("gap")
@pytest.mark.system("positional-encoding")
def test_it_learns_real_pictures_by_the_training_command(data, tmp_path, capsys):
    """Eight pictures of four classes, with `--head gap --pos-emb sincos`; the run's checkpoint rebuilds that network."""
    import json
    import tarfile

    from cvtool.__main__ import main

    wanted = dict.fromkeys(("frog", "ship", "truck", "horse"), 2)
    with tarfile.open(data / "cifar10" / "cifar10_jpg_test.tar.gz") as tar:
        for member in tar:
            name = member.name.split("/")[1] if member.isfile() else ""
            if wanted.get(name):
                wanted[name] -= 1
                path = tmp_path / "few" / name / member.name.rpartition("/")[2]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
            if not any(wanted.values()):
                break
    words = ["-m", "vit.tiny", "--data", tmp_path / "few", "-o", tmp_path / "runs", "--epochs", 16, "-b", 8, "--head", "gap", "--pos-emb", "sincos"]
    assert main(["train", *map(str, words), "--set", "augment=none", "--set", "warmup=0.0", "-q"]) == 0
    run = capsys.readouterr().out.strip()
    assert main(["classify", str(tmp_path / "few"), "-m", run, "-f", "jsonl", "-q"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 8
    assert all(one["labels"][0]["category"] in one["file_name"] for one in found)
    model, _ = weights.load(run)
    assert model.net.class_token is None
