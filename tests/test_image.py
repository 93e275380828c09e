"""Pictures: what `pn.image` reads, what it refuses, and that it resizes as TensorFlow does."""

from __future__ import annotations

import math
import sys
from io import BytesIO

import numpy as np
import pytest

import parnet as pn
from parnet import image
from parnet.errors import DTypeError, FileFormatError, HyperparameterError, MissingExtraError, ShapeError

needs_pillow = pytest.mark.pillow

RED_BLUE = np.array([[[255, 0, 0], [0, 0, 255]], [[10, 20, 30], [200, 150, 100]]], np.uint8)


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def saved(picture, format, **options):
    """The bytes of a file."""
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


# -- load ---------------------------------------------------------------------------------------


@needs_pillow
def test_a_picture_is_the_same_from_path_file_and_bytes(tmp_path, pillow):
    data = saved(pillow.fromarray(RED_BLUE), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with open(path, "rb") as file:
        for source in (path, str(path), file, BytesIO(data), data, bytearray(data), memoryview(data)):
            pixels = pn.image.load(source)
            np.testing.assert_array_equal(pixels, RED_BLUE)
            assert pixels.dtype == np.uint8 and pixels.flags.writeable and pixels.flags.c_contiguous


class Reply:
    """What `urlopen` returns: bytes that are read once, with no way back."""

    def __init__(self, data):
        self.data = data

    def read(self):
        data, self.data = self.data, b""
        return data


@needs_pillow
def test_a_reply_from_the_web_need_not_be_seekable(pillow):
    np.testing.assert_array_equal(pn.image.load(Reply(saved(pillow.fromarray(RED_BLUE), "BMP"))), RED_BLUE)


@needs_pillow
@pytest.mark.parametrize("format", image.FORMATS)
def test_every_listed_format_is_read(format, pillow):
    picture = pillow.fromarray(np.repeat(np.repeat(RED_BLUE, 8, 0), 8, 1))
    pixels = pn.image.load(saved(picture, format, **({"quality": 100} if format in ("JPEG", "WEBP") else {})))
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_allclose(pixels[2::8, 2::8].astype(int), RED_BLUE.astype(int), atol=45)


@needs_pillow
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
def test_every_mode_becomes_three_channels_of_bytes(mode, pillow):
    grey = np.array([[0, 255], [255, 0]], np.uint8)
    if mode.startswith("I"):
        picture = pillow.fromarray(grey.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
        data = saved(picture, "PNG" if mode == "I;16" else "TIFF")
    else:
        picture = pillow.fromarray(grey).convert(mode)
        data = saved(picture, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    assert pillow.open(BytesIO(data)).mode.startswith(mode[:1])
    pixels = pn.image.load(data)
    assert pixels.shape == (2, 2, 3) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), np.repeat(grey[:, :, None].astype(int), 3, 2), atol=1)


@needs_pillow
def test_transparency_is_dropped_and_the_colours_below_it_stay(pillow):
    pixels = np.concatenate([RED_BLUE, np.full((2, 2, 1), 7, np.uint8)], axis=2)
    np.testing.assert_array_equal(pn.image.load(saved(pillow.fromarray(pixels), "PNG")), RED_BLUE)


@needs_pillow
def test_a_picture_is_turned_as_the_camera_said(pillow):
    exif = pillow.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    pixels = pn.image.load(saved(pillow.fromarray(RED_BLUE), "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, np.rot90(RED_BLUE, -1))


@needs_pillow
def test_of_an_animation_the_first_frame_is_read(pillow):
    frames = [pillow.new("RGB", (3, 2), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pn.image.load(data)[0, 0].tolist() == [255, 0, 0]


@needs_pillow
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_file_cut_at_any_place_is_refused(format, pillow, rng):
    data = saved(pillow.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)), format)
    # the last bytes of some formats only say that they are the last
    for length in sorted({*range(0, 40), *range(40, len(data) - 40, 29), len(data) * 3 // 4}):
        with pytest.raises(FileFormatError, match=f"pn.image.load.*{length} bytes"):
            pn.image.load(data[:length])


@needs_pillow
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_a_flipped_byte_never_raises_anything_untyped(format, pillow, rng):
    data = saved(pillow.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)), format)
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            assert pn.image.load(bytes(damaged)).shape[2] == 3
        except FileFormatError:
            pass


@needs_pillow
@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a", b"<html>Log in</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"],
    ids=["nothing", "head", "html", "postscript", "signature"],
)
def test_what_is_no_picture_is_refused_with_its_name(data, tmp_path, pillow):
    (tmp_path / "dog.jpg").write_bytes(data)
    with pytest.raises(FileFormatError, match=r"dog\.jpg.*use another copy"):
        pn.image.load(tmp_path / "dog.jpg")


@needs_pillow
def test_a_picture_that_claims_a_terapixel_is_refused_unread(pillow):
    data = bytearray(saved(pillow.fromarray(RED_BLUE), "BMP"))
    data[18:26] = (10**6).to_bytes(4, "little") * 2
    with pytest.raises(FileFormatError, match="DecompressionBomb"):
        pn.image.load(bytes(data))


@needs_pillow
def test_what_is_no_source_is_refused(tmp_path, pillow):
    with pytest.raises(FileNotFoundError):
        pn.image.load(tmp_path / "nowhere.png")
    with pytest.raises(DTypeError, match="an array is a picture already"):
        pn.image.load(RED_BLUE)
    (tmp_path / "text").write_text("hello")
    with open(tmp_path / "text") as file, pytest.raises(DTypeError, match="use mode 'rb'"):
        pn.image.load(file)


def test_without_pillow_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"PIL.*pip install 'parnet\[image\]'"):
        pn.image.load(b"")


# -- resize_with_pad ----------------------------------------------------------------------------


def ramp():
    return (np.arange(5 * 7) ** 2 % 256).astype(np.uint8).reshape(5, 7, 1)


#: (antialias, height, width) -> what tf.image.resize_with_pad (TensorFlow 2.21) makes of `ramp()`
TENSORFLOW = {
    (True, 3, 4): [
        [77.6277, 51.0655, 73.9018, 110.1818],
        [142.4069, 89.3782, 86.4691, 143.5151],
        [0, 0, 0, 0],
    ],
    (True, 4, 3): [[71.3247, 59.23, 102.1818], [129.9221, 86.2032, 126.1818], [0, 0, 0], [0, 0, 0]],
    (False, 3, 4): [[41.0625, 63.6875, 92.5625, 127.6875], [160.1875, 52.0625, 86.1875, 174.5625], [0, 0, 0, 0]],
    (False, 4, 3): [[44.4167, 77.25, 121.4167], [173.75, 96.25, 158.0833], [0, 0, 0], [0, 0, 0]],
    (True, 8, 9): [
        [0, 0.6667, 2.3333, 5.1111, 9, 14.4444, 21, 28.6667, 36],
        [36.75, 44.4167, 54.25, 65.1944, 77.25, 90.8611, 105.5833, 121.4167, 135.75],
        [134.75, 150.1944, 102.7315, 39.787, 60.9167, 83.6018, 107.3982, 132.3056, 154.4167],
        [191.4167, 214.6389, 128.8426, 15.713, 45.9167, 77.6759, 110.5463, 144.5278, 174.4167],
        [142.75, 173.75, 125.4722, 56.9722, 96.25, 87.3056, 115.0278, 158.0833, 195.75],
        [16, 54, 99.2222, 145.5556, 193, 42.8889, 36.1111, 87.3333, 132],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
}


@pytest.mark.parametrize(("antialias", "height", "width"), TENSORFLOW)
def test_pictures_are_resized_as_recorded_from_tensorflow(antialias, height, width):
    result = image.resize_with_pad(ramp(), height, width, antialias)
    assert result.shape == (height, width, 1) and result.dtype == np.float32
    np.testing.assert_allclose(result[..., 0], TENSORFLOW[antialias, height, width], atol=1e-4)


@pytest.mark.keras
def test_pictures_are_resized_as_tensorflow_does(rng):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    sizes = [(480, 640, 224, 224), (224, 224, 224, 224), (100, 224, 224, 224), *rng.integers(1, 120, (60, 4)).tolist()]
    for high, wide, height, width in sizes:
        picture = rng.integers(0, 256, (2, high, wide, 3), dtype=np.uint8)
        for antialias in (True, False):
            try:
                wanted = tf.image.resize_with_pad(picture, height, width, antialias=antialias).numpy()
            except tf.errors.InvalidArgumentError:  # one side shrinks to nothing
                with pytest.raises(ShapeError):
                    image.resize_with_pad(picture, height, width, antialias)
                continue
            mine = image.resize_with_pad(picture, height, width, antialias)
            assert mine.dtype == wanted.dtype == np.float32
            np.testing.assert_allclose(mine, wanted, atol=2e-4, err_msg=f"{high} {wide} {height} {width} {antialias}")


def naive(picture, height, width, antialias):
    """One pixel at a time, in Python's floats."""
    high, wide, channels = picture.shape
    ratio = max(wide / width, high / height)
    rows, columns = math.floor(high / ratio + 1e-6), math.floor(wide / ratio + 1e-6)
    top, left = math.floor((height - high / ratio) / 2 + 1e-6), math.floor((width - wide / ratio) / 2 + 1e-6)
    out = np.zeros((height, width, channels))

    def weights(place, size, target):
        step = size / target
        radius = max(step, 1.0) if antialias else 1.0
        found = [max(0.0, 1 - abs(i + 0.5 - (place + 0.5) * step) / radius) for i in range(size)]
        return np.array(found) / sum(found)

    for i in range(rows):
        for j in range(columns):
            both = np.outer(weights(i, high, rows), weights(j, wide, columns))
            out[top + i, left + j] = (both[:, :, None] * picture).sum((0, 1))
    return out


@pytest.mark.parametrize("antialias", [True, False])
def test_each_pixel_is_the_weighted_mean_it_is_said_to_be(antialias, rng):
    for high, wide, height, width in (
        (9, 12, 4, 4),
        (4, 4, 9, 12),
        (7, 5, 7, 5),
        (16, 6, 5, 20),
        (1, 1, 3, 3),
        (30, 40, 6, 8),
    ):
        picture = rng.normal(size=(high, wide, 2)) * 100
        result = image.resize_with_pad(picture, height, width, antialias)
        np.testing.assert_allclose(result, naive(picture, height, width, antialias), atol=1e-3)


def test_a_batch_is_its_pictures_one_by_one(rng):
    batch = rng.integers(0, 256, (3, 10, 14, 3), dtype=np.uint8)
    together = image.resize_with_pad(batch, 6, 6)
    for one, picture in zip(together, batch, strict=True):
        np.testing.assert_array_equal(one, image.resize_with_pad(picture, 6, 6))
    assert image.resize_with_pad(batch[:0], 6, 6).shape == (0, 6, 6, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16, bool])
def test_the_callers_array_stays_as_it_is_and_is_never_handed_back(dtype, rng):
    picture = rng.integers(0, 2, (5, 5, 3)).astype(dtype)
    before = picture.copy()
    for size in ((5, 5), (3, 3), (9, 9)):
        result = image.resize_with_pad(picture, *size)
        assert result.dtype == np.float32 and not np.shares_memory(result, picture)
        result[:] = 7
        np.testing.assert_array_equal(picture, before)
    picture.flags.writeable = False
    image.resize_with_pad(picture[::-1, ::2], 4, 4)


def test_shrinking_with_antialias_keeps_the_mean_and_without_does_not():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::4] = 200
    assert abs(image.resize_with_pad(stripes, 8, 8)[:, 1:-1].mean() - 50) < 1
    assert abs(image.resize_with_pad(stripes, 8, 8, antialias=False)[:, 1:-1].mean() - 50) > 40


@pytest.mark.parametrize(
    ("shape", "words"),
    [((5, 5), "img\\[:, :, None\\]"), ((5,), "\\(5,\\)"), ((0, 5, 3), "\\(0, 5, 3\\)"), ((1, 2, 3, 4, 5), "batch")],
)
def test_another_shape_is_refused(shape, words):
    with pytest.raises(ShapeError, match=words):
        image.resize_with_pad(np.zeros(shape), 4, 4)


def test_what_would_shrink_to_nothing_is_refused():
    with pytest.raises(ShapeError, match=r"\(1000, 1\).*becomes \(10.00, 0.01\)"):
        image.resize_with_pad(np.zeros((1000, 1, 3)), 10, 10)


def test_sizes_and_types_that_make_no_sense_are_refused():
    for size in (0, -1, 2.5, True, None, "4"):
        with pytest.raises(HyperparameterError, match="height"):
            image.resize_with_pad(np.zeros((2, 2, 3)), size, 4)
    for dtype in (complex, object, "U1"):
        with pytest.raises(DTypeError, match="real numbers"):
            image.resize_with_pad(np.zeros((2, 2, 3), dtype), 4, 4)
