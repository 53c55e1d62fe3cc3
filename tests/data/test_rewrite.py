"""A picture and its successor: values outside what was painted, metadata, a JPEG's tables, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, PngImagePlugin

from cvtool import images
from cvtool.data import rewrite
from cvtool.errors import InputError

HOW = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"quality": 95}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}}
EXIF, GPS, WIDTH = 0x8769, 0x8825, 0xA002


def packed(image, kind, **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112], block[271] = orientation, "Maker"
    block[EXIF] = {36867: "2020:01:01 00:00:00", WIDTH: 48, WIDTH + 1: 32}
    block[GPS] = {1: "N"}
    return block


@pytest.fixture
def photo(picture):
    """Soft, and neither black nor white anywhere: what saturates changes most when a JPEG is written again."""
    return Image.fromarray(picture(48, 32) // 2 + 60).filter(ImageFilter.GaussianBlur(2))


def painted(data, kind=None):
    """The successor of a file with a blue square in it, as bytes, and the old one, and where it was painted."""
    old = rewrite.read(data)
    weights = np.zeros(old.values.shape[:2])
    weights[4:12, 6:14] = 1
    blue = np.zeros((*weights.shape, 3), np.uint8)
    blue[..., 2] = 200
    kind = kind or old.kind
    return old.encoded(old.painted(blue, weights), kind, HOW[kind]), old, weights > 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "I;16", "P", "PA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_files_are_bit_identical_elsewhere(photo, mode, kind):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 251)
    elif mode == "P":
        image = photo.quantize(16)
        image.info["transparency"] = 3
    elif mode == "PA":
        image = photo.convert("RGBA").quantize(16)
    else:
        image = photo.convert(mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(photo.convert("L"))
    try:
        data = packed(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    except OSError:
        pytest.skip(f"{kind} holds no {mode}")
    new, old, where = painted(data)
    assert rewrite.keeps(old, kind)
    found = rewrite.read(new)
    assert found.mode == old.mode
    assert found.kind == kind
    assert (found.values[~where] == old.values[~where]).all()
    assert (found.values[where] != old.values[where]).any()
    assert (images.decode(data)[~where] == images.decode(new)[~where]).all()
    if old.mode in rewrite.ALPHA:
        assert (found.values[..., -1] == old.values[..., -1]).all()
    if mode != "1":
        blue = found.seen[where] if old.mode not in rewrite.ALPHA else found.seen[where & (old.values[..., -1] > 0)]
        expected = (23, 23, 23) if old.mode in ("L", "LA", "I;16") else (0, 0, 200)
        assert np.abs(blue.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("sampling", "quality"), [(0, 60), (1, 75), (2, 90)])
def test_a_jpeg_keeps_its_tables_and_subsampling(photo, sampling, quality):
    data = packed(photo, "JPEG", quality=quality, subsampling=sampling, progressive=quality == 60, comment=b"said")
    new, old, where = painted(data)
    with Image.open(io.BytesIO(data)) as one, Image.open(io.BytesIO(new)) as two:
        assert one.quantization == two.quantization
        assert rewrite.JpegImagePlugin.get_sampling(two) == sampling
        assert bool(two.info.get("progressive")) == (quality == 60)
        assert two.info["comment"] == b"said"
    assert not rewrite.keeps(old, "JPEG")
    change = rewrite.change(old, new, ~where)
    assert change == np.abs(images.decode(new).astype(int) - images.decode(data))[~where].max() > 0
    far = np.zeros_like(where)
    far[:, 32:] = True  # blocks that were not painted in
    assert rewrite.change(old, new, far) <= 4
    assert rewrite.change(old, old.encoded(old.values, "JPEG", {"quality": quality // 2, "subsampling": 2}), far) <= 4
    for plain in (photo.convert("L"), photo.convert("CMYK")):
        new, old, _ = painted(packed(plain, "JPEG", quality=quality))
        assert rewrite.read(new).mode == old.mode == plain.mode
        assert rewrite.change(old, new, far) <= 6
    rgb = packed(photo, "JPEG", quality=quality, keep_rgb=True)
    new, old, _ = painted(rgb)
    assert rewrite.read(new).info["adobe_transform"] == 0
    assert rewrite.change(old, new, far) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_metadata_stays_and_the_orientation_becomes_one(photo, orientation, kind):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="%d" by="me"/></x:xmpmeta>' % orientation
    more: dict = {"exif": exif(orientation).tobytes(), "icc_profile": b"a profile", "dpi": (300, 300)}
    if kind == "JPEG":
        tables = [list(range(1, 65)), list(range(64, 0, -1))]
        more |= {"xmp": xmp, "qtables": tables, "subsampling": 0}
    elif kind == "WEBP":
        more |= {"xmp": xmp, "lossless": True}
    elif kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        more["pnginfo"] = text
    data = packed(photo, kind, **more)
    new, old, where = painted(data)
    with Image.open(io.BytesIO(new)) as image:
        assert image.size == old.values.shape[1::-1] == ((32, 48) if orientation >= 5 else (48, 32))
        found = image.getexif()
        assert found.get(0x0112, 1) == 1
        assert found[271] == "Maker"
        inner = found.get_ifd(EXIF)
        assert inner[36867] == "2020:01:01 00:00:00"
        assert (inner[WIDTH], inner[WIDTH + 1]) == image.size
        assert found.get_ifd(GPS)[1] == "N"
        assert image.info["icc_profile"] == b"a profile"
        if kind != "WEBP":
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        if kind != "TIFF":
            kept = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
            assert b'tiff:Orientation="1" by="me"' in kept
        if kind == "JPEG":
            first = np.asarray(image.quantization[0]).reshape(8, 8)
            wanted = np.arange(1, 65).reshape(8, 8)
            assert (first == (wanted.T if orientation >= 5 else wanted)).all()
    if kind != "JPEG":
        assert (images.decode(new)[~where] == images.decode(data)[~where]).all()


def test_feathering_mixes_and_changes_nothing_where_its_weight_is_zero(photo):
    old = rewrite.read(packed(photo, "PNG"))
    weights = np.tile(np.linspace(0, 1, 48), (32, 1))
    black = np.zeros((32, 48, 3), np.uint8)
    values = old.painted(black, weights)
    assert (values[:, 0] == old.values[:, 0]).all()
    assert not values[:, -1].any()
    np.testing.assert_allclose(values, old.values * (1 - weights[..., None]), atol=0.5001)


def test_other_formats_take_what_they_can_hold(photo):
    clear = photo.convert("RGBA")
    clear.putalpha(photo.convert("L"))
    for image, kind, why in (
        (clear, "JPEG", "transparency"),
        (Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 251), "JPEG", "16 bits"),
        (Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 251), "WEBP", "16 bits"),
    ):
        with pytest.raises(InputError, match=why):
            painted(packed(image, "PNG"), kind)
    new, old, where = painted(packed(photo.convert("RGBA"), "PNG", icc_profile=b"p"), "JPEG")
    assert rewrite.read(new).info["icc_profile"] == b"p"
    assert rewrite.change(old, new, np.tile(np.arange(48) > 31, (32, 1))) < 20
    new, old, where = painted(packed(photo.convert("CMYK"), "TIFF", icc_profile=b"inks"), "PNG")
    assert rewrite.read(new).mode == "RGB"
    assert "icc_profile" not in rewrite.read(new).info
    assert (images.decode(new)[~where] == old.seen[~where]).all()
    for mode, kind in (("1", "WEBP"), ("LA", "WEBP"), ("1", "JPEG"), ("LA", "BMP"), ("L", "WEBP")):
        image = photo.convert(mode)
        new, old, where = painted(packed(image, "PNG"), kind)
        assert images.decode(new).shape == (32, 48, 3)


def test_what_would_not_come_out_as_it_went_in_is_refused(photo, tmp_path):
    frames = packed(photo, "GIF", save_all=True, append_images=[photo.transpose(Image.Transpose.ROTATE_180)])
    with pytest.raises(InputError, match="animation"):
        rewrite.read(frames)
    cv2 = pytest.importorskip("cv2")
    deep = np.arange(32 * 48 * 3, dtype=np.uint16).reshape(32, 48, 3)
    for suffix in (".png", ".tif"):
        cv2.imwrite(str(tmp_path / f"deep{suffix}"), deep)
        with pytest.raises(InputError, match=r"16 bits|damaged|not a picture"):
            rewrite.read(str(tmp_path / f"deep{suffix}"))
    with pytest.raises(InputError, match="kind F"):
        rewrite.read(packed(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    with pytest.raises(InputError, match="truncated"):
        rewrite.read(packed(photo, "JPEG")[:-200])
