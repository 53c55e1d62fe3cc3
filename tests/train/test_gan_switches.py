"""What the step gan can be told: how often who learns, by which loss, from which pictures, and to the bit again."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cvtool import weights
from cvtool.batch import Batch
from cvtool.categories import numbered
from cvtool.errors import UsageError
from cvtool.losses.adversarial import adversarial
from cvtool.models.generate.gan import Perceptron
from cvtool.results import Labels
from cvtool.runtime.device import seed_everything
from cvtool.train import recipe as recipes
from cvtool.train.steps import gan
from cvtool.train.steps._balance import Balance
from cvtool.train.steps._history import History

PLAIN = recipes.DEFAULTS | gan.SETTINGS | {"optimizer": "adam:beta1=0.5", "lr": 1e-3, "weight_decay": 0.0}


class Points(nn.Module):
    """Both players of points of the plane, or of the line."""

    def __init__(self, axes: int = 2, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        self.generator = Perceptron(8, hidden, axes, activation="relu")
        self.discriminator = Perceptron(axes, hidden, 1, activation="leaky-relu:0.2")

    def generate(self, z: Tensor, classes: None = None) -> Tensor:
        return self.generator(z)

    def judge(self, points: Tensor, classes: None = None) -> Tensor:
        return self.discriminator(points)[:, 0]

    def drawn(self, count: int) -> Tensor:
        return torch.randn(count, 8)

    def classes_of(self, batch: Batch) -> None:
        return None


def of(points: Tensor) -> Batch:
    return Batch(points, torch.zeros(len(points), dtype=torch.bool), [None] * len(points))


class Draws:
    """`count` batches of a function's points."""

    def __init__(self, item, draw, count):
        self.item, self.draw, self.count = item, draw, count

    def __len__(self):
        return self.count

    def epoch(self, epoch, start=0):
        for _ in range(start, self.count):
            yield self.item(of(self.draw()), ["-"])


def dcgan(**changes):
    seed_everything(0)
    conditional = changes.pop("conditional", False)
    return gan.make(weights.build("dcgan.tiny", categories=numbered(3), conditional=conditional), PLAIN | changes)


def pictures(count=4):
    targets = [Labels(torch.tensor([i % 3])) for i in range(count)]
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(images, torch.zeros(count, 16, 16, dtype=torch.bool), [None] * count, targets)


# ---- the game ------------------------------------------------------------------------------------------------------


@pytest.mark.system("gan")
def test_a_ring_of_eight_is_learned_and_the_discriminator_ends_undecided(make_loop, toys):
    """k = 1 turn of D for one of G; all eight of the ring's heaps are hit, most points lie in one, and D says 1/2 of real and made ones."""
    centres = torch.tensor([[2 * math.cos(k * math.pi / 4), 2 * math.sin(k * math.pi / 4)] for k in range(8)])

    def ring(count=128):
        return centres[torch.randint(8, (count,))] + 0.2 * torch.randn(count, 2)

    seed_everything(0)
    model = Points()
    step = gan.make(model, PLAIN | {"ema": 0.99, "lr": 2e-3})
    with torch.no_grad():
        assert model.judge(ring(1000)).sigmoid().mean().item() != pytest.approx(0.5, abs=1e-3)
    make_loop(step=step, loader=Draws(toys.Item, ring, 900), epochs=1, log_every=400).run()
    with torch.no_grad():
        made = step.evaluated.generate(torch.randn(2000, 8))
        far, nearest = torch.cdist(made, centres).min(1)
        good = far < 0.6  # three deviations
        assert (torch.bincount(nearest[good], minlength=8) > 40).all()
        assert good.float().mean() > 0.7
        judged = step.evaluated.judge
        assert judged(ring(1000)).sigmoid().mean().item() == pytest.approx(0.5, abs=0.1)
        assert judged(made).sigmoid().mean().item() == pytest.approx(0.5, abs=0.1)
        lost = adversarial(judged(ring(1000)), True) + adversarial(judged(made), False)
        assert lost.item() == pytest.approx(math.log(4), abs=0.15)


@pytest.mark.system("gan")
@pytest.mark.parametrize("k", [1, 3])
def test_k_turns_of_the_discriminator_for_one_of_the_generator(make_loop, toys, k):
    """With momentum, as in the paper's experiments; every turn has pictures of its own."""
    seed_everything(0)
    step = gan.make(Points(hidden=(8,)), PLAIN | {"d_steps": k, "optimizer": "momentum", "lr": 0.01, "gan_loss": "minimax"})
    assert {type(one).__name__ for one in step.optimizers.values()} == {"Momentum"}
    taken, seen = [], []
    for name, optimizer in step.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: taken.append(name[0]))

    def draw():
        seen.append(torch.randn(4, 2))
        return seen[-1]

    make_loop(step=step, loader=Draws(toys.Item, draw, 6), epochs=1).run()
    assert "".join(taken) == ("d" * k + "g") * (6 // k)
    assert len(seen) == 6


@pytest.mark.system("non-saturating")
@pytest.mark.system("gan")
def test_each_form_is_what_the_players_minimise():
    for name in ("minimax", "non-saturating", "lsgan", "wgan", "hinge"):
        step = dcgan(gan_loss=name)
        step.model.eval()
        batch = pictures()
        torch.manual_seed(1)
        told = step.deceiving(batch)["adversarial"]
        torch.manual_seed(1)
        scores = step.model.judge(step.model.generate(step.model.drawn(4)))
        said = {
            "minimax": (1 - scores.sigmoid()).log().mean(), "non-saturating": -scores.sigmoid().log().mean(), "lsgan": (1 - scores).square().mean(),
            "wgan": -scores.mean(), "hinge": -scores.mean(),
        }[name]  # fmt: skip
        torch.testing.assert_close(told, said)
        real = step.model.judge(batch.images)
        lost = step.telling(batch)["d_real"]
        by_hand = {
            "minimax": -real.sigmoid().log().mean(), "non-saturating": -real.sigmoid().log().mean(), "lsgan": (real - 1).square().mean(),
            "wgan": -real.mean(), "hinge": (1 - real).clamp(min=0).mean(),
        }[name]  # fmt: skip
        torch.testing.assert_close(lost, by_hand)
        assert step.model.losses(batch)["d_real"].item() == pytest.approx(by_hand.item(), rel=1e-4)


@pytest.mark.system("non-saturating")
def test_the_generator_still_learns_where_everything_is_rejected():
    """D's last number is lowered until it rejects all: the gradient that G gets stays as it was, and minimax's is gone."""
    norms = {}
    for name in ("non-saturating", "minimax"):
        seed_everything(0)
        step = gan.make(Points(), PLAIN | {"gan_loss": name})
        with torch.no_grad():
            step.model.discriminator[-1].bias.fill_(-30)
        torch.manual_seed(1)
        step.deceiving(of(torch.zeros(64, 2)))["adversarial"].backward()
        norms[name] = torch.cat([p.grad.flatten() for p in step.model.generator.parameters()]).norm().item()
    assert norms["non-saturating"] > 0.05
    assert norms["minimax"] < 1e-6 * norms["non-saturating"]


# ---- Wasserstein ---------------------------------------------------------------------------------------------------


@pytest.mark.system("wgan")
def test_the_critics_gap_grows_with_the_shift_of_two_gaussians():
    """Trained on N(0, 1) and N(s, 1): the gap over s is the same for every s, up to a constant that clipping sets; another c gives another."""

    def gap(shift, clip):
        seed_everything(0)
        model = Points(axes=1, hidden=(16,))
        model.generate = lambda z, classes=None: z[:, :1] + shift
        step = gan.make(model, PLAIN | {"gan_loss": "wgan", "clip_weights": clip, "optimizer": "rmsprop", "lr": 0.01, "d_steps": 5})
        critic = step.phases()[0]
        for _ in range(80):
            critic.optimizer.zero_grad()
            torch.stack(list(critic.losses(of(torch.randn(256, 1))).values())).sum().backward()
            critic.optimizer.step()
            assert max(p.abs().max() for p in model.discriminator.parameters()) <= clip
        with torch.no_grad():
            return (model.judge(torch.randn(4000, 1)) - model.judge(torch.randn(4000, 1) + shift)).mean().item()

    slopes = [gap(shift, 0.1) / shift for shift in (2.0, 4.0, 8.0)]
    assert min(slopes) > 0
    assert max(slopes) / min(slopes) < 1.25
    assert gap(4.0, 0.2) / 4 > 2 * slopes[1]


@pytest.mark.system("wgan-gp")
def test_the_penalty_keeps_the_critics_slope_at_1():
    """Without any clipping; the gap is then the distance itself: 3 of two Gaussians that far apart."""
    seed_everything(0)
    model, shift = Points(hidden=(16,)), torch.tensor([0.0, 3.0])
    model.generate = lambda z, classes=None: z[:, :2] + shift
    step = gan.make(model, PLAIN | {"gan_loss": "wgan", "gradient_penalty": 10.0, "lr": 0.01})
    critic = step.phases()[0]
    for _ in range(200):
        critic.optimizer.zero_grad()
        losses = critic.losses(of(torch.randn(128, 2)))
        torch.stack(list(losses.values())).sum().backward()
        critic.optimizer.step()
    assert set(losses) == {"d_real", "d_made", "gradient_penalty"}
    with torch.no_grad():
        gap = (model.judge(torch.randn(4000, 2)) - model.judge(torch.randn(4000, 2) + shift)).mean().item()
    assert gap == pytest.approx(3, rel=0.15)


# ---- switches ------------------------------------------------------------------------------------------------------


@pytest.mark.system("one-sided-label-smoothing")
def test_only_real_pictures_get_the_softer_target():
    step = dcgan(smooth=0.9)
    step.model.eval()
    batch = pictures()
    torch.manual_seed(1)
    told = step.telling(batch)
    torch.manual_seed(1)
    made = step.model.judge(step.model.generate(step.model.drawn(4)))
    real = step.model.judge(batch.images)
    torch.testing.assert_close(told["d_real"], -(0.9 * real.sigmoid().log() + 0.1 * (1 - real.sigmoid()).log()).mean())
    torch.testing.assert_close(told["d_made"], -(1 - made.sigmoid()).log().mean())


@pytest.mark.system("history-buffer")
def test_half_of_what_the_discriminator_sees_is_from_the_pool():
    """Pictures are numbered, so that where each comes from can be told."""
    pool, made = History(50), [torch.arange(20 * i, 20 * i + 20.0)[:, None] for i in range(12)]
    shown, _ = pool.mixed(made[0])
    assert torch.equal(shown, made[0])  # nothing older is there
    for i in range(1, 12):
        before = pool.pictures.clone()
        shown, _ = pool.mixed(made[i])
        new = torch.isin(shown, made[i]).flatten()
        assert new.sum() == 10
        assert torch.isin(shown[~new], before).all()
        assert len(shown[~new].unique()) == 10
        assert len(pool.pictures) == min(50, 10 * (i + 1))
        assert torch.isin(pool.pictures, made[i]).sum() == 10
    assert (pool.pictures < 140).any()  # it reaches back beyond the last five batches


@pytest.mark.system("history-buffer")
def test_a_pool_of_0_does_nothing_and_classes_go_along():
    made, classes = torch.randn(8, 3), torch.arange(8)
    state = torch.get_rng_state()
    shown, told = History(0).mixed(made, classes)
    assert shown is made
    assert told is classes
    assert torch.equal(torch.get_rng_state(), state)
    pool = History(6)
    for turn in range(5):
        values = torch.arange(8) + 8 * turn
        shown, told = pool.mixed(values[:, None].float(), values)
        assert torch.equal(shown[:, 0].long(), told)
        assert torch.equal(pool.pictures[:, 0].long(), pool.classes)
    assert len(pool.pictures) == 6
    step = dcgan(history=50, conditional=True)
    for _ in range(2):
        step.telling(pictures())
    assert step.history.pictures.shape == (4, 3, 16, 16)
    assert not step.history.pictures.requires_grad


@pytest.mark.system("adaptive-gan-schedule")
def test_who_learns_goes_by_what_both_lose():
    balance = Balance.parse("0.6,1.0,4")
    said = []
    for loss in (0.9, 0.7, 0.5, 2.0, 0.9, 0.9, 0.9, 0.9, 0.9, 5.0, 5.0, 5.0, 5.0, 0.1):
        said.append(balance.now[0])
        balance.told(loss)
    assert "".join(said) == "dddggddddggggd"  # to 0.5 <= 0.6; to 0.9 <= 1.0; then each to its cap of 4
    assert balance.now == "generator"
    for text in ("0.5", "a,b", "1,1,0", "1,2,3,4", "nan,1"):
        with pytest.raises(UsageError, match="TD,TG"):
            Balance.parse(text)


@pytest.mark.system("adaptive-gan-schedule")
@pytest.mark.parametrize(("limits", "expected"), [("1e9,1e9", "dgdgdgdg"), ("-1e9,-1e9,3", "dddgggdd"), ("-1e9,1e9,2", "ddgddgdd")])
def test_the_loop_trains_one_of_them_at_a_time_and_always_ends(make_loop, toys, limits, expected):
    seed_everything(0)
    step = gan.make(Points(hidden=(8,)), PLAIN | {"adaptive": limits})
    taken = []
    for name, optimizer in step.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: taken.append(name[0]))
    make_loop(step=step, loader=Draws(toys.Item, lambda: torch.randn(8, 2), 8), epochs=1).run()
    assert "".join(taken) == expected


@pytest.mark.system("gan-hacks")
def test_adam_for_the_generator_and_sgd_for_the_discriminator():
    step = dcgan(discriminator_optimizer="sgd", discriminator_lr=0.01)
    assert isinstance(step.optimizers["generator"], torch.optim.Adam)
    assert isinstance(step.optimizers["discriminator"], torch.optim.SGD)
    assert step.optimizers["discriminator"].param_groups[0]["lr"] == 0.01
    assert step.optimizers["generator"].param_groups[0]["lr"] == 1e-3


def test_instance_noise_is_on_all_that_the_discriminator_sees_and_goes():
    step = dcgan(instance_noise=0.5, instance_noise_turns=10)
    zeros = torch.zeros(64, 3, 16, 16)
    for turns, deviation in ((0, 0.5), (5, 0.25), (10, 0.0), (40, 0.0)):
        step.turns = turns
        assert step.noised(zeros).std().item() == pytest.approx(deviation, abs=0.01)
    step.turns, seen = 0, []
    judge = step.model.judge
    step.model.judge = lambda shown, classes=None: seen.append(shown) or judge(shown, classes)
    batch = pictures(64)
    step.telling(batch)
    step.deceiving(batch)
    assert (seen[0] - batch.images).std().item() == pytest.approx(0.5, abs=0.01)
    assert seen[1].abs().max() > 1  # tanh alone gives no more
    assert seen[2].abs().max() > 1


def test_the_discriminators_weights_alone_are_normalised(tmp_path):
    step = dcgan(discriminator_spectral_norm=True)
    step.model.eval()
    for module in step.model.discriminator:
        if isinstance(module, nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.05)
    assert not any("original" in key for key in step.model.generator.state_dict())
    path = weights.save(step.model, tmp_path / "a.safetensors", weights.Info(reference="dcgan.tiny", categories=numbered(3)))
    loaded, _ = weights.load(str(path))
    torch.testing.assert_close(loaded.judge(pictures().images), step.model.judge(pictures().images))


def test_with_every_switch_a_run_goes_on_to_the_bit(make_loop, toys):
    """Pool, noise and whose turn it is are part of the state."""
    settings = {"history": 6, "adaptive": "1.2,0.7,3", "instance_noise": 0.2, "instance_noise_turns": 9, "ema": 0.9, "conditional": True}

    class Loader:
        def __len__(self):
            return 3

        def epoch(self, epoch, start=0):
            for _ in range(start, 3):
                yield toys.Item(pictures(), ["-"] * 4)

    def run(epochs, state=None):
        loop = make_loop(step=dcgan(**settings), loader=Loader(), epochs=epochs)
        seed_everything(2)
        if state is not None:
            loop.load_state_dict(state)
        loop.run()
        return loop

    whole, half = run(4), run(2)
    again = run(4, deepcopy(half.state_dict()))
    for key, value in whole.step.model.state_dict().items():
        assert torch.equal(again.step.model.state_dict()[key], value), key
    assert torch.equal(again.step.history.pictures, whole.step.history.pictures)
    assert torch.equal(again.step.history.classes, whole.step.history.classes)
    assert again.step.balance.state_dict() == whole.step.balance.state_dict()
    assert again.step.turns == whole.step.turns == 12
