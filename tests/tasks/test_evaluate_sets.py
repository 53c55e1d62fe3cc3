"""`evaluate` of sets of pictures: FID and its kin on any network's features, their protocol, inversions; and the FID's own network."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.categories import numbered
from cvtool.errors import InputError, ModelError, UsageError
from cvtool.tasks.evaluate import evaluate

EXTRACTOR = "handcrafted.tiny"


@pytest.fixture
def folders(png, tmp_path):
    """Two folders of eight pictures each."""
    for number in range(8):
        png(f"real/{number}.png", 32, 32, seed=number)
        png(f"fake/{number}.png", 32, 32, seed=100 + number)
    return tmp_path / "real", tmp_path / "fake"


@pytest.fixture
def classifier(tmp_path):
    torch.manual_seed(0)
    model = weights.build("simple-cnn.tiny", categories=numbered(4)).eval()
    path = tmp_path / "classifier.safetensors"
    weights.save(model, path, weights.Info(reference="simple-cnn.tiny", categories=numbered(4)))
    return str(path), model


# ---- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.system("fid")
def test_the_fid_network_is_torch_fidelitys_tensor_for_tensor(tmp_path):
    reference = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    from cvtool.models.embed.fid_inception import build

    torch.manual_seed(0)
    mine = build().eval()
    torch.save(mine.state_dict(), tmp_path / "pt_inception.pth")
    theirs = reference.FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "pt_inception.pth")
    )
    assert {name: value.shape for name, value in theirs.state_dict().items()} == {name: value.shape for name, value in mine.state_dict().items()}
    pixels = torch.randint(0, 256, (1, 3, 299, 299), dtype=torch.uint8)
    features, logits = theirs(pixels)
    with torch.no_grad():
        torch.testing.assert_close(mine((pixels.float() - 128) / 128), features)
        torch.testing.assert_close(mine.logits((pixels.float() - 128) / 128), logits)


def test_a_file_of_the_fid_network_loads_by_reference(tmp_path):
    from cvtool.models.embed.fid_inception import build

    made = build(divide=16, image_size=96).eval()
    torch.save(made.state_dict(), tmp_path / "pt.pth")
    model, info = weights.load(f"fid-inception.tiny@{tmp_path / 'pt.pth'}")
    torch.testing.assert_close(model.Mixed_7c.branch1x1.conv.weight, made.Mixed_7c.branch1x1.conv.weight)
    assert info.sha256
    assert model.prepare.antialias is False


# ---- sets ----------------------------------------------------------------------------------------------------------


@pytest.mark.system("fid")
def test_fid_by_any_embedder_named_in_the_report(folders):
    real, fake = folders
    same = evaluate(real, real, metrics="fid", extractor=EXTRACTOR)
    assert same["metrics"]["FID"] == pytest.approx(0, abs=1e-4)
    report = evaluate(real, fake, metrics="fid,kid:subsets=3,pr", extractor=EXTRACTOR)
    assert report["metrics"]["FID"] > 0.01
    assert set(report["metrics"]) == {"FID", "KID", "KID_std", "manifold_precision", "manifold_recall", "manifold_f1"}
    params = report["params"]
    assert params["kid.size"] == 8
    assert params["network"] == EXTRACTOR
    assert (params["size"], params["filter"], params["samples_gt"], params["samples_dt"]) == (32, "bilinear, antialiased", 8, 8)
    assert len(params["protocol"]) == 16
    assert any("8 pictures is far above" in line for line in report["warnings"])
    (fake / "7.png").unlink()
    assert evaluate(real, fake, metrics="fid", extractor=EXTRACTOR)["params"]["protocol"] != params["protocol"]  # the sample count counts


@pytest.mark.system("fid")
def test_without_its_weights_the_default_network_says_what_to_do(folders):
    with pytest.raises(ModelError, match="not on this machine") as caught:
        evaluate(*folders, metrics="fid")
    assert "--extractor" in caught.value.hint


def test_kept_features_stand_for_the_set_and_other_protocols_are_refused(folders, tmp_path):
    real, fake = folders
    kept = tmp_path / "real.npz"
    fresh = evaluate(real, fake, metrics="fid", extractor=EXTRACTOR, save_features=str(kept))
    assert evaluate(kept, fake, metrics="fid")["metrics"] == fresh["metrics"]  # the network is the file's own
    assert evaluate(kept, fake, metrics="fid")["params"] == fresh["params"]
    with pytest.raises(InputError, match=r"made otherwise.*size 128 against 32"):
        evaluate(kept, fake, metrics="fid", extractor="handcrafted")
    with pytest.raises(UsageError, match="exists"):
        evaluate(real, fake, metrics="fid", extractor=EXTRACTOR, save_features=str(kept))
    with pytest.raises(UsageError, match="both sides are files"):
        evaluate(kept, kept, metrics="fid", extractor=EXTRACTOR)
    with pytest.raises(InputError, match="no classes' shares"):
        evaluate(kept, kept, metrics="is:splits=1")
    np.savez(tmp_path / "bare.npz", vectors=np.zeros((3, 4)))
    with pytest.raises(InputError, match="does not say how"):
        evaluate(tmp_path / "bare.npz", fake, metrics="fid")


@pytest.mark.system("inception-score")
def test_the_inception_score_by_a_classifier_of_ones_own(folders, classifier):
    path, model = classifier
    report = evaluate(*folders, metrics="is:splits=1", extractor=path)
    from cvtool import images
    from cvtool.metrics import inception_score

    pictures = [images.decode(one) for one in sorted(folders[1].glob("*.png"))]
    with torch.no_grad():
        shares = model(model.prepare(pictures).images).double().softmax(1).numpy()
    assert report["metrics"]["IS"] == pytest.approx(inception_score.score(shares), rel=1e-6)
    assert report["params"]["weights_sha256"]
    with pytest.raises(UsageError, match="knows no classes"):
        evaluate(*folders, metrics="is", extractor=EXTRACTOR)
    with pytest.raises(UsageError, match="do not fall into"):
        evaluate(*folders, metrics="is:splits=9", extractor=path)


@pytest.mark.system("inception-score")
def test_the_inception_score_by_a_classifier_trained_on_real_data(data, tmp_path):
    """ResNet-20 of CIFAR-10: ten pictures of ten classes are more and surer classes than ten of one."""
    reference = f"resnet.20@{data / 'checkpoints' / 'classification' / 'resnet20_cifar10-12fca82f.th'}"
    for number, path in enumerate(sorted((data / "sr_denoise" / "set5" / "HR").glob("*.png")) * 2):
        photo = Image.open(path).convert("RGB")
        for name, left in (("one", 0), ("many", 12 * number)):
            (tmp_path / name).mkdir(exist_ok=True)
            some = Image.open(tmp_path / "one" / "0.png") if name == "one" and number else photo.crop((left, left, left + 96, left + 96))
            some.save(tmp_path / name / f"{number}.png")
    scores = {
        name: evaluate(tmp_path / "many", tmp_path / name, metrics="is:splits=1", extractor=reference)["metrics"]["IS"] for name in ("one", "many")
    }
    assert scores["one"] == pytest.approx(1, abs=1e-6)
    assert 1.05 < scores["many"] < 10


@pytest.mark.system("inception-score")
def test_a_discriminators_features_and_an_svm_on_them(tmp_path, png):
    """Radford's use of a discriminator: its maps, pooled to 4 x 4, tell classes by a linear machine."""
    from cvtool.layers import judged

    torch.manual_seed(0)
    model = weights.build("dcgan.tiny", categories=[]).eval()
    weights.save(model, tmp_path / "gan.safetensors", weights.Info(reference="dcgan.tiny", categories=[]))
    with (tmp_path / "labels.tsv").open("w") as table:
        for number in range(20):
            path = png(f"photos/{number}.png", 24, 24, seed=number)
            if number % 2:
                Image.fromarray(255 - np.asarray(Image.open(path)) // 3).save(path)
            table.write(f"{number}.png\t{'pale' if number % 2 else 'plain'}\n")
    options = {"metrics": "linear-svm:folds=4", "extractor": str(tmp_path / "gan.safetensors")}
    report = evaluate(tmp_path / "labels.tsv", tmp_path / "photos", **options)
    assert report["metrics"]["svm_accuracy"] >= 0.9
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    found = judged.features(model, images)
    with torch.no_grad():
        first = model.discriminator[1](model.discriminator[0](images))
    torch.testing.assert_close(found[:, : first.shape[1] * 16], torch.nn.functional.adaptive_max_pool2d(first, 4).flatten(1))
    assert found.shape == (2, report["counts"]["dimensions"])


@pytest.mark.system("inception-score")
def test_a_contact_sheet_of_the_samples(folders, cvtool, tmp_path):
    done = cvtool("visualize", folders[1], "--grid", tmp_path / "sheet.png", "-q")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "sheet.png").width > 4 * 32


@pytest.mark.system("separability")
def test_attribute_classifiers_share_the_discriminators_architecture():
    """Layer for layer the judge's own, but for the last, which has one number for each class."""
    judge = weights.build("dcgan.tiny", categories=[]).discriminator
    net = weights.build("attribute-net.tiny", categories=numbered(2)).net
    mine = [(type(m).__name__, [tuple(p.shape) for p in m.parameters()]) for m in net.features]
    theirs = [(type(m).__name__, [tuple(p.shape) for p in m.parameters()]) for m in list(judge)[:-2]]
    assert mine == theirs
    assert net.head.weight.shape == (2, *list(judge)[-2].weight.shape[1:])


# ---- inversions ----------------------------------------------------------------------------------------------------


@pytest.mark.system("inversion-eval")
def test_three_numbers_for_each_method_on_one_set_of_pictures(folders, tmp_path):
    draw = np.random.default_rng(0)
    samples = draw.normal(size=(300, 6))
    np.save(tmp_path / "mapping.npy", samples)
    for name, shift in (("exact", 0), ("pale", 51)):
        folder = tmp_path / "methods" / name
        folder.mkdir(parents=True)
        for path in sorted(folders[0].glob("*.png")):
            pixels = np.asarray(Image.open(path)).clip(0, 200)
            Image.fromarray(pixels).save(path)
            Image.fromarray((pixels + shift).astype(np.uint8)).save(folder / path.name)
        codes = np.repeat(samples[:8, None], 18, 1) if name == "exact" else draw.normal(40, 1, (8, 18, 6))
        np.save(folder / "codes.npy", codes)
        if name == "exact":
            np.save(folder / "returned.npy", codes + 0.1)
    report = evaluate(folders[0], tmp_path / "methods", metrics="inversion", extractor=EXTRACTOR, mapping=str(tmp_path / "mapping.npy"))
    exact, pale = report["per_class"]["exact"], report["per_class"]["pale"]
    assert exact["distortion"] == 0
    assert pale["distortion"] == pytest.approx(0.04)
    assert exact["perceptual"] == pytest.approx(0, abs=1e-4)
    assert pale["perceptual"] > 0.001
    assert exact["editability"] == pytest.approx(0.01)
    assert pale["editability"] is None
    assert any(line.startswith("pale: no returned.npy") for line in report["warnings"])
    assert exact["code_variance"] == pytest.approx(0, abs=1e-20)
    assert pale["code_variance"] > 0.5
    assert exact["distance_to_W"] < 2 < pale["distance_to_W"]
    assert (exact["space"], pale["space"]) == ("W", "W_*^k")
    assert report["metrics"]["pale.distortion"] == pale["distortion"]
    assert json.dumps(report, allow_nan=False)
    (tmp_path / "methods" / "pale" / "7.png").unlink()
    with pytest.raises(InputError, match="only the same can be compared"):
        evaluate(folders[0], tmp_path / "methods", metrics="inversion", extractor=EXTRACTOR)
