from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rerender.errors import UserError
from rerender.video.folder import list_pictures, missing_numbers, read_picture
from rerender.video.probe import probe
from rerender.video.read import FrameSource
from tests.video.clips import plain_frame


def fill(folder: Path, names: list[str], size: tuple[int, int] = (32, 24)) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(plain_frame(index, *size)).save(folder / name)
    return folder


def test_numbers_count_as_numbers(tmp_path: Path) -> None:
    names = ["f1.png", "f2.png", "F9.png", "f10.png", "f010b.png", "f100.png"]
    fill(tmp_path / "frames", names[::-1])
    (tmp_path / "frames" / "notes.txt").touch()
    (tmp_path / "frames" / "._f3.png").touch()
    assert [path.name for path in list_pictures(tmp_path / "frames")] == names


def test_a_folder_is_a_clip_at_the_given_rate(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames of “Ü”", [f"{k}.png" for k in range(12)])
    info = probe(folder, frame_rate=29.97)
    assert (info.kind, info.width, info.height, info.frames) == ("folder", 32, 24, 12)
    assert info.timestamps[1] == Fraction(1001, 30000)
    assert probe(folder).rate == 25
    with FrameSource(info) as source:
        for index, frame in source.read():
            assert np.array_equal(frame, plain_frame(index))


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 3, 7, 8, 20, 21], "4-6, 9-19"),
        ([0, 1, 3], "2"),
        ([10, 12, 14, 18], "16"),
        ([5, 6, 7], ""),
        ([0, 10, 20], ""),
        ([4], ""),
    ],
)
def test_numbers_that_are_left_out(numbers: list[int], missing: str) -> None:
    assert missing_numbers([Path(f"frame_{number:03d}.png") for number in numbers]) == missing


def test_names_without_numbers_lack_none() -> None:
    assert missing_numbers([Path("a.png"), Path("b1.png"), Path("b7.png"), Path("b8.png")]) == ""


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tiff"])
def test_one_picture_is_a_clip_of_one_frame(tmp_path: Path, ending: str) -> None:
    Image.fromarray(plain_frame(3)).save(tmp_path / f"one.{ending}")
    info = probe(tmp_path / f"one.{ending}")
    assert (info.frames, info.duration) == (1, Fraction(1, 25))
    with FrameSource(info) as source:
        assert np.abs(source.frame(0).astype(int) - plain_frame(3)).max() <= 6


def test_pictures_of_different_sizes_are_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", ["1.png", "2.png"])
    fill(folder, ["3.png"], size=(16, 8))
    with pytest.raises(UserError) as caught:
        probe(folder)
    for part in (str(folder / "1.png"), str(folder / "3.png"), "32x24", "16x8"):
        assert part in caught.value.message


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures"):
        probe(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text"])
def test_an_unreadable_picture_is_named(tmp_path: Path, damage: str) -> None:
    folder = fill(tmp_path / "frames", ["1.png", "2.png", "3.png"])
    bad = folder / "2.png"
    bad.write_bytes(bad.read_bytes()[:90] if damage == "cut" else b"no picture")
    with pytest.raises(UserError) as caught:
        probe(folder)
    assert str(bad) in caught.value.message
    assert probe(folder, until=1).frames == 1


@pytest.mark.parametrize("rate", [0, -3])
def test_a_rate_that_is_no_rate(tmp_path: Path, rate: float) -> None:
    with pytest.raises(UserError, match=str(rate)):
        probe(fill(tmp_path / "frames", ["1.png"]), frame_rate=rate)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[..., 0], rgba[0, :, 3] = 100, (0, 51, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [224, 204, 204], [100, 0, 0]]


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_pictures_from_a_camera_are_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    Image.fromarray(plain_frame(0)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png"), np.rot90(plain_frame(0), -1))


def test_an_animated_picture_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(plain_frame(k)) for k in range(2)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="animated"):
        probe(tmp_path / "a.webp")
