"""WGAN: a critic tells how far made pictures are from real ones, in earth mover's distance (Arjovsky 2017, arXiv:1701.07875).

Both players are DCGAN's; what was the discriminator is a critic, whose number no sigmoid squashes. By the duality of Kantorovich and Rubinstein the
distance is the largest E f(x) - E f(G(z)) over functions f of slope 1 at most; weights clipped to [-c, c] bound the slope by some constant, so that
the critic tells the distance up to that constant ("a clearly terrible way", section 3; `wgan-gp` has another). The generator minimises -E f(G(z)).

Algorithm 1: c = 0.01, RMSProp at 5e-5, five turns of the critic, each with pictures of its own, for one of the generator. The distance that it tells
is the negative of the log's d_real + d_made, and falls as the pictures get better (figure 3).
"""

from __future__ import annotations

from cvtool.models.generate import dcgan

VARIANTS = {
    "base": {"image_size": 64, "width": 64, "noise": 100},
    "small": {"image_size": 32, "width": 32, "noise": 64},
    "tiny": {"image_size": 16, "width": 8, "noise": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "gan",
    "gan_loss": "wgan",
    "clip_weights": 0.01,
    "d_steps": 5,
    "optimizer": "rmsprop:beta=0.99",
    "lr": 5e-5,
    "weight_decay": 0.0,
    "batch_size": 64,
    "epochs": 200,
    "schedule": "constant",
    "augment": "flip",
    "clip": 0.0,
}


def build(
    *, classes: int = 0, image_size: int = 64, width: int = 64, noise: int = 100, latent: str = "gaussian", range: tuple[int, ...] = (-1, 1),
    conditional: bool = False, channels: int = 3, down: str = "stride", up: str = "transpose", norm: str = "batch",
    discriminator_norm: str = "", activation: str = "",
) -> dcgan.DCGAN:  # fmt: skip
    """The arguments are those of `dcgan.build`. Raises UsageError."""
    return dcgan.build(
        classes=classes, image_size=image_size, width=width, noise=noise, latent=latent, range=range, conditional=conditional, channels=channels,
        down=down, up=up, norm=norm, discriminator_norm=discriminator_norm, activation=activation,
    )  # fmt: skip
