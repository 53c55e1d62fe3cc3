"""WGAN-GP: a critic held to slope 1 by a penalty, not by clipped weights (Gulrajani 2017, arXiv:1704.00028).

Both players are DCGAN's, the critic without batch normalisation: the penalty is one on each picture's own gradient (section 4, "no critic batch
normalization"); layer normalisation stands in its place. To what the critic loses, E f(G(z)) - E f(x), comes

    lambda E (||grad f(x^)|| - 1)^2,  lambda = 10,  x^ uniform on the line between a real and a made picture

Algorithm 1: five turns of the critic for one of the generator, Adam at 1e-4 with beta1 = 0, beta2 = 0.9.
"""

from __future__ import annotations

from cvtool.models.generate import dcgan

VARIANTS = {
    "base": {"image_size": 64, "width": 64, "noise": 128},
    "small": {"image_size": 32, "width": 32, "noise": 64},
    "tiny": {"image_size": 16, "width": 8, "noise": 16},
}
WEIGHTS: dict[str, dict] = {}
ALIASES: dict[str, str] = {}
RECIPE = {
    "step": "gan",
    "gan_loss": "wgan",
    "gradient_penalty": 10.0,
    "d_steps": 5,
    "optimizer": "adam:beta1=0.0,beta2=0.9",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "batch_size": 64,
    "epochs": 200,
    "schedule": "constant",
    "augment": "flip",
    "clip": 0.0,
}


def build(
    *, classes: int = 0, image_size: int = 64, width: int = 64, noise: int = 128, latent: str = "gaussian", range: tuple[int, ...] = (-1, 1),
    conditional: bool = False, channels: int = 3, down: str = "stride", up: str = "transpose", norm: str = "batch",
    discriminator_norm: str = "layer", activation: str = "",
) -> dcgan.DCGAN:  # fmt: skip
    """The arguments are those of `dcgan.build`, the critic's norm apart. Raises UsageError."""
    return dcgan.build(
        classes=classes, image_size=image_size, width=width, noise=noise, latent=latent, range=range, conditional=conditional, channels=channels,
        down=down, up=up, norm=norm, discriminator_norm=discriminator_norm, activation=activation,
    )  # fmt: skip
