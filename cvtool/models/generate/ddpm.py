"""DDPM: a picture found in noise, by a network that says what in it is noise, again and again (Ho 2020, arXiv:2006.11239).

Forward, q(x_t | x_t-1) adds a little noise T = 1000 times, with betas from 1e-4 to 0.02, until 4.0358e-5 of the picture's variance is left. What is
learned is the noise in x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, at times drawn evenly (eq. 14):

    L_simple = E |eps - eps(x_t, t)|^2,

or (`predict=v`) the velocity v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0, which stays defined where there is nothing but noise (Salimans 2022,
arXiv:2202.00512). Backward, a sampler goes from N(0, 1) to a picture: `ddpm`, algorithm 2, in T steps; `ddim`, whose noise is `eta` times that;
`dpm-solver++`, the default, which needs about 25. The U-Net of `base` is the paper's for CIFAR-10: 35,746,307 parameters, in the paper 35.7 M.

conditional: the network is told the class; in training the class is left out with probability `drop`, so that it knows both, and
eps(null) + guidance (eps(class) - eps(null)) can go beyond the class (Ho 2022, arXiv:2207.12598). A classifier guides any model: its gradient of
log p(class | picture that x_t is taken for), times guidance, goes into each step (Dhariwal 2021, arXiv:2105.05233). patch: the U-Net sees squares
of patch x patch pixels as one place (Hoogeboom 2023, arXiv:2301.11093, section 3.3), a quarter of the work at 2.

    cvtool train -m ddpm.small --data cells/ --img-size 32 --set conditional=true ;  cvtool generate -m runs/0001 -n 16 --guidance 2 -o made/
    cvtool generate -m runs/0001 --sampler ddim --steps 50 -n 16 -o made/
    cvtool generate -m runs/0002 --classifier runs/0003 --class RBC --guidance 4 -n 16 -o made/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvtool.batch import Batch, Prepare
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.diffusion_unet import DiffusionUNet
from cvtool.models.generate._latents import gaussian
from cvtool.ops.diffusion import guidance as steering
from cvtool.ops.diffusion import samplers
from cvtool.ops.diffusion import schedule as schedules
from cvtool.results import Picture

VARIANTS = {
    "base": {"image_size": 32, "width": 128, "multiples": [1, 2, 2, 2], "blocks": 2, "attention": [16], "dropout": 0.1},
    "small": {
        "image_size": 64, "patch": 2, "width": 64, "multiples": [1, 2], "blocks": 1, "attention": [16], "groups": 8, "noise": "cosine",
        "predict": "v",
    },
    "tiny": {
        "image_size": 8, "width": 16, "multiples": [1, 2], "blocks": 1, "attention": [4], "groups": 4, "times": 100, "noise": "cosine",
        "predict": "v",
    },
}  # fmt: skip
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "supervised",
    "optimizer": "adam",
    "lr": 2e-4,
    "weight_decay": 0.0,
    "batch_size": 128,
    "epochs": 2000,
    "schedule": "constant",
    "warmup": 0.01,
    "augment": "flip",
    "clip": 1.0,
    "ema": 0.9999,
    "variants": {"small": {"lr": 1e-3, "batch_size": 64, "epochs": 200, "schedule": "cosine", "ema": 0.999}},
}
STEPS = {"dpm-solver++": 25, "ddim": 50}  # unless told; ddpm: T
CHUNK = 8  # pictures that a GPU makes at a time; a CPU makes one
PREDICTED = ("eps", "v")
DEVIATION = 0.5  # of a picture's values in [-1, 1], about

LogProbability = Callable[[Tensor], Tensor]


class DDPM(nn.Module):
    """predict: eps or v, what the network says of x_t. conditional: how many classes it is told of, 0 for none. drop: how often it is not."""

    result = Picture

    def __init__(
        self, unet: DiffusionUNet, *, schedule: schedules.Schedule, predict: str, patch: int, conditional: int, drop: float, prepare: Prepare
    ) -> None:
        super().__init__()
        self.unet, self.schedule, self.predicted, self.patch = unet, schedule, predict, patch
        self.conditional, self.drop, self.prepare = conditional, drop, prepare
        self.needs = ("pictures", "labels") if conditional else ("pictures",)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of x_T, the code of a picture."""
        return 3, int(self.prepare.size), int(self.prepare.size)  # type: ignore[arg-type]

    # ---- training

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """x_t B 3 H W, times B of 1 ... T and classes B int64 (`conditional` for none) -> what is predicted, B 3 H W float32."""
        y = F.pixel_unshuffle(x, self.patch)
        if self.conditional and classes is None:
            classes = torch.full_like(t, self.conditional)
        y = self.unet(y, t - 1, classes)  # published weights count times from 0
        y = F.pixel_shuffle(y, self.patch).float()
        return y if self.predicted == "eps" else self._of_residual(x, t, y)

    def _of_residual(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The velocity, of what the network says beyond the best multiple of x_t, brought to variance 1 (as Karras 2022, arXiv:2206.00364, eq. 7 and
        appendix B.6, for a picture's values with the deviation DEVIATION): most of the noise need not find its way through the network."""
        a, s = self.schedule.scales(t, x)
        variance = a**2 * DEVIATION**2 + s**2  # of x_t
        return a * s * (1 - DEVIATION**2) / variance * x + DEVIATION / variance**0.5 * y

    def target(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """What the network should say."""
        return eps if self.predicted == "eps" else self.schedule.velocity(x0, t, eps)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`noise`, or `velocity`: L_simple of times and noise drawn from torch's global generator."""
        x0 = batch.images
        t = torch.randint(1, self.schedule.length + 1, (len(x0),), device=x0.device)
        eps = torch.randn_like(x0)
        found = self(self.schedule.noised(x0, t, eps), t, self._told(batch))
        return {"noise" if self.predicted == "eps" else "velocity": F.mse_loss(found, self.target(x0, t, eps))}

    def _told(self, batch: Batch) -> Tensor | None:
        """The classes B of a batch's pictures, some left out; None where they do not count."""
        if not self.conditional:
            return None
        classes = torch.cat([target.labels[:1] for target in batch.targets or []])
        return torch.where(torch.rand(len(classes), device=classes.device) < self.drop, self.conditional, classes)

    # ---- sampling

    def denoise(self, x: Tensor, t: int, classes: Tensor | None = None) -> Tensor:
        """The noise in x_t, B 3 H W: of pictures of no class in particular unless `classes` (B int64) says which."""
        found = self(x, torch.full((len(x),), t, device=x.device), classes)
        return found if self.predicted == "eps" else self.schedule.eps_of_velocity(x, t, found)

    def denoiser(self, classes: Tensor | None, scale: float) -> samplers.Denoise:
        """(x, t) -> the noise, guided `scale` times as far as the class says."""
        if classes is None or scale == 0:
            return self.denoise
        if scale == 1:
            return lambda x, t: self.denoise(x, t, classes)

        def found(x: Tensor, t: int) -> Tensor:
            both = torch.cat([torch.full_like(classes, self.conditional), classes])
            null, told = self.denoise(torch.cat([x, x]), t, both).chunk(2)
            return steering.classifier_free(null, told, scale)

        return found

    def latents(self, n: int, seed: int, start: int = 0) -> Tensor:
        """x_T of the samples start, start + 1 ...: n 3 H W, float32 on the CPU."""
        return gaussian(self.latent_shape, n, seed, start)

    def between(self, one: Tensor, other: Tensor, t: float) -> Tensor:
        """The code at t in (0, 1) on the arc from one to the other: on the straight line it would be shorter than noise is."""
        cosine = F.cosine_similarity(one.flatten(), other.flatten(), 0).clamp(-1, 1)
        angle = torch.arccos(cosine)
        if angle.sin() < 1e-4:
            return one + t * (other - one)
        return (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / angle.sin()

    @torch.no_grad()
    def sample(
        self, n: int, seed: int, classes: Sequence[int] | None = None, *, start: int = 0, steps: int | None = None, guidance: float | None = None,
        sampler: str = "dpm-solver++", eta: float | None = None, classifier: LogProbability | None = None,
    ) -> Tensor:  # fmt: skip
        """n 3 H W in [0, 1]; the i-th picture depends on (seed, start + i), its class and the options alone, in eval mode.

        classes: that of each; without them, pictures of no class in particular. guidance: how far the class counts (default 1: as it was learned).
        classifier: pictures B 3 H W in [0, 1] -> ln p of all its classes, B K; then guidance is the factor of its gradient, and `classes` are its.
        eta: share of DDPM's noise in `ddim` (default 0). Raises UsageError, ValueError.
        """
        generators = [np.random.default_rng((seed, start + i, 1)) for i in range(n)]
        z = self.latents(n, seed, start)
        return self._made(z, classes, generators, steps=steps, guidance=guidance, sampler=sampler, eta=eta, classifier=classifier)

    @torch.no_grad()
    def decode_latents(
        self,
        z: Tensor,
        classes: Sequence[int] | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str = "dpm-solver++",
        strength: float = 1.0,
    ) -> Tensor:
        """Pictures n 3 H W in [0, 1] of x_T = z, by a sampler that draws no noise; with `strength` below 1, of x_t where t is that share of T, as
        `codes_of` makes it, in that share of the steps. Raises UsageError, ValueError."""
        if z.shape[1:] != self.latent_shape:
            raise ValueError(f"a code is {' x '.join(map(str, self.latent_shape))}, not {' x '.join(map(str, z.shape[1:]))}")
        if sampler == "ddpm":
            raise UsageError("--sampler ddpm has no effect where codes are given: it draws noise at each step", hint="ddim or dpm-solver++")
        first = self._time(strength)
        return self._made(z, classes, None, steps=steps, guidance=guidance, sampler=sampler, eta=None, classifier=None, first=first)

    def codes_of(self, images: Tensor, seed: int, start: int = 0, *, strength: float = 0.5) -> Tensor:
        """Pictures as the model sees them, n 3 H W in [-1, 1] -> x_t, as much noise on each as it has at `strength` times T, float32 on the CPU: the
        way back from there makes another picture with the same lights and shapes (SDEdit, Meng 2021, arXiv:2108.01073, algorithm 1).

        The i-th depends on (seed, start + i) and its picture. Raises UsageError for a strength out of (0, 1].
        """
        noise = self.latents(len(images), seed, start)
        return self.schedule.noised(images.float().cpu(), torch.full((len(images),), self._time(strength)), noise)

    def _time(self, strength: float) -> int:
        if not 0 < strength <= 1:
            raise UsageError(f"--strength is above 0 and at most 1, not {strength:g}", hint="0.3 changes details, 0.7 keeps colours and places")
        return max(1, round(strength * self.schedule.length))

    def _made(
        self, z: Tensor, classes: Sequence[int] | None, generators: list[np.random.Generator] | None, *, steps: int | None, guidance: float | None,
        sampler: str, eta: float | None, classifier: LogProbability | None, first: int | None = None,
    ) -> Tensor:  # fmt: skip
        """first: the time at which z stands; None for T."""
        if sampler not in samplers.NAMES:
            raise UsageError(f"unknown sampler '{sampler}'", hint=did_you_mean(sampler, samplers.NAMES) or "samplers: " + ", ".join(samplers.NAMES))
        if eta is not None and sampler != "ddim":
            raise UsageError(f"--eta has no effect with --sampler {sampler}", hint="it goes with --sampler ddim")
        if guidance is not None and classifier is None and not self.conditional:
            raise UsageError("--guidance has no effect: the model is told no classes", hint="--classifier guides it, or train with conditional=true")
        if classifier is not None and classes is None:
            raise UsageError("a classifier guides towards a class", hint="--class NAME says which")
        if classes is not None and (len(classes) != len(z) or not (self.conditional or classifier)):
            raise ValueError("a conditional generator is told the class of each picture, another is told none")
        length = self.schedule.length
        whole = steps or min(STEPS.get(sampler, length), length)
        times = schedules.spaced(first or length, whole if first is None else max(1, min(first, round(whole * first / length))))
        device = next(self.parameters()).device
        # Kernels differ in the last bits with the size of a batch, and many steps make them visible: so it is always the same.
        size = 1 if device.type == "cpu" else CHUNK
        made = []
        for row in range(0, len(z), size):
            rows = [min(i, len(z) - 1) for i in range(row, row + size)]
            with torch.inference_mode(False):  # a classifier's gradient goes past them
                told = None if classes is None else torch.tensor([classes[i] for i in rows], device=device)
            drawn = None if generators is None else [generators[i] for i in dict.fromkeys(rows)]
            x = self._run(z[rows].to(device), told, times, drawn, guidance=guidance, sampler=sampler, eta=eta or 0.0, classifier=classifier)
            made.append(x[: len(z) - row])
        return ((torch.cat(made) + 1) / 2).clamp(0, 1) if made else torch.empty(0, *self.latent_shape)

    def _run(
        self, x: Tensor, classes: Tensor | None, times: list[int], generators: list[np.random.Generator] | None, *, guidance: float | None,
        sampler: str, eta: float, classifier: LogProbability | None,
    ) -> Tensor:  # fmt: skip
        """x_T B 3 H W of one chunk -> x_0."""

        def noise() -> Tensor:
            assert generators is not None
            drawn = [torch.from_numpy(one.standard_normal(self.latent_shape, np.float32)) for one in generators]
            return torch.stack(drawn + drawn[-1:] * (len(x) - len(drawn))).to(x.device)  # what fills the chunk up counts nothing

        scale = 1.0 if guidance is None else guidance
        plain = denoise = self.denoiser(classes if self.conditional else None, scale if classifier is None else 1.0)
        gradient = None
        if classifier is not None and scale:
            gradient = steering.gradient(lambda y, t: self._likelihood(plain, y, t, classifier, classes), scale)
        if sampler == "ddpm":
            return samplers.ddpm(denoise, x, self.schedule, times, noise, gradient=gradient)
        if gradient is not None:
            denoise = steering.guided(denoise, gradient, self.schedule)
        if sampler == "ddim":
            return samplers.ddim(denoise, x, self.schedule, times, noise, eta=eta)
        return samplers.dpm_solver(denoise, x, self.schedule, times)

    def _likelihood(self, denoise: samplers.Denoise, x: Tensor, t: int, classifier: LogProbability, classes: Tensor | None) -> Tensor:
        """ln p(class | x_t), B: what a classifier that never saw noise says of the picture that x_t is taken for (Bansal 2023, arXiv:2302.07121,
        section 3.1)."""
        assert classes is not None
        x0 = self.schedule.x0_of(x, t, denoise(x, t)).clamp(-1, 1)
        return classifier((x0 + 1) / 2).gather(1, classes[:, None])[:, 0]


def build(
    *, classes: int = 0, image_size: int = 32, width: int = 128, multiples: Sequence[int] = (1, 2, 2, 2), blocks: int = 2,
    attention: Sequence[int] = (16,), heads: int = 1, groups: int = 32, dropout: float = 0.0, times: int = 1000, noise: str = "linear",
    predict: str = "eps", patch: int = 1, conditional: bool = False, drop: float = 0.1,
) -> DDPM:  # fmt: skip
    """image_size: pictures are scaled, and their middle cut out. width: maps of the U-Net's first level, times multiples at each. blocks: a level.

    attention: sizes of maps that have it. heads: of the attention. groups: of the norms. dropout: in the blocks. times: T. noise: linear or cosine.
    predict: eps or v. patch: side of the squares that the U-Net sees as one place. conditional: tell it the class; drop: how often not.

    Raises UsageError.
    """
    if predict not in PREDICTED:
        raise UsageError(f"unknown prediction '{predict}'", hint="predict: " + ", ".join(PREDICTED))
    least = patch << (len(multiples) - 1)
    if min(patch, width // 4, blocks, heads, groups, *multiples, len(multiples)) < 1 or image_size < 1 or image_size % least:
        raise UsageError(f"image_size={image_size} does not go with patch={patch} and {len(multiples)} levels", hint=f"a multiple of {max(1, least)}")
    if not 0 <= drop <= 1:
        raise UsageError(f"drop={drop:g} is no probability")
    if any(width * multiple % heads for multiple in multiples):
        raise UsageError(f"{width} maps cannot be shared out among {heads} heads")
    sizes = [image_size // patch >> level for level in range(len(multiples))]
    if wrong := [size for size in attention if size not in sizes]:
        raise UsageError(f"no maps of size {wrong[0]}: there are {', '.join(map(str, sizes))}", hint=f"such as attention={sizes[-1]}")
    told = classes if conditional else 0
    unet = DiffusionUNet(
        3 * patch**2, 3 * patch**2, width=width, multiples=multiples, blocks=blocks, attention=[sizes.index(size) for size in attention], heads=heads,
        groups=groups, dropout=dropout, classes=told + 1 if told else 0,
    )  # fmt: skip
    prepare = Prepare(resize="crop", size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return DDPM(unet, schedule=schedules.schedule(noise, times), predict=predict, patch=patch, conditional=told, drop=drop, prepare=prepare)
