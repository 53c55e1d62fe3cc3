"""Sampling with the paper's U-Net beside diffusers' of the same size: `python tests/benchmarks/diffusion.py [PICTURES [STEPS]]`.

Needs diffusers. Both have the same weights (checked: the same noise comes out), walk the same DDIM steps, and are timed in turn, three times each, on
one thread (OMP_NUM_THREADS=1). Prints steps a second, and the ratio of the medians.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import DDIMScheduler, UNet2DModel

from cvtool.layers.diffusion_unet import DiffusionUNet
from cvtool.ops.diffusion import samplers
from cvtool.ops.diffusion import schedule as schedules


def peer() -> UNet2DModel:
    """The configuration of google/ddpm-cifar10-32."""
    down, up = ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"], ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]
    return UNet2DModel(
        sample_size=32, block_out_channels=(128, 256, 256, 256), layers_per_block=2, down_block_types=down, up_block_types=up, norm_eps=1e-6,
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
    ).eval()  # fmt: skip


def taken(mine: DiffusionUNet, theirs: UNet2DModel) -> None:
    """Our weights are theirs."""

    def same(one: torch.nn.Module, *others: torch.nn.Module) -> None:
        for name in ("weight", "bias"):
            getattr(one, name).copy_(torch.cat([getattr(other, name) for other in others]))

    def block(one: torch.nn.Module, other: torch.nn.Module) -> None:
        for a, b in (("norm1", "norm1"), ("conv1", "conv1"), ("told", "time_emb_proj"), ("norm2", "norm2"), ("conv2", "conv2")):
            same(getattr(one, a), getattr(other, b))
        if getattr(other, "conv_shortcut", None) is not None:
            same(one.skip, other.conv_shortcut)

    def attention(one: torch.nn.Module, other: torch.nn.Module) -> None:
        same(one.norm, other.group_norm)
        same(one.inside, other.to_q, other.to_k, other.to_v)
        same(one.outside, other.to_out[0])

    same(mine.first, theirs.conv_in)
    same(mine.time[0], theirs.time_embedding.linear_1)
    same(mine.time[2], theirs.time_embedding.linear_2)
    same(mine.norm, theirs.conv_norm_out)
    same(mine.last, theirs.conv_out)
    for stages, others in ((mine.down, theirs.down_blocks), (mine.up, theirs.up_blocks)):
        for stage, other in zip(stages, others, strict=True):
            for one, resnet in zip(stage.blocks, other.resnets, strict=True):
                block(one, resnet)
            for one, layer in zip(stage.attentions, getattr(other, "attentions", None) or [], strict=True):
                attention(one, layer)
            for changes in ("downsamplers", "upsamplers"):
                if getattr(other, changes, None) is not None:
                    same(stage.change.conv, getattr(other, changes)[0].conv)
    block(mine.middle[0], theirs.mid_block.resnets[0])
    attention(mine.middle[1], theirs.mid_block.attentions[0])
    block(mine.middle[2], theirs.mid_block.resnets[1])


@torch.no_grad()
def main(pictures: int, steps: int) -> None:
    theirs, mine = peer(), DiffusionUNet(3, 3).eval()
    sizes = [sum(p.numel() for p in net.parameters()) for net in (mine, theirs)]
    taken(mine, theirs)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 700])
    off = (mine(x, t) - theirs(x, t).sample).abs().max().item()
    print(f"parameters {sizes[0]:,} and {sizes[1]:,}; the noise differs by {off:.1e} at most")
    schedule, x = schedules.linear(), torch.randn(pictures, 3, 32, 32)
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)

    def own() -> None:
        samplers.ddim(lambda y, t: mine(y, torch.full((len(y),), t - 1)), x, schedule, schedules.spaced(1000, steps))

    def other() -> None:
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(theirs(y, t).sample, t, y).prev_sample

    seconds: dict[str, list[float]] = {"own": [], "other": []}
    for _ in range(3):
        for name, run in (("own", own), ("other", other)):
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    ours, others = median(seconds["own"]), median(seconds["other"])
    print(f"{pictures} pictures of 32 x 32: {steps / ours:.2f} steps/s, diffusers {steps / others:.2f}: {others / ours:.2f} x")


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    main(words[0] if words else 4, words[1] if len(words) > 1 else 10)
