"""The weights that ship: small, described, intact, and as good as their index says."""

import json

import numpy as np
import pytest
import torch

from cvtool import images, registry, weights

SHIPPED = registry.shipped()


def test_nothing_lies_in_the_zoo_that_the_index_does_not_tell():
    files = {path.name for path in registry.ZOO.iterdir() if path.suffix == ".safetensors"}
    assert files == {facts["file"] for facts in SHIPPED.values()}
    assert sum((registry.ZOO / name).stat().st_size for name in files) < 90e6


@pytest.mark.parametrize("name", SHIPPED)
def test_what_the_index_says(name):
    facts, path = SHIPPED[name], registry.ZOO / SHIPPED[name]["file"]
    assert path.stat().st_size <= 15e6
    assert weights.sha256(path) == facts["sha256"]
    assert facts["command"].startswith("cvtool train -m " + name.partition("@")[0])
    assert facts["licence"]
    assert facts["data"]
    said = weights.read_info(path)
    assert said.licence == facts["licence"]
    assert [c["name"] for c in said.categories if c] == facts["categories"]
    assert said.recipe["epochs"] == int(facts["command"].split("--epochs ")[1].split()[0])


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_by_its_name_alone(name):
    model, info = weights.load(name, offline=True)
    assert not model.training
    assert {p.dtype.itemsize for p in model.parameters()} == {4}
    assert [c["name"] for c in model.categories if c] == SHIPPED[name]["categories"]
    assert info.sha256 == SHIPPED[name]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("@bccd")])
def test_it_measures_what_the_index_says(name, data, cvtool):
    """On the 72 test pictures of BCCD, through the program's own pipe."""
    assert cvtool("data", "convert", data / "bccd", "test.json", "--split", "test", "-q").returncode == 0
    found = cvtool("detect", "test.json", "--images", data / "bccd", "-m", name, "-q", "-o", "found.json")
    assert found.returncode == 0, found.stderr
    done = cvtool("evaluate", "--gt", data / "bccd", "--split", "test", "--dt", "found.json", "--json", "--per-class", "-q")
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["AP50"] >= 0.87
    for key, value in SHIPPED[name]["metrics"].items():
        measure, _, category = key.partition("_")
        assert metrics[f"per_class.{category}.{measure}" if category else measure] == pytest.approx(value, abs=2e-3), key


@pytest.mark.slow
def test_nuclei_measure_what_the_index_says(data):
    """On the 40 pictures of the nuclei that were held out, foreground against background."""
    facts = SHIPPED["unet.small@nuclei"]["metrics"]
    model, _ = weights.load("unet.small@nuclei", offline=True)
    counts = np.zeros((2, 2), np.int64)
    for path in sorted((data / "nuclei/val/images").glob("*.png")):
        truth = (images.labels(data / "nuclei/val/labels" / path.name) > 0).astype(np.int64)
        with torch.inference_mode():
            found = model.predict(model.prepare([images.decode(path)]))[0].labels.numpy()
        counts += np.bincount(2 * truth.ravel() + found.ravel(), minlength=4).reshape(2, 2)
    shared, sums = counts.diagonal(), counts.sum(0) + counts.sum(1)
    overlap = shared / (sums - shared)
    assert overlap.mean() == pytest.approx(facts["mIoU"], abs=2e-3)
    assert overlap[1] == pytest.approx(facts["IoU_nuclei"], abs=2e-3)
    assert 2 * shared[1] / sums[1] == pytest.approx(facts["Dice_nuclei"], abs=2e-3)
    assert shared.sum() / counts.sum() == pytest.approx(facts["pixel_accuracy"], abs=2e-3)


@pytest.mark.slow
def test_glyphs_cost_the_bits_that_the_index_says(data, tmp_path):
    """On the 5 % of Omniglot's glyphs that the command keeps out: the variational bound in bits a pixel."""
    import zipfile

    from cvtool.data import source

    (tmp_path / "glyphs").mkdir()
    for name in ("images_background_small1.zip", "images_background_small2.zip"):
        with zipfile.ZipFile(data / "omniglot" / name) as archive:
            for member in archive.namelist():
                if member.endswith(".png"):
                    (tmp_path / "glyphs" / member.rpartition("/")[2]).write_bytes(archive.read(member))
    _, held, _ = source.read({"data": str(tmp_path / "glyphs"), "split": "95,5"})
    model, _ = weights.load("vae.small@omniglot", offline=True)
    torch.manual_seed(0)
    with torch.inference_mode():
        bound = model.elbo(model.prepare([images.decode(record["file_name"]) for record in held])).mean().item()
    side = model.prepare.size
    assert len(held) == 242
    assert -bound / (side * side * np.log(2)) == pytest.approx(SHIPPED["vae.small@omniglot"]["metrics"]["bits_per_dim"], abs=2e-3)


@pytest.mark.slow
def test_glyphs_of_the_generator_lie_near_real_ones(data, tmp_path):
    """Frechet distance by the autoencoder's codes: well below that of noise, and of one letter alone; as precise as the index says, roughly."""
    import zipfile

    from cvtool.metrics.fid import Gaussian, frechet

    encoder, _ = weights.load("vae.small@omniglot", offline=True)
    generator, _ = weights.load("dcgan.small@omniglot", offline=True)
    real = []
    with zipfile.ZipFile(data / "omniglot" / "images_background_small1.zip") as archive:
        for member in sorted(name for name in archive.namelist() if name.endswith(".png"))[::8]:
            (tmp_path / "glyph.png").write_bytes(archive.read(member))
            real.append(images.decode(tmp_path / "glyph.png"))
    with torch.inference_mode():
        made = [(255 * each).round().byte().permute(1, 2, 0).numpy() for each in generator.sample(len(real), 0)]
        codes = [encoder.embed(encoder.prepare(each)).numpy() for each in (real[::2], real[1::2], made, [made[0]] * len(made))]
    halves, distance, one = (frechet(Gaussian.of(codes[0]), Gaussian.of(each)) for each in codes[1:])
    assert distance < 3 * halves
    assert one > 5 * distance


def test_a_cell_is_of_the_class_that_was_asked_for():
    """Stained nuclei are violet and large, platelets violet and small, red cells are not violet."""
    model, info = weights.load("ddpm.small@bccd-cells", offline=True)
    names = [category["name"] for category in info.categories]
    assert names == ["Platelets", "RBC", "WBC"]
    cells = model.sample(6, 3, [0, 1, 2] * 2, steps=10, guidance=1.5)  # 6 3 H W
    violet = (cells[:, 2] - cells[:, 0] > 0.1).float().mean((1, 2)).reshape(2, 3)  # share of the pixels, of each class
    assert (violet[:, 0] > 0.03).all()
    assert (violet[:, 1] < 0.01).all()
    assert (violet[:, 2] > 0.2).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SHIPPED if "one_shot" in SHIPPED[name]["metrics"]])
def test_one_shot_error_is_what_the_index_says(name, data):
    """The 20 official runs: of 20 characters of one alphabet, each drawn once, which one has another drawer drawn?"""
    import io
    import zipfile

    from PIL import Image

    model, _ = weights.load(name, offline=True)
    right = []
    with zipfile.ZipFile(data / "omniglot" / "all_runs.zip") as archive, torch.inference_mode():

        def codes(names: list[str]) -> torch.Tensor:
            return model.embed(model.prepare([np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names]))

        for run in range(1, 21):
            pairs = [line.split() for line in archive.read(f"run{run:02d}/class_labels.txt").decode().splitlines() if line]
            shown = sorted({b for _, b in pairs})
            nearest = torch.cdist(codes([a for a, _ in pairs]).double(), codes(shown).double()).argmin(1)
            right += [shown[i] == b for i, (_, b) in zip(nearest.tolist(), pairs, strict=True)]
    assert len(right) == 400
    assert np.mean(right) == pytest.approx(SHIPPED[name]["metrics"]["one_shot"], abs=0.011)
