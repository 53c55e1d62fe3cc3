"""ViT: a transformer encoder reads a picture as a sequence of patches, a class token answers (Dosovitskiy 2020, arXiv:2010.11929).

torchvision's and timm's published weights load key for key (`rename`). Pictures of any size go in: patches that the network was not made for take
interpolated positions (section 3.2), so that one checkpoint serves at 224 and is fine-tuned at 384. MLP = 4 x hidden; heads of 64 channels
(80 in huge), pre-norm. `--pos-emb learned|sincos|peg|none`; `--head cls|gap|spp`: the class token, or the patches' mean or pyramid, without one.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from cvtool.batch import Prepare
from cvtool.categories import numbered
from cvtool.checkpoint import prefixed
from cvtool.errors import UsageError, did_you_mean
from cvtool.layers.classifier import Classifier
from cvtool.layers.head import pool
from cvtool.layers.patch_embed import Grid, PatchEmbed
from cvtool.layers.positional import Learned, positions
from cvtool.layers.transformer import Encoder
from cvtool.ops.init import trunc_normal_

VARIANTS = {
    "base": {"layers": 12, "heads": 12, "channels": 768},
    "base-32": {"layers": 12, "heads": 12, "channels": 768, "patch": 32},
    "large": {"layers": 24, "heads": 16, "channels": 1024},
    "large-32": {"layers": 24, "heads": 16, "channels": 1024, "patch": 32},
    "huge": {"layers": 32, "heads": 16, "channels": 1280, "patch": 14},
    "small": {"layers": 12, "heads": 6, "channels": 384},
    "tiny": {"layers": 4, "heads": 3, "channels": 96, "patch": 8, "image_size": 64},
}
WEIGHTS = {
    "base@imagenet": {
        "url": "https://download.pytorch.org/models/vit_b_16-c867db91.pth",
        "sha256": "c867db91",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.81072, "top5": 0.95318},
    },
    "base-32@imagenet": {
        "url": "https://download.pytorch.org/models/vit_b_32-d86f8d99.pth",
        "sha256": "d86f8d99",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.75912, "top5": 0.92466},
    },
    "large@imagenet": {
        "url": "https://download.pytorch.org/models/vit_l_16-852ce7e3.pth",
        "sha256": "852ce7e3",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.79662, "top5": 0.94638},
        "arguments": {"resize": 242},
    },
    "large-32@imagenet": {
        "url": "https://download.pytorch.org/models/vit_l_32-c7638314.pth",
        "sha256": "c7638314",
        "licence": "BSD-3-Clause",
        "data": "ImageNet-1K",
        "categories": "imagenet",
        "metrics": {"top1": 0.76972, "top5": 0.9307},
    },
}
ALIASES = {
    "vit_b_16": "base",
    "vit_b_32": "base-32",
    "vit_l_16": "large",
    "vit_l_32": "large-32",
    "vit_h_14": "huge",
    "vit-b16": "base",
    "vit-l16": "large",
    "vit-h14": "huge",
}
RECIPE = {  # DeiT's (Touvron 2020, arXiv:2012.12877, table 9), which trains it on a million pictures alone
    "step": "supervised",
    "optimizer": "adamw",
    "lr": 1e-3,  # at 1024 pictures a turn
    "weight_decay": 0.05,
    "batch_size": 64,
    "accumulate": 16,
    "epochs": 300,
    "warmup": 5.0,
    "schedule": "cosine",
    "augment": "resized-crop,flip,randaugment:2,9,erasing:p=0.25,fill=noise,mixup:0.8,cutmix:1.0,repeated:3",
    "label_smoothing": 0.1,
    "drop_path": 0.1,
    "clip": 0.0,
    "variants": {
        "tiny": {
            "lr": 1e-3,
            "batch_size": 32,
            "accumulate": 1,
            "epochs": 60,
            "augment": "flip",
            "label_smoothing": 0.0,
            "drop_path": 0.0,
            "clip": 1.0,
        },
    },
}
HEADS = ("cls", "gap", "spp")


class VisionTransformer(nn.Module):
    """forward: images B 3 H W -> logits B K.

    pos_emb and head are as in the file's docstring; `peg` stands behind the first layer. Dropout and stochastic depth are the recipe's.
    """

    def __init__(
        self, *, classes: int, image_size: int, patch: int, layers: int, heads: int, channels: int, hidden: int, pos_emb: str, head: str
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch, channels)
        self.class_token = nn.Parameter(torch.zeros(1, 1, channels)) if head == "cls" else None
        side = max(1, image_size // patch)
        self.positions = positions(pos_emb, (side, side), channels, extra=int(head == "cls"))
        self.late = pos_emb == "peg"
        self.dropout = nn.Dropout(0.0)
        self.encoder = Encoder(layers, channels, heads, hidden)
        self.pool: nn.Module | None = None
        features = channels
        if head != "cls":
            self.pool, features = pool(head, channels)
        self.head = nn.Linear(features, classes)
        if self.class_token is not None:
            trunc_normal_(self.class_token)
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight)
                nn.init.zeros_(module.bias)
        trunc_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def tokens(self, images: Tensor) -> tuple[Tensor, Grid]:
        """B N D behind the last layer, normalised (the class token first, if there is one), and the grid of patches."""
        x, grid = self.patch_embed(images)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1).to(x.dtype), x], 1)
        if not self.late:
            x = self.positions(x, grid)
        x = self.dropout(x)
        for i, layer in enumerate(self.encoder.layers):
            x = layer(x)
            if i == 0 and self.late:
                x = self.positions(x, grid)
        return self.encoder.norm(x), grid

    def features(self, images: Tensor) -> Tensor:
        """B F: what the last layer reads."""
        x, grid = self.tokens(images)
        if self.pool is None:
            return x[:, 0]
        return self.pool(x.transpose(1, 2).unflatten(2, grid))  # of B D h w

    def resize(self, image_size: int) -> None:
        """Make the positions of pictures of that size the parameters' own."""
        if isinstance(self.positions, Learned):
            side = image_size // self.patch_embed.patch
            self.positions.resize((side, side))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def build(
    *, classes: int, layers: int, heads: int, channels: int, image_size: int = 224, patch: int = 16, hidden: int = 0, pos_emb: str = "learned",
    head: str = "cls", resize: int = 0,
) -> Classifier:  # fmt: skip
    """image_size: what the positions are made for. hidden: of the MLP, 0 = 4 x channels. resize: the shorter edge before the centre is cut out,
    0 = 256 / 224 of image_size. Raises UsageError for a head or positional embedding of another name, or a size under one patch."""
    if head not in HEADS:
        raise UsageError(f"unknown head '{head}'", hint=did_you_mean(head, HEADS) or "heads: " + ", ".join(HEADS))
    if image_size < patch:
        raise UsageError(f"image_size={image_size} is less than one patch of {patch} pixels")
    net = VisionTransformer(
        classes=classes, image_size=image_size, patch=patch, layers=layers, heads=heads, channels=channels, hidden=hidden or 4 * channels,
        pos_emb=pos_emb, head=head,
    )  # fmt: skip
    short = resize or round(image_size * 256 / 224)
    prepare = Prepare(resize="crop", size=image_size, crop_fraction=image_size / short, multiple_of=patch)
    return Classifier(net, features=VisionTransformer.features, prepare=prepare, categories=numbered(classes))  # type: ignore[arg-type]


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file of torchvision's or timm's under our names."""
    names = TIMM if "patch_embed.proj.weight" in state and "cls_token" in state else TORCHVISION
    renamed = {}
    for key, value in state.items():
        for pattern, name in names:
            key, count = re.subn(pattern, name, key)
            if count:
                break
        renamed[key] = value
    return prefixed(renamed, "net")


TORCHVISION = (
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "positions.weight"),
    (r"^encoder\.ln\.", "encoder.norm."),
    (r"^heads\.head\.", "head."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.", r"encoder.layers.\1.norm\2."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.", r"encoder.layers.\1.attention."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"encoder.layers.\1.ffn.linear1."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"encoder.layers.\1.ffn.linear2."),
)
TIMM = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "positions.weight"),
    (r"^norm\.", "encoder.norm."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$", r"encoder.layers.\1.attention.in_proj_\2"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.attention.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc(\d)\.", r"encoder.layers.\1.ffn.linear\2."),
)
