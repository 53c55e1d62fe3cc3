"""Jaderberg's pipeline: every stage's recall and precision, what each is for, and one checkpoint that holds all parts."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from cvtool import weights
from cvtool.categories import numbered
from cvtool.data.dataset import Sample
from cvtool.models.ocr import jaderberg
from cvtool.models.ocr._box_regressor import OWN, inflated
from cvtool.records import Record, write_line
from cvtool.results import Quads, Text
from cvtool.tasks.train import train
from cvtool.train.log import Reporter

WIDTH, HEIGHT = 140, 100


def scene(seed):
    """A picture of two words of the common lexicon among grey blots, with its truth."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (WIDTH, HEIGHT), 200)
    pen, quads, texts = ImageDraw.Draw(image), [], []
    for _ in range(4):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 8, 8), (WIDTH - 20, HEIGHT - 20, 40, 40)))
        pen.ellipse((x, y, x + w, y + h), fill=int(rng.integers(120, 180)))
    for k in range(2):
        font, text = ImageFont.load_default(int(rng.integers(16, 24))), str(rng.choice(["open", "exit", "hotel", "street"]))
        x, y = int(rng.integers(4, 50)), int(rng.integers(4, 18)) + 48 * k
        pen.text((x, y), text, font=font, fill=20)
        x0, y0, x1, y1 = pen.textbbox((x, y), text, font=font)
        quads.append([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        texts.append(text)
    target = Quads(torch.tensor(quads, dtype=torch.float32), texts=tuple(texts), spared=torch.zeros(2, dtype=torch.bool))
    return Sample(np.stack([np.asarray(image)] * 3, 2), target, Record(file_name=f"{seed}.png"))


def descended(model, batch, steps, rate):
    """The model after some steps, and its first and last loss."""
    torch.manual_seed(0)
    optimizer, found = torch.optim.AdamW(model.parameters(), rate), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = sum(model.losses(batch).values())
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return model.eval(), np.mean(found[:3]), np.mean(found[-3:])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Checkpoints of a regression network and of a word network, both trained a little, and how the former's loss fell."""
    folder = tmp_path_factory.mktemp("parts")
    samples = [scene(i) for i in range(8)]
    torch.manual_seed(0)
    mover = weights.build("jaderberg.boxes-tiny", categories=numbered(1))
    batch = mover.prepare([s.pixels for s in samples], [s.target for s in samples])
    mover, before, after = descended(mover, batch, 40, 3e-3)
    weights.save(mover, folder / "boxes.safetensors", weights.Info(reference="jaderberg.boxes-tiny", categories=numbered(1), prepare=mover.prepare))
    reader = weights.build("dict90k.tiny", categories=numbered(1))
    shown, texts, rng = [], [], np.random.default_rng(0)
    for sample in [*samples, *(scene(i) for i in range(8, 16))]:
        for corners, text in zip(sample.target.quads.numpy(), sample.target.texts, strict=True):
            for _ in range(2):
                x0, y0, x1, y1 = (np.array([*corners.min(0), *corners.max(0)]) + rng.integers(-3, 4, 4)).astype(int).clip(0)
                shown.append(np.ascontiguousarray(sample.pixels[y0:y1, x0:x1]))
                texts.append(Text(text))
    reader, _, _ = descended(reader, reader.prepare(shown, texts), 40, 5e-3)
    weights.save(reader, folder / "words.safetensors", weights.Info(reference="dict90k.tiny", categories=numbered(1), prepare=reader.prepare))
    return folder, before, after


class Told(Reporter):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def run(parts, tmp_path_factory):
    """The pipeline as `cvtool train` makes it, validated on other pictures: its folder and what it told."""
    folder, told = tmp_path_factory.mktemp("run"), Told()
    for name, seeds in (("train", range(8)), ("val", range(20, 25))):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
            for seed in seeds:
                sample = scene(seed)
                Image.fromarray(sample.pixels).save(folder / f"{seed}.png")
                words = [{"segmentation": [q.flatten().tolist()], "bbox": [float(v) for v in (*q.amin(0), *(q.amax(0) - q.amin(0)))],
                          "category_id": 1, "category": "text", "text": t}
                         for q, t in zip(sample.target.quads, sample.target.texts, strict=True)]  # fmt: skip
                write_line(Record(file_name=str(folder / f"{seed}.png"), width=WIDTH, height=HEIGHT, annotations=words), lines)
    made = train(
        "jaderberg.tiny", folder / "train.jsonl", data_val=folder / "val.jsonl", output=folder / "runs", device="cpu", reporter=told,
        layers=[{"regressor": str(parts[0] / "boxes.safetensors"), "recognizer": str(parts[0] / "words.safetensors")}],
    )  # fmt: skip
    return made, told.lines


@pytest.fixture(scope="module")
def model(run):
    return weights.load(str(run[0]))[0]


def told_of(lines, stage):
    """{"recall": ..., "precision": ...} from the line of a stage."""
    line = next(line for line in lines if line.startswith(f"{stage}: "))
    return {name: float(value) for name, value in (part.rsplit(" ", 1) for part in line.partition(": ")[2].split(", "))}


@pytest.mark.system("jaderberg")
def test_each_stage_tells_its_recall_and_precision_on_other_pictures(run):
    folder, lines = run
    figures = {stage: told_of(lines, stage) for stage in jaderberg.STAGES}
    assert figures["proposals"]["recall"] >= 0.9
    assert figures["forest"]["precision"] > 1.5 * figures["proposals"]["precision"]  # what the forest is for
    assert figures["forest"]["recall"] >= 0.9 * figures["proposals"]["recall"]
    assert figures["boxes"]["recall"] >= 0.8 * figures["forest"]["recall"]
    assert figures["merged"]["precision"] > figures["proposals"]["precision"]
    assert figures["merged"]["recall"] >= 0.6
    assert told_of(lines, "words")["read"] >= 0.3
    logged = (folder / "log.jsonl").read_text(encoding="utf-8")
    assert '"proposals_recall"' in logged
    assert '"merged_precision"' in logged


@pytest.mark.system("jaderberg")
def test_it_reads_a_picture_it_has_not_seen(model):
    right = 0
    for seed in (20, 21, 22):
        sample = scene(seed)
        found = model.predict(model.prepare([sample.pixels]))[0].numpy()
        near = np.abs(found.quads[:, None].mean(2) - sample.target.quads.numpy()[None].mean(2)).max(2) < 10
        assert near.any()
        right += sum(any(found.texts[i] == text for i in np.flatnonzero(near[:, k])) for k, text in enumerate(sample.target.texts))
        assert (np.diff(found.scores) <= 0).all()
    assert right >= 2  # of 6
    only = model.predict(model.prepare([sample.pixels]), dictionary=["taxi"], conf=0.0)[0]
    assert set(only.texts) == {"taxi"}


@pytest.mark.system("jaderberg")
def test_boxes_are_regressed_from_a_crop_of_twice_their_size(parts):
    folder, before, after = parts
    assert after < 0.5 * before
    trained, rng, overlaps = weights.load(str(folder / "boxes.safetensors"))[0], np.random.default_rng(0), []
    for seed in range(20, 25):  # on pictures it has not seen, proposals come nearer to the words
        sample = scene(seed)
        true = np.repeat(jaderberg.truth_of(sample.target)[0], 8, 0)
        some = torch.from_numpy(jaderberg.jittered(rng, jaderberg.truth_of(sample.target)[0], 8)).float()
        with torch.no_grad():
            moved = trained.regressed(trained.prepare([sample.pixels]).images, some)
        overlaps.append([np.diag(jaderberg.overlaps(boxes.double().numpy(), true)).mean() for boxes in (some, moved)])
    jittered, regressed = np.mean(overlaps, axis=0)
    assert regressed > jittered + 0.03
    boxes = torch.tensor([[10.0, 20, 50, 30]])
    assert inflated(boxes).tolist() == [[-10, 15, 70, 35]]
    fresh = weights.build("jaderberg.boxes-tiny", categories=numbered(1))
    images = torch.rand(1, 3, 60, 80) * 255
    torch.testing.assert_close(fresh.regressed(images, boxes), boxes, atol=0.01, rtol=0)  # at first nothing moves
    torch.testing.assert_close(fresh(images, [boxes]), torch.tensor([OWN]), atol=1e-3, rtol=0)
    target = Quads(torch.tensor([[[10.0, 20], [50, 20], [50, 30], [10, 30]]]))
    torch.manual_seed(0)
    noise = (torch.rand(fresh.jitter, 4) * 2 - 1).double()  # the loss is the squared distance in the crop: worked out again
    torch.manual_seed(0)
    loss = fresh.losses(fresh.prepare([np.zeros((60, 80, 3), np.uint8)], [target]))["box"].item()
    size, middle = torch.tensor([40.0, 10]), torch.tensor([30.0, 25])
    centre, half = middle + noise[:, :2] * 0.25 * size, size / 2 * torch.exp(noise[:, 2:] * 0.3)
    low, whole = centre - 2 * half, 4 * half
    wanted = torch.cat([(torch.tensor([10.0, 20]) - low) / whole, (torch.tensor([50.0, 30]) - low) / whole], 1)
    assert loss == pytest.approx(float((wanted - torch.tensor(OWN)).square().mean()), rel=1e-3)


@pytest.mark.system("jaderberg")
def test_boxes_that_say_the_same_are_merged_and_others_compete():
    boxes = np.array([[0.0, 0, 40, 10], [4, 0, 44, 10], [2, 0, 42, 10], [100, 0, 140, 10], [0, 50, 40, 60]])
    scores = np.array([0.5, 0.5, 0.6, 0.4, 0.1])
    found, sure, texts = jaderberg.merged(boxes, scores, ["Exit", "exit", "exile", "exit", "far"], 0.2)
    assert texts == ["Exit", "exit"]  # exile is less sure than both exits together; far is not sure enough; the exit elsewhere stays
    assert sure == pytest.approx([0.75, 0.4])
    assert found[0].tolist() == [2, 0, 42, 10]
    nameless, _, _ = jaderberg.merged(boxes, scores, [None] * 5, 0.0)
    assert len(nameless) == 3


def test_one_checkpoint_holds_all_parts(run, model, parts):
    assert model.recognizer.words[:3] == ("the", "of", "and")
    theirs = weights.load(str(parts[0] / "boxes.safetensors"))[0].state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in model.regressor.state_dict().items())
    sample = scene(3)
    again = weights.load(str(run[0]))[0]
    one, other = (m.predict(m.prepare([sample.pixels]), conf=0.0)[0] for m in (model, again))
    assert one.texts == other.texts
    assert torch.equal(one.quads, other.quads)
