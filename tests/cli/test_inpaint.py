"""`cvtool inpaint`: holes from masks, folders, boxes, strokes and records; files that stay what they were elsewhere; pipes; what is refused."""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from cvtool import images, weights
from cvtool.annotations import rle
from cvtool.cli import command
from cvtool.data import rewrite
from cvtool.errors import CvtoolError, InputError, ModelError, PartialSuccess, UsageError
from cvtool.tasks import inpaint as task

TINY = ("-m", "patchmatch.tiny")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run("a.png", "--box", ...)` in this process, in the test's folder; input: what stdin holds."""
    monkeypatch.chdir(tmp_path)

    def go(*words, input=b"", model=TINY):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input)))
        command("inpaint").main([*map(str, words), *model], standalone_mode=False)

    return go


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def marked(tmp_path, name, width=64, height=48, box=(10, 12, 14, 9)):
    """A mask file with a white box x, y, w, h, and the mask."""
    mask = np.zeros((height, width), bool)
    x, y, w, h = box
    mask[y : y + h, x : x + w] = True
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path, mask


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.system("patchmatch")
def test_a_hole_is_filled_and_every_other_pixel_stays(run, png, tmp_path, capsys):
    source, (path, mask) = png("a.png"), marked(tmp_path, "m.png")
    run(source, "--mask", path, "-o", "done.png", model=())  # without -m: what needs no weights
    old, new = pixels(source), pixels("done.png")
    assert (old[~mask] == new[~mask]).all()
    assert (old[mask] != new[mask]).any()
    (record,) = lines(capsys)
    assert (record["file_name"], record["source"]) == ("done.png", str(source))
    assert (record["width"], record["height"]) == (64, 48)
    assert record["made_by"][-1]["verb"] == "inpaint"
    assert record["made_by"][-1]["model"] == "patchmatch.base"
    run(source, "--mask", path, "-o", "again.png", model=())
    assert (pixels("again.png") == new).all()
    Image.fromarray(~mask).save(tmp_path / "inverted.png")
    run(source, "--mask", "inverted.png", "--invert-mask", "-o", "inverted-done.png", model=())
    assert (pixels("inverted-done.png") == new).all()
    run(source, "--box", "10,12,14,9", "-o", "box.png", model=())
    assert (pixels("box.png") == new).all()
    run(source, "--box", "10,12,14,9", "--seed", 3, "--patch", 5, "-o", "other.png", model=())
    assert (pixels("other.png")[mask] != new[mask]).any()


def test_text_is_found_and_painted_over_and_the_rest_stays(run, tmp_path, capsys):
    from made_text import page

    drawn = page([(60, 60, "painted over"), (60, 100, "by its paper")], width=300, height=200)
    Image.fromarray(drawn).save(tmp_path / "page.png")
    run("page.png", "--text-boxes", "--dilate", 3, "-o", "clean.png", model=())
    assert (pixels("clean.png") > 200).all()
    Image.fromarray(np.full_like(drawn, 255)).save(tmp_path / "blank.png")
    capsys.readouterr()
    run("blank.png", "--text-boxes", "-o", "same.png", model=())
    assert "no hole" in capsys.readouterr().err
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "blank.png").read_bytes()
    with pytest.raises(UsageError, match="--detector has no effect"):
        run("page.png", "--box", "1,1,5,5", "--detector", "page-lines", "-o", "x.png", model=())


def test_dilation_and_feathering_change_so_far_and_no_farther(run, png, tmp_path):
    source, (path, mask) = png("a.png"), marked(tmp_path, "m.png")
    old = pixels(source)
    distance = np.full(mask.shape, np.inf)
    ys, xs = np.nonzero(mask)
    for y in range(48):
        for x in range(64):
            distance[y, x] = np.sqrt((ys - y) ** 2 + (xs - x) ** 2).min()
    run(source, "--mask", path, "--dilate", 4, "-o", "wide.png")
    changed = (pixels("wide.png") != old).any(2)
    assert not changed[distance > 4].any()
    assert changed[(distance > 0) & (distance <= 4)].mean() > 0.5
    run(source, "--mask", path, "--dilate", 2, "--feather", 6, "-o", "soft.png")
    new = pixels("soft.png").astype(int)
    assert not (new != old).any(2)[distance > 8].any()
    apart = np.abs(new - old).max(2)
    assert 0 < apart[(distance > 6.5) & (distance <= 8)].mean() < 0.5 * apart[(distance > 2) & (distance <= 4)].mean()


def test_a_jpeg_is_written_with_its_own_tables_upright_and_the_change_is_told(run, picture, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112], exif[271] = 6, "Maker"
    Image.fromarray(picture(64, 48)).save(tmp_path / "a.jpg", quality=83, exif=exif, icc_profile=b"p", subsampling=0)
    run("a.jpg", "--box", "10,12,14,9", "-o", "clean.jpg")
    with Image.open("a.jpg") as one, Image.open("clean.jpg") as two:
        assert one.quantization == {k: np.asarray(v).reshape(8, 8).T.reshape(-1).tolist() for k, v in two.quantization.items()}
        assert two.size == (48, 64)
        assert two.getexif()[0x0112] == 1
        assert two.getexif()[271] == "Maker"
        assert two.info["icc_profile"] == b"p"
    old, new = images.decode("a.jpg").astype(int), images.decode("clean.jpg")
    outside = np.ones(old.shape[:2], bool)
    outside[12:21, 10:24] = False
    most = np.abs(old - new)[outside].max()
    assert f"outside the holes changed by {most} of 255 at most" in capsys.readouterr().err
    run("a.jpg", "--box", "10,12,14,9", "-o", "clean.png")
    assert (pixels("clean.png")[outside] == old[outside]).all()
    assert "outside" not in capsys.readouterr().err


def test_folders_are_paired_by_stem_and_one_mask_does_for_all(run, png, tmp_path, capsys):
    for i, name in enumerate(("p/a.png", "p/b.jpg", "p/deep/c.webp")):
        png(name, seed=i)
    masks = {stem: marked(tmp_path, f"m/{stem}{end}.png", box=(5 + i, 5, 9, 9))[1] for i, (stem, end) in enumerate((("a", ""), ("b", "_mask")))}
    with pytest.raises(PartialSuccess):
        run("p/", "--mask", "m/", "-o", "out/")
    good, also, bad = lines(capsys)
    assert (good["file_name"], also["file_name"]) == ("out/a.png", "out/b.jpg")
    assert "no mask for it in m/" in bad["error"]
    assert (pixels("out/a.png")[~masks["a"]] == pixels("p/a.png")[~masks["a"]]).all()
    marked(tmp_path, "one.png")
    run("p/", "--mask", "one.png", "-o", "all/")
    assert [line["file_name"] for line in lines(capsys)] == ["all/a.png", "all/b.jpg", "all/c.webp"]
    run("p/", "--mask", "one.png", "-f", "png", "-o", "png/")
    assert [line["file_name"] for line in lines(capsys)] == ["png/a.png", "png/b.png", "png/c.png"]
    with pytest.raises(UsageError, match="exists"):
        run("p/", "--mask", "one.png", "-o", "all/")
    with pytest.raises(UsageError, match="the picture itself"):
        run("p/a.png", "--mask", "one.png", "--overwrite", "-o", "p/")
    with pytest.raises(UsageError, match="more than one picture"):
        run("p/", "--mask", "one.png", "-o", "x.png")


def test_objects_of_records_are_holes(run, png, tmp_path, capsys):
    """What `cvtool detect ... | cvtool inpaint - --dilate 2 -o empty/` does."""
    source, plain = png("a.png"), png("b.png", seed=1)
    _, mask = marked(tmp_path, "unused.png")
    car = {"bbox": [0, 0, 64, 48], "segmentation": rle(mask)[0], "category_id": 3, "category": "car", "score": 0.9}
    dog = {"bbox": [40, 30, 6, 6], "category_id": 5, "category": "dog", "score": 0.3}
    maker = {"verb": "detect", "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "dog"}]}
    records = [{"id": 4, "file_name": str(source), "annotations": [car, dog], "note": 1, "made_by": [maker]}]
    records += [{"file_name": str(plain), "annotations": [dog], "made_by": [maker]}]
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    run("-", "--classes", "car", "-o", "empty/", input=text)
    told = capsys.readouterr()
    first, second = map(json.loads, told.out.splitlines())
    assert (first["file_name"], first["source"], first["id"], first["note"]) == ("empty/a.png", str(source), 4, 1)
    assert first["annotations"] == [dog]  # the car is gone
    assert [maker["verb"] for maker in first["made_by"]] == ["detect", "inpaint"]
    assert (pixels("empty/a.png")[~mask] == pixels(source)[~mask]).all()
    assert (pixels("empty/a.png")[mask] != pixels(source)[mask]).any()
    assert (tmp_path / "empty/b.png").read_bytes() == plain.read_bytes()  # no car, so the file as it is
    assert second["annotations"] == [dog]
    assert "no hole" in told.err
    run("-", "--conf", 0.2, "--dilate", 2, "-o", "both/", input=text)
    box = np.zeros_like(mask)
    box[28:38, 38:48] = True
    changed = (pixels("both/b.png") != pixels(plain)).any(2)
    assert changed.any()
    assert not changed[~box].any()
    capsys.readouterr()
    with pytest.raises(UsageError, match="unknown class 'cat'"):
        run("-", "--classes", "cat", "-o", "cats/", input=text)
    with pytest.raises(InputError):
        run(source, "-o", "nothing.png")
    assert "nothing says what is to be filled" in capsys.readouterr().err


def test_parts_and_going_on_make_the_same_pictures(run, png, tmp_path, capsys, monkeypatch):
    """Names and random strokes depend on all that came before, whoever does those."""
    for name in ("in/a/1.png", "in/a/2.jpg", "in/b/1.png"):
        png(name, seed=len(name))
    (tmp_path / "in/b/0.png").write_text("no picture")
    words = ("in", "--freeform", 0.1, "--seed", 4)

    def done(*more):
        capsys.readouterr()
        with suppress(PartialSuccess):
            run(*words, *more)
        said = capsys.readouterr()
        return sorted(record["file_name"] for record in map(json.loads, said.out.splitlines()) if "error" not in record), said.err

    assert done("-o", "whole/")[0] == ["whole/1.png", "whole/2.jpg", "whole/b_1.png"]
    first, second = (done("-o", "parts/", "--shard", f"{part}/2")[0] for part in (1, 2))
    assert len(first) + len(second) == 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert len(done("-o", "ranks/")[0]) == len((first, second)[int(rank)])
    with pytest.raises(UsageError, match="needs -o"):
        run("in/a/1.png", "--freeform", 0.1, "-o", "one.png")
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    (tmp_path / "whole/b_1.png").replace(tmp_path / "kept.png")
    made, said = done("-o", "whole/", "--resume")
    assert made == ["whole/b_1.png"]
    assert "2 done before" in said
    assert "0 images" in done("-o", "whole/", "--resume")[1]
    for name in ("1.png", "2.jpg", "b_1.png"):
        content = (tmp_path / "whole" / name).read_bytes()
        assert content == (tmp_path / "parts" / name).read_bytes() == (tmp_path / "ranks" / name).read_bytes()
    assert (tmp_path / "kept.png").read_bytes() == content
    with pytest.raises(UsageError, match="is the picture itself"):
        run("in/a", "--freeform", 0.1, "-o", "in/a/", "--resume")


def test_one_picture_goes_through_a_pipe_as_bytes(run, picture, tmp_path, capfdbinary):
    Image.fromarray(picture(64, 48)).save(tmp_path / "a.jpg", quality=70)
    data = (tmp_path / "a.jpg").read_bytes()
    run("-", "--box", "10,12,14,9", input=data)
    piped = capfdbinary.readouterr().out
    run("a.jpg", "--box", "10,12,14,9", "-o", "file.jpg")
    assert piped == (tmp_path / "file.jpg").read_bytes()
    capfdbinary.readouterr()
    run("-", "--box", "10,12,14,9", "-f", "png", input=data)
    assert rewrite.read(capfdbinary.readouterr().out).kind == "PNG"
    path, _ = marked(tmp_path, "m.png")
    run("a.jpg", "--mask", "-", "-o", "masked.jpg", input=path.read_bytes())
    assert (tmp_path / "masked.jpg").read_bytes() == piped
    with pytest.raises(UsageError, match="only once"):
        run("-", "--mask", "-", input=data)


@pytest.mark.system("freeform-mask")
def test_random_strokes_try_a_model_out(run, png, tmp_path):
    source = png("a.png")
    run(source, "--freeform", 0.2, "--seed", 1, "-o", "one.png")
    run(source, "--freeform", 0.2, "--seed", 1, "-o", "same.png")
    run(source, "--freeform", 0.2, "--seed", 2, "-o", "other.png")
    one, other = ((pixels(name) != pixels(source)).any(2) for name in ("one.png", "other.png"))
    assert (pixels("one.png") == pixels("same.png")).all()
    assert 0.05 < one.mean() < 0.6
    assert (one != other).any()
    command("generate").main("-m freeform-mask --set size=64x48 --set share=0.1 -o mask.png -q".split(), standalone_mode=False)
    run(source, "--mask", "mask.png", "-o", "masked.png")
    hole = pixels("mask.png")
    assert (pixels("masked.png")[~hole] == pixels(source)[~hole]).all()


def test_a_model_of_one_size_fills_squares_of_the_picture(run, png, tmp_path):
    """PixelCNN, which is shown 16 pixels: only the hole changes, and what is drawn depends on the seed."""
    torch.manual_seed(0)
    model = weights.build("pixelcnn.tiny", categories=[], image_size=16)
    path = weights.save(model, tmp_path / "pixels.safetensors", weights.Info(reference="pixelcnn.tiny", arguments={"image_size": 16}))
    source = png("a.png")
    for seed in (0, 1):
        run(source, "--box", "20,20,5,4", "--seed", seed, "-o", f"{seed}.png", model=("-m", path))
    outside = np.ones((48, 64), bool)
    outside[20:24, 20:25] = False
    assert (pixels("0.png")[outside] == pixels(source)[outside]).all()
    assert (pixels("0.png") != pixels("1.png")).any()
    with pytest.raises(UsageError, match="--patch has no effect"):
        run(source, "--box", "20,20,5,4", "--patch", 5, "-o", "no.png", model=("-m", path))


@pytest.mark.system("deepfill-v2")
def test_a_sketch_is_shown_to_a_model_that_has_learned_from_some(run, png, tmp_path):
    for seed in range(4):
        png(f"learned/{seed}.png", 40, 40, seed=seed)
    words = ["--data", "learned", "--sketch", "true", "--epochs", "2", "-b", "2", "--device", "cpu", "-q"]
    command("train").main(["-m", "deepfill-v2.tiny", *words], standalone_mode=False)
    path = tmp_path / "runs/0001"
    source = png("a.png", 64, 64)
    marked(tmp_path, "lines.png", 64, 64, (18, 26, 20, 2))
    Image.new("1", (64, 64)).save("none.png")
    for name in ("lines", "none"):
        run(source, "--box", "16,16,24,24", "--sketch", f"{name}.png", "-o", f"{name}-done.png", model=("-m", path))
    run(source, "--box", "16,16,24,24", "-o", "bare.png", model=("-m", path))
    assert (pixels("none-done.png") == pixels("bare.png")).all()
    different = (pixels("lines-done.png") != pixels("bare.png")).any(-1)
    assert different[16:40, 16:40].mean() > 0.2
    different[16:40, 16:40] = False
    assert not different.any()
    with pytest.raises(UsageError, match="--sketch has no effect"):
        run(source, "--box", "16,16,24,24", "--sketch", "lines.png", "-o", "no.png")
    with pytest.raises(InputError, match="no such sketch"):
        run(source, "--box", "16,16,24,24", "--sketch", "gone.png", "-o", "no.png", model=("-m", path))


def test_what_a_model_says_is_looked_at(run, png, monkeypatch):
    from cvtool.models.inpaint.patchmatch import PatchMatch

    monkeypatch.setattr(PatchMatch, "fill", lambda self, images, masks: images * float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        run(png("a.png"), "--box", "1,1,5,5", "-o", "no.png")
    with pytest.raises(UsageError, match="--seed has no effect"):
        run(png("a.png"), "--box", "1,1,5,5", "--seed", 1, "-o", "no.png")


def test_windows_and_pages_and_alpha(run, png, tmp_path, capsys):
    source = png("a.png", 90, 70)
    run(source, "--box", "10,12,60,40", "--tile", 40, "-o", "tiled.png")
    inside = np.zeros((70, 90), bool)
    inside[12:52, 10:70] = True
    assert (pixels("tiled.png")[~inside] == pixels(source)[~inside]).all()
    pages = [Image.open(source), Image.open(source).transpose(Image.Transpose.ROTATE_180)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    capsys.readouterr()
    run("pages.tif", "--box", "1,1,9,9", "-o", "out/")
    assert [line["file_name"] for line in lines(capsys)] == ["out/pages.tif", "out/pages_page1.tif"]
    assert (pixels("out/pages_page1.tif")[20:] == np.asarray(pages[1])[20:]).all()
    clear = Image.open(source).convert("RGBA")
    clear.putalpha(clear.getchannel("R"))
    clear.save(tmp_path / "clear.png")
    run("clear.png", "--box", "1,1,9,9", "-o", "out/")
    assert (pixels("out/clear.png")[..., 3] == np.asarray(clear)[..., 3]).all()


BAD = [
    ("size", "the mask m.png is 8 x 8 pixels, the picture 64 x 48"),
    ("empty", "the mask has no hole"),
    ("full", "the whole picture"),
    ("clear", "the mask is transparent"),
    ("text", "not a picture"),
    ("frames", "an animation"),
    ("jpeg", "JPEG does not hold transparency"),
]


@pytest.mark.parametrize(("what", "said"), BAD, ids=[what for what, _ in BAD])
def test_bad_masks_and_pictures_are_told_in_a_line(run, png, tmp_path, capsys, what, said):
    name, output = png("a.png").name, "out.png"
    marked(tmp_path, "m.png")
    if what == "size":
        marked(tmp_path, "m.png", 8, 8, (1, 1, 2, 2))
    elif what in ("empty", "full"):
        Image.new("1", (64, 48), what == "full").save("m.png")
    elif what == "clear":
        Image.new("RGBA", (64, 48), (255, 255, 255, 0)).save("m.png")
    elif what == "text":
        (tmp_path / "m.png").write_text("mask")
    elif what == "frames":
        name = "a.gif"
        Image.open("a.png").save(name, save_all=True, append_images=[Image.new("RGB", (64, 48))])
    elif what == "jpeg":
        image = Image.open("a.png").convert("RGBA")
        image.putalpha(100)
        image.save("a.png")
        output = "out.jpg"
    with pytest.raises(InputError) as caught:
        run(name, "--mask", "m.png", "-o", output)
    assert said in str(caught.value) + capsys.readouterr().err
    assert not (tmp_path / output).exists()


REFUSED = [
    ("--invert-mask --box 1,1,2,2", "--invert-mask has no effect without --mask"),
    ("--box 1,1,2", "--box takes X,Y,WIDTH,HEIGHT"),
    ("--box 1,1,2,-2", "--box takes X,Y,WIDTH,HEIGHT"),
    ("--freeform 1.5", "--freeform 1.5 is not a share"),
    ("--box 1,1,2,2 --classes car", "--classes has no effect"),
    ("--mask m.png --conf 0.5", "--conf has no effect"),
    ("--mask gone.png", "no such mask"),
    ("--box 1,1,2,2 --temperature 2", "--temperature has no effect on patchmatch.tiny"),
    ("--box 1,1,2,2 --patch 4", "--patch 4: the side of a patch is an odd number"),
    ("--box 1,1,2,2 -f png", "-f has no effect on -o FILE"),
    ("--box 1,1,2,2 --resume", "--resume has no effect without -o DIR/"),
    ("--box 1,1,2,2 --resume --overwrite", "exclude each other"),
    ("--box 1,1,2,2 --shard 3/2", "--shard takes I/N"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_options_that_go_with_nothing_are_refused(run, png, tmp_path, words, said):
    marked(tmp_path, "m.png")
    with pytest.raises(CvtoolError, match=said.replace("(", r"\(")):
        run(png("a.png"), *words.split(), "-o", "out.png")


def test_models_of_other_verbs_are_refused(run, png):
    with pytest.raises(UsageError, match="no model for inpaint"):
        run(png("a.png"), "--box", "1,1,2,2", "-o", "out.png", model=("-m", "vae"))
    with pytest.raises(UsageError, match="fills no holes"):
        list(task.inpaint([], "vae.tiny@none", hole=task.Hole(boxes=[(1, 1, 2, 2)])))


def test_real_photographs_keep_everything_but_the_hole(run, data, capsys):
    """The room without its vase: masks that are white where the picture is to stay."""
    folder = data / "inpaint"
    run(folder / "vase.png", "--mask", folder / "vase_mask.png", "--invert-mask", "-o", "vase.png")
    hole = pixels(folder / "vase_mask.png") < 128
    hole = hole if hole.ndim == 2 else hole[..., 0]
    old, new = pixels(folder / "vase.png"), pixels("vase.png")
    assert (old[~hole] == new[~hole]).all()
    assert (old[hole] != new[hole]).mean() > 0.9
