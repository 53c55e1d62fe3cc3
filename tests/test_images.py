"""Pictures in: one rule for every oddity, each checked on a file made here."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cvtool import images
from cvtool.errors import InputError

TURNS = [  # what a stored picture must undergo to stand upright, by EXIF's definition of the row and column that come first
    (1, lambda a: a),
    (2, lambda a: a[:, ::-1]),
    (3, lambda a: a[::-1, ::-1]),
    (4, lambda a: a[::-1]),
    (5, lambda a: a.transpose(1, 0, 2)),
    (6, lambda a: np.rot90(a, -1)),
    (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
    (8, lambda a: np.rot90(a, 1)),
]


def noise(height=5, width=7, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("orientation", "upright"), TURNS)
def test_every_orientation_is_applied_once(kind, orientation, upright):
    stored = noise()
    image = Image.fromarray(stored)
    if kind == "TIFF":
        tags = ImageFileDirectory_v2()
        tags[274] = orientation
        data = encoded(image, "TIFF", tiffinfo=tags)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(image, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    want = upright(stored)
    got = images.decode(data)
    np.testing.assert_array_equal(got, want)
    assert images.size(data) == (want.shape[1], want.shape[0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_jpeg_equals_pillows(orientation, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(40, 64)).save(path, exif=exif.tobytes(), quality=95)
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(images.decode(path), want)
    assert images.size(path) == (want.shape[1], want.shape[0])


def test_the_array_is_writable_contiguous_uint8():
    for data in (encoded(Image.fromarray(noise()), "PNG"), encoded(Image.fromarray(noise()), "JPEG"), encoded(Image.new("L", (3, 2)), "PNG")):
        array = images.decode(data)
        assert array.dtype == np.uint8
        assert array.flags["C_CONTIGUOUS"]
        assert array.flags["WRITEABLE"]


def test_cmyk_jpeg_is_inverted_once():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(red, "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(images.decode(data)[8, 8].astype(int), [255, 0, 0], atol=3)
    white = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")
    np.testing.assert_allclose(images.decode(white)[8, 8].astype(int), 255, atol=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_over_the_full_range(kind):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    got = images.decode(encoded(Image.fromarray(values), kind))
    assert got[0, :, 0].tolist() == [round(v / 257) for v in values[0].tolist()] == [0, 0, 1, 1, 128, 255]
    assert (got == got[..., :1]).all()


def test_big_endian_sixteen_bit_tiff():
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    image = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    assert images.decode(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, 1, 255]


def test_thirty_two_bit_integers():
    assert images.decode(encoded(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF"))[0, :, 0].tolist() == [0, 255]
    with pytest.raises(InputError, match=r"span 0\.\.70000"):
        images.decode(encoded(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"))


@pytest.mark.parametrize(("values", "want"), [([0, 0.5, 1], [0, 128, 255]), ([0, 1, 254.6], [0, 1, 255])])
def test_floats(values, want):
    assert images.decode(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))[0, :, 0].tolist() == want


@pytest.mark.parametrize("values", [[0, 256.0], [-0.1, 1.0], [np.nan, 1.0], [np.inf, 0.0]])
def test_floats_that_are_no_picture(values):
    with pytest.raises(InputError):
        images.decode(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))


def test_alpha_is_composited_on_white():
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    assert images.decode(encoded(Image.fromarray(pixels)))[0, :, 0].tolist() == [255, 0, 204]
    gray = np.array([[[0, 0], [100, 255]]], np.uint8)
    assert images.decode(encoded(Image.fromarray(gray, "LA")))[0, :, 0].tolist() == [255, 100]


def test_palette_and_its_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    assert images.decode(encoded(image))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert images.decode(encoded(image, transparency=0))[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert images.decode(encoded(image, transparency=bytes([0, 255])))[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_transparent_colour_of_gray_and_rgb():
    assert images.decode(encoded(Image.fromarray(np.array([[7, 9]], np.uint8)), transparency=7))[0, :, 0].tolist() == [255, 9]
    assert images.decode(encoded(Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)), transparency=(1, 2, 3)))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize(("mode", "value", "want"), [("1", 1, 255), ("L", 77, 77), ("HSV", (0, 0, 200), 200), ("YCbCr", (90, 128, 128), 90)])
def test_other_modes(mode, value, want):
    kind = "TIFF" if mode in ("YCbCr",) else "PNG"
    image = Image.new(mode, (4, 4), value)
    data = encoded(image if mode != "HSV" else image.convert("RGB"), kind)
    assert images.decode(data)[0, 0].tolist() == pytest.approx([want] * 3, abs=1)


def test_lab_tiff():
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (2, 2), (200, 100, 50)), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    np.testing.assert_allclose(images.decode(encoded(lab, "TIFF"))[0, 0].astype(int), [200, 100, 50], atol=4)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **({"lossless": True} if kind == "WEBP" else {}))
    assert images.decode(data)[0, 0].tolist() == [255, 0, 0]
    assert images.pages(data) == [0]


def test_pages_of_a_tiff():
    frames = [Image.new("RGB", (4 + i, 4), (i, i, i)) for i in range(3)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert images.pages(data) == [0, 1, 2]
    assert images.size(data, page=2) == (6, 4)
    assert images.decode(data, page=2)[0, 0].tolist() == [2, 2, 2]
    with pytest.raises(InputError, match="no page 3"):
        images.decode(data, page=3)


def test_reduced_copies_in_a_tiff_are_no_pages():
    small = Image.new("RGB", (2, 2))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = encoded(Image.new("RGB", (4, 4)), "TIFF", save_all=True, append_images=[small])
    assert images.pages(data) == [0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.9])
def test_a_truncated_picture_is_no_picture(kind, keep, tmp_path):
    path = tmp_path / "cut.jpg"
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError) as caught:
        images.decode(path)
    assert "cut.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello, world\n" * 9, "not a picture"),
        (b"", "empty"),
        (b"\xff\xd8\xff", "picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)
def test_what_is_no_picture(content, words, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (images.decode, images.size):
        with pytest.raises(InputError, match=words) as caught:
            read(path)
        assert caught.value.exit_code == 3
        assert str(path) in str(caught.value)


def test_missing_folder_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        images.decode(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="a folder"):
        images.decode(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    with pytest.raises(InputError, match="HEIC"):
        images.decode(tmp_path / "a.heic")


def test_the_limit_of_pixels(monkeypatch):
    data = encoded(Image.new("1", (2000, 1000)))
    monkeypatch.setenv("CVTOOL_MAX_PIXELS", "1e6")
    with pytest.raises(InputError, match=r"2000 x 1000.*more than 1,000,000"):
        images.decode(data)
    monkeypatch.setenv("CVTOOL_MAX_PIXELS", "2000000")
    assert images.decode(data).shape == (1000, 2000, 3)
    monkeypatch.setenv("CVTOOL_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="not a number"):
        images.decode(data)


def test_a_bomb_is_refused_from_its_header(monkeypatch):
    data = bytearray(encoded(Image.new("1", (8, 8))))
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(InputError, match="more than 300,000,000"):
        images.decode(bytes(data))


def test_nothing_is_warned_about(capfd):
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\0\0"))
    with warnings.catch_warnings(record=True) as caught:
        images.decode(bytes(data))
        images.size(bytes(data))
        image = Image.new("P", (2, 1))
        images.decode(encoded(image, transparency=bytes([0, 255])))
    assert [w for w in caught if "PIL" in str(w.filename)] == [] or all(issubclass(w.category, DeprecationWarning) for w in caught)
    assert capfd.readouterr().err == ""


def test_label_maps_are_not_touched():
    values = np.array([[0, 11, 255]], np.uint8)
    assert images.labels(encoded(Image.fromarray(values))).tolist() == values.tolist()
    palette = Image.fromarray(values, "P")
    palette.putpalette(list(range(256)) * 3)
    assert images.labels(encoded(palette)).tolist() == values.tolist()
    deep = np.array([[0, 700]], np.uint16)
    assert images.labels(encoded(Image.fromarray(deep))).tolist() == deep.tolist()
    with pytest.raises(InputError, match="label map"):
        images.labels(encoded(Image.fromarray(noise())))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_pictures_are_known_by_their_first_bytes(kind):
    assert images.looks_like_image(encoded(Image.fromarray(noise()), kind)[:16])


@pytest.mark.parametrize("head", [b'{"id": 1}', b"[1, 2]", b"a.jpg\nb.jpg\n", b"", b"P8 no"])
def test_other_streams_are_not(head):
    assert not images.looks_like_image(head[:16])


def test_reading_leaves_no_file_open(tmp_path):
    import os

    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(20):
        images.decode(path)
        images.size(path)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1
