"""`cvtool generate` and `cvtool repro`: samples, walks, sweeps, directions, files of codes, and pictures that say how they were made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import weights
from cvtool.categories import numbered
from cvtool.cli import command
from cvtool.errors import CvtoolError, InputError, ModelError, UsageError
from cvtool.tasks import generate as task
from cvtool.tasks import repro


@pytest.fixture
def vae(tmp_path):
    """A checkpoint of a VAE whose pictures have contrast."""
    torch.manual_seed(0)
    model = weights.build("vae.tiny", categories=numbered(2))
    with torch.no_grad():
        model.decoder.blocks[-1].weight.mul_(8)
    return weights.save(model, tmp_path / "vae.safetensors", weights.Info(reference="vae.tiny"))


@pytest.fixture
def told(tmp_path):
    """One that is told classes."""
    torch.manual_seed(0)
    table = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    model = weights.build("vae.tiny", categories=table, conditional=True)
    with torch.no_grad():
        model.decoder.blocks[-1].weight.mul_(8)
    info = weights.Info(reference="vae.tiny", categories=table, arguments={"conditional": True})
    return weights.save(model, tmp_path / "told.safetensors", info)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run("generate", ...)` in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def go(verb, *words):
        command(verb).main([str(word) for word in words], standalone_mode=False)

    return go


def pixels(path):
    return np.asarray(Image.open(path))


def bytes_of(model, z):
    """What a code looks like, as the verb writes it."""
    with torch.inference_mode():
        return (model.decode_latents(z).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_samples_depend_on_seed_and_number_alone_and_records_name_them(run, vae, tmp_path, capsys):
    run("generate", "-m", vae, "-n", 3, "--seed", 5, "-o", "made/", "--grid", "sheet.png")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file_name"] for line in lines] == ["made/0000.png", "made/0001.png", "made/0002.png"]
    assert lines[1]["made_by"][0]["seed"] == 5
    assert lines[1]["made_by"][0]["index"] == 1
    assert [lines[0]["width"], lines[0]["height"]] == [16, 16]
    run("generate", "-m", vae, "-n", 2, "--seed", 5, "-o", "fewer/", "-b", 2)
    for i in range(2):
        assert np.abs(pixels(f"made/000{i}.png").astype(int) - pixels(f"fewer/000{i}.png")).max() <= 1
    assert (pixels("made/0000.png") != pixels("made/0001.png")).any()
    assert pixels("sheet.png").shape[0] >= 128
    model, _ = weights.load(str(vae))
    assert (pixels("made/0002.png") == bytes_of(model, model.latents(1, 5, start=2))[0]).all()


def test_one_picture_goes_to_a_pipe_and_many_go_into_one_animation(run, vae, tmp_path, capfdbinary):
    run("generate", "-m", vae, "--seed", 5)
    (tmp_path / "piped.png").write_bytes(capfdbinary.readouterr().out)
    run("generate", "-m", vae, "--seed", 5, "-o", "one.png")
    assert (pixels("piped.png") == pixels("one.png")).all()
    run("generate", "-m", vae, "-n", 4, "-o", "four.gif")
    run("generate", "-m", vae, "-n", 2, "-f", "jpg", "-o", "made/")
    with Image.open("four.gif") as moving:
        assert moving.n_frames == 4
    assert pixels("made/0001.jpg").shape == (16, 16, 3)
    capfdbinary.readouterr()
    run("generate", "-m", vae, "-n", 4, "-f", "gif")
    assert capfdbinary.readouterr().out == (tmp_path / "four.gif").read_bytes()


@pytest.mark.system("latent-walk")
def test_interpolation_goes_from_one_sample_to_the_other(run, vae):
    run("generate", "-m", vae, "--seed", 4, "-n", 7, "-o", "samples/")
    run("generate", "-m", vae, "--seed", 4, "--interpolate", "2,6", "--frames", 9, "-o", "walk/", "--grid", "walk.png", "--save-latents", "walk.npz")
    assert (pixels("walk/0000.png") == pixels("samples/0002.png")).all()
    assert (pixels("walk/0008.png") == pixels("samples/0006.png")).all()
    model, _ = weights.load(str(vae))
    z0, z1 = model.latents(7, 4)[[2, 6]]
    for i in (0, 3, 8):
        t = i / 8
        assert (pixels(f"walk/000{i}.png") == bytes_of(model, (z0 + t * (z1 - z0))[None])[0]).all()
    with np.load("walk.npz") as found:
        assert np.array_equal(found["latents"][[0, 8]], torch.stack([z0, z1]).numpy())
    run("generate", "-m", vae, "--latent", "walk.npz", "-o", "again/")
    assert (pixels("again/0003.png") == pixels("walk/0003.png")).all()


@pytest.mark.system("latent-walk")
def test_one_number_of_the_code_is_swept_and_the_others_stay(run, vae):
    run("generate", "-m", vae, "--seed", 4, "--sweep-dim", "1,5", "--range", "-2:2", "--frames", 5, "-o", "swept/", "--save-latents", "swept.npz")
    with np.load("swept.npz") as found:
        codes = found["latents"].reshape(2, 5, 8)
    model, _ = weights.load(str(vae))
    z = model.latents(1, 4)[0].numpy()
    for row, dim in enumerate((1, 5)):
        assert codes[row, :, dim].tolist() == [-2, -1, 0, 1, 2]
        others = [d for d in range(8) if d != dim]
        assert (codes[row][:, others] == z[others]).all()
    assert (pixels("swept/0000.png") != pixels("swept/0004.png")).any()


@pytest.mark.system("vae")
def test_a_sheet_shows_every_number_of_the_code(run, vae):
    run("generate", "-m", vae, "--sweep-dim", "all", "--grid", "traversal.png")
    sheet = pixels("traversal.png")
    assert sheet.shape[0] >= 8 * 64
    assert sheet.shape[1] >= 9 * 64
    run("generate", "-m", vae, "--sweep-dim", "0", "--grid", "one.png")
    assert pixels("one.png").shape[0] < 64 + 64


@pytest.mark.system("latent-walk")
def test_a_direction_is_the_difference_of_two_means_and_alpha_0_is_the_sample(run, vae):
    rng = np.random.default_rng(0)
    with_it, without = rng.normal(1, 1, (5, 8)).astype(np.float32), rng.normal(0, 1, (4, 8)).astype(np.float32)
    np.savez("with.npz", latents=with_it)
    np.savez("without.npz", vectors=without, file_name=np.array(["x"] * 4))  # as `cvtool embed` writes it
    run("generate", "--direction-from", "with.npz,without.npz", "-o", "d.npy")
    d = np.load("d.npy")
    np.testing.assert_allclose(d, with_it.mean(0) - without.mean(0), rtol=1e-5)
    run("generate", "-m", vae, "--seed", 3, "--direction", "d.npy", "--alpha", "-3:3", "-o", "moved/")
    run("generate", "-m", vae, "--seed", 3, "-o", "sample.png")
    assert (pixels("moved/0004.png") == pixels("sample.png")).all()  # the fifth of nine: alpha 0
    model, _ = weights.load(str(vae))
    z = model.latents(1, 3)
    for i, alpha in ((0, -3.0), (8, 3.0)):
        assert (pixels(f"moved/000{i}.png") == bytes_of(model, z + alpha * torch.from_numpy(d))[0]).all()
    assert (pixels("moved/0000.png") != pixels("moved/0008.png")).any()


def test_classes_by_name_and_in_turn(run, told, capsys):
    run("generate", "-m", told, "--class", "dog,cat", "-o", "made/")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["labels"][0]["category"] for line in lines] == ["dog", "cat"]
    model, _ = weights.load(str(told))
    with torch.inference_mode():
        wanted = (model.sample(1, 0, [1]) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
    assert (pixels("made/0000.png") == wanted).all()
    run("generate", "-m", told, "-n", 3, "-o", "turn/")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["labels"][0]["category_id"] for line in lines] == [3, 7, 3]
    run("repro", "turn/0001.png")


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (("-m", "VAE", "-n", "-2", "-o", "x/"), Exception, "-2"),
        (("-m", "VAE", "-n", "3"), UsageError, "more than one picture"),
        (("-m", "VAE", "--class", "dog", "-o", "x/"), UsageError, "is not told classes"),
        (("-m", "TOLD", "--class", "cow", "-o", "x/"), UsageError, "unknown class 'cow'"),
        (("-m", "VAE", "--latent", "bad.npy", "-o", "x/"), UsageError, "5 numbers, and a code of this model is 8"),
        (("-m", "VAE", "--latent", "no.npy", "-o", "x/"), InputError, "no such file"),
        (("-m", "VAE", "--direction", "bad.npy", "-o", "x/"), UsageError, "5 numbers"),
        (("-m", "VAE", "--sweep-dim", "8", "-o", "x/"), UsageError, "0 to 7"),
        (("-m", "VAE", "--interpolate", "3", "-o", "x/"), UsageError, "two samples"),
        (("-m", "VAE", "--interpolate", "0,1", "--sweep-dim", "2", "-o", "x/"), UsageError, "exclude"),
        (("-m", "VAE", "--range", "0:1", "-o", "x/"), UsageError, "no effect without --sweep-dim"),
        (("-m", "VAE", "--frames", "4", "-o", "x/"), UsageError, "no effect without"),
        (("-m", "VAE", "--sweep-dim", "1", "--range", "a:b", "-o", "x/"), UsageError, "FIRST:LAST"),
        (("-m", "VAE", "--steps", "4", "-o", "x/"), UsageError, "--steps has no effect"),
        (("-m", "VAE", "--latent", "good.npy", "--seed", "2", "-o", "x/"), UsageError, "--seed has no effect"),
        (("-m", "VAE", "--latent", "good.npy", "--interpolate", "0,9", "-o", "x/"), UsageError, "no code 9"),
        (("-m", "VAE", "-f", "gif", "-o", "x/"), UsageError, "one animation"),
        (("-m", "VAE", "-o", "x.txt"), UsageError, "kind of picture"),
        (("-m", "pixelcnn.tiny@none", "--interpolate", "0,1", "-o", "x/"), UsageError, "no codes to walk"),
        (("-m", "simple-cnn", "-o", "x/"), UsageError, "no model for generate"),
        (("--direction-from", "good.npy", "-o", "d.npy"), UsageError, "two files"),
        (("--direction-from", "good.npy,bad.npy", "-o", "d.npy"), UsageError, "do not go together"),
        (("--direction-from", "good.npy,good.npy", "-m", "VAE", "-o", "d.npy"), UsageError, "--model has no effect"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(run, vae, told, tmp_path, words, kind, says):
    np.save("bad.npy", np.zeros((2, 5), np.float32))
    np.save("good.npy", np.zeros((2, 8), np.float32))
    named = {"VAE": vae, "TOLD": told}
    with pytest.raises(kind, match=says):
        run("generate", *(named.get(word, word) for word in words))
    assert not list(tmp_path.glob("x*/*"))
    assert not (tmp_path / "d.npy").exists()


def test_a_picture_is_made_again_from_what_it_says(run, vae, tmp_path, capsys):
    run("generate", "-m", vae, "--seed", 9, "-n", 3, "-b", 3, "--temperature", 0.2, "-o", "made/")
    run("generate", "-m", vae, "--interpolate", "0,1", "--frames", 3, "-o", "walk/")
    facts, _ = repro.read(tmp_path / "made/0002.png")
    assert facts["model"] == str(vae)
    assert facts["weights_sha256"] == weights.sha256(vae)
    assert facts["seed"] == 9
    assert facts["index"] == 2
    assert facts["options"] == {"temperature": 0.2}
    assert facts["torch"] == torch.__version__
    assert facts["device"] == "cpu"
    assert facts["precision"] == "fp32"
    assert {"version", "command"} <= facts.keys()
    for name in ("made/0000.png", "made/0002.png", "walk/0001.png"):
        run("repro", name, "-o", "again.png", "--overwrite")
        assert (pixels("again.png") == pixels(name)).all()
        run("repro", "again.png")
    assert "identical" in capsys.readouterr().err
    (tmp_path / "vae.tiny@mine.safetensors").write_bytes(vae.read_bytes())  # a path, not weights of a model
    run("generate", "-m", "./vae.tiny@mine.safetensors", "-o", "mine.png")
    run("repro", "mine.png")


def test_what_cannot_be_made_again_is_told(run, vae, tmp_path, png):
    run("generate", "-m", vae, "--seed", 9, "-o", "made.png")
    torch.manual_seed(1)
    other = weights.save(weights.build("vae.tiny", categories=[]), tmp_path / "other.safetensors", weights.Info(reference="vae.tiny"))
    with pytest.raises(ModelError, match="made with the weights"):
        run("repro", "made.png", "-m", other)
    with pytest.raises(InputError, match="does not say how it was made"):
        run("repro", png("plain.png"))
    with pytest.raises(InputError, match="not a whole PNG"):
        run("repro", vae)
    with Image.open("made.png") as image:
        facts = json.loads(image.info["cvtool"])
        Image.eval(image, lambda v: max(0, v - 3)).save("darker.png", pnginfo=repro.notes(facts | {"torch": "1.0"}))
        image.save("crooked.png", pnginfo=repro.notes(facts | {"latent": {"shape": [8], "float32": "AAAA"}}))
    with pytest.raises(CvtoolError, match="by 3 of 255 at most") as caught:
        run("repro", "darker.png")
    assert "torch 1.0, now" in caught.value.hint
    with pytest.raises(InputError, match="does not go with the model"):
        run("repro", "crooked.png")


@pytest.mark.system("vae")
def test_pictures_become_codes_and_codes_pictures(run, vae, png, capsys):
    for i in range(3):
        png(f"photos/{i}.png", 40, 30, seed=i)
    run("embed", "photos/", "-m", vae, "-o", "codes.npz")
    run("generate", "-m", vae, "--latent", "codes.npz", "-o", "drawn/")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file_name"] for line in lines] == ["drawn/0000.png", "drawn/0001.png", "drawn/0002.png"]
    model, _ = weights.load(str(vae))
    codes = model.embed(model.prepare([pixels("photos/1.png")]))
    assert np.abs(pixels("drawn/0001.png").astype(int) - bytes_of(model, codes)[0]).max() <= 1


@pytest.mark.system("pixelcnn")
def test_a_model_without_codes_makes_pictures_too(run, tmp_path):
    torch.manual_seed(0)
    model = weights.build("pixelcnn.tiny", categories=[], image_size=8)
    path = weights.save(model, tmp_path / "pixels.safetensors", weights.Info(reference="pixelcnn.tiny", arguments={"image_size": 8}))
    run("generate", "-m", path, "-n", 2, "--seed", 3, "-o", "made/")
    run("generate", "-m", path, "--temperature", 0, "-o", "likeliest.png")
    assert (pixels("made/0000.png") != pixels("made/0001.png")).any()
    run("repro", "made/0001.png", "-o", "again.png")
    assert (pixels("again.png") == pixels("made/0001.png")).all()
    run("repro", "likeliest.png")
    with pytest.raises(UsageError, match="--save-latents has no effect"):
        run("generate", "-m", path, "--save-latents", "z.npz", "-o", "more/")


def test_codes_of_a_walk_between_several_samples():
    walk = task.Walk(interpolate=(0, 1, 2), frames=3)
    ends = [torch.zeros(2), torch.ones(2), torch.tensor([3.0, 1.0])]
    assert [code.latent.tolist() for code in task._ways(walk, ends, None, task._straight)] == [[0, 0], [0.5, 0.5], [1, 1], [2, 1], [3, 1]]
    assert task.Walk().values()[4] == 0


@pytest.fixture
def ddpm(tmp_path):
    """A checkpoint of a diffusion, untrained: what its way back makes of noise is noise, but the same noise."""
    torch.manual_seed(0)
    model = weights.build("ddpm.tiny", categories=numbered(2))
    return weights.save(model, tmp_path / "ddpm.safetensors", weights.Info(reference="ddpm.tiny"))


def test_a_picture_becomes_another_as_far_as_its_strength_says(run, ddpm, tmp_path, capsys):
    side = weights.load(str(ddpm))[0].prepare.size
    y, x = np.mgrid[:side, :side]
    given = np.repeat((((x - side / 2) ** 2 + (y - side / 2) ** 2 < side**2 / 9) * 200 + 20).astype(np.uint8)[..., None], 3, 2)
    Image.fromarray(given).save("given.png")
    far = []
    for strength in (0.02, 0.3, 0.9):
        run("generate", "-m", ddpm, "--input", "given.png", "--strength", strength, "--steps", 20, "--seed", 3, "-o", f"{strength}.png")
        far.append(np.abs(pixels(f"{strength}.png").astype(int) - given).mean())
    assert far[0] < 20 < far[2]
    assert far == sorted(far)
    capsys.readouterr()
    run("generate", "-m", ddpm, "--input", "given.png", "-n", 2, "--steps", 4, "-o", "two/")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["source"] for record in found] == ["given.png"] * 2
    assert found[0]["made_by"][0]["options"]["strength"] == 0.5
    assert (pixels("two/0000.png") != pixels("two/0001.png")).any()
    run("repro", "two/0001.png", "-o", "again.png")
    assert (pixels("two/0001.png") == pixels("again.png")).all()


def test_the_code_of_a_picture_is_where_a_walk_begins(run, vae, told, ddpm):
    model, _ = weights.load(str(vae))
    run("generate", "-m", vae, "-n", 2, "--seed", 1, "-o", "made/")
    run("generate", "-m", vae, "--input", "made/0000.png", "--input", "made/0001.png", "--interpolate", "0,1", "--frames", 3, "-o", "way/")
    with torch.inference_mode():
        codes = [model.embed(model.prepare([pixels(f"made/{i:04d}.png")])) for i in range(2)]
    assert (pixels("way/0000.png") == bytes_of(model, codes[0])[0]).all()
    assert (pixels("way/0002.png") == bytes_of(model, codes[1])[0]).all()
    refused = {
        "one code of each": ("-m", vae, "--input", "made/0000.png", "-n", 2, "-o", "x/"),
        "of which class": ("-m", told, "--input", "made/0000.png", "-o", "x.png"),
        "no effect": ("-m", vae, "--strength", 0.5, "-o", "x.png"),
        "at most 1": ("-m", ddpm, "--input", "made/0000.png", "--strength", 2, "-o", "x.png"),
        "exclude": ("-m", vae, "--input", "made/0000.png", "--latent", "made/0000.png", "-o", "x.png"),
    }
    for says, words in refused.items():
        with pytest.raises(UsageError, match=says):
            run("generate", *words)
