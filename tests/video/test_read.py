import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rerender.errors import UserError
from rerender.video.geometry import plan_geometry
from rerender.video.probe import probe
from rerender.video.read import FrameSource, source_hash
from rerender.video.select import select_frames
from tests.video.clips import grey_of, plain_frame, real_clip, turn, write_clip

TIMES = [Fraction(k, 25) for k in range(40)]
SHORT_GROUPS = {"g": "8", "bf": "2", "x264-params": "scenecut=0", "crf": "5"}
OPEN_GROUPS = {**SHORT_GROUPS, "x264-params": "open-gop=1:scenecut=0"}


def hashes(source: FrameSource, positions: list[int] | None = None) -> dict[int, str]:
    return {k: hashlib.sha256(frame.tobytes()).hexdigest() for k, frame in source.read(positions)}


@pytest.fixture(scope="module", params=["closed.mp4", "open.mp4", "closed.mkv", "open.ts", "vp9.webm"])
def grouped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / request.param
    if request.param == "vp9.webm":
        return write_clip(path, TIMES, codec="libvpx-vp9", options={"g": "8", "crf": "10", "b": "0"})
    return write_clip(path, TIMES, options=OPEN_GROUPS if "open" in request.param else SHORT_GROUPS)


def test_frames_are_the_right_ones_and_the_same_by_seek(grouped: Path) -> None:
    info = probe(grouped)
    assert (info.frames, len(info.key_frames) > 3) == (40, True)
    with FrameSource(info) as source:
        for index, frame in source.read():
            assert abs(int(frame[-4:, -4:].mean()) - grey_of(index)) <= 3
        whole = hashes(source)
        for position in (39, 25, 26, 3, 3, 38, 0, 17):
            assert hashes(source, [position])[position] == whole[position]
        assert hashes(source, [1, 2, 30, 39]) == {k: whole[k] for k in (1, 2, 30, 39)}


def test_a_far_frame_is_reached_without_decoding_what_is_before(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    info = probe(real_clip("bikes.mp4"))
    with FrameSource(info) as source:
        source.frame(0)
        number = source._decoder._number  # type: ignore[union-attr]
        monkeypatch.setattr(source._decoder, "_number", lambda frame: decoded.append(number(frame)) or decoded[-1])
        source.frame(245)
    assert decoded[0] in info.key_frames
    assert decoded[-1] == 245
    assert len(decoded) < 80


def test_selection_and_geometry(grouped: Path) -> None:
    info = probe(grouped)
    selection = select_frames(info.timestamps, start=4, end=30, frame_rate=5, end_time=info.end_time)
    plan = plan_geometry(info.width, info.height, short_side=16)
    with FrameSource(info, selection, plan) as source, FrameSource(info) as all_frames:
        assert len(source) == len(selection) < 10
        for position, frame in source.read():
            whole = all_frames.frame(selection.indices[position])
            assert np.array_equal(frame, plan.apply(whole))


@pytest.mark.parametrize(
    ("degrees", "turned"),
    [(90, lambda f: np.rot90(f, -1)), (180, lambda f: np.rot90(f, 2)), (270, lambda f: np.rot90(f, 1))],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_frames_are_upright(
    tmp_path: Path, degrees: int, turned: Callable[[np.ndarray], np.ndarray], mirror: bool
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", TIMES[:2], options={"crf": "5"})
    with FrameSource(probe(clip)) as source:
        stored = source.frame(1)
    with FrameSource(probe(turn(clip, degrees, mirror))) as source:
        assert np.array_equal(source.frame(1), turned(stored[:, ::-1] if mirror else stored))


def rgb_to_yuv(rgb: np.ndarray, red: float, blue: float, is_full: bool) -> np.ndarray:
    """Y'CbCr of float RGB in [0, 255] after the definition (ITU-R BT.601, BT.709, BT.2020), 8 bits."""
    r, g, b = (rgb[..., k] / 255 for k in range(3))
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    if is_full:
        return np.stack([255 * y, 128 + 255 * cb, 128 + 255 * cr])
    return np.stack([16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr])


MATRICES = {"bt709": (1, 0.2126, 0.0722), "bt601": (5, 0.299, 0.114), "bt2020": (9, 0.2627, 0.0593)}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("is_full", [False, True])
def test_colours_follow_the_matrix_and_range_in_the_file(tmp_path: Path, matrix: str, is_full: bool) -> None:
    tag, red, blue = MATRICES[matrix]
    palette = np.random.default_rng(1).integers(0, 256, (4, 6, 3))
    rgb = np.kron(palette, np.ones((8, 8, 1))).astype(np.uint8)
    yuv = np.clip(np.round(rgb_to_yuv(rgb, red, blue, is_full)), 0, 255).astype(np.uint8)
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 2 if is_full else 1
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv444p")
        frame.colorspace, frame.color_range = tag, 2 if is_full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with FrameSource(probe(tmp_path / "clip.mkv")) as source:
        assert np.abs(source.frame(0).astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(("size", "red", "blue"), [((64, 48), 0.299, 0.114), ((64, 720), 0.2126, 0.0722)])
def test_unmarked_colours_follow_the_size(tmp_path: Path, size: tuple[int, int], red: float, blue: float) -> None:
    rgb = np.full((size[1], size[0], 3), (200, 40, 90), dtype=np.uint8)
    yuv = np.round(rgb_to_yuv(rgb, red, blue, False)).astype(np.uint8)
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, format="yuv444p")))
        container.mux(stream.encode(None))
    with FrameSource(probe(tmp_path / "clip.mkv")) as source:
        assert np.abs(source.frame(0).astype(int) - rgb).max() <= 2


def test_a_transparent_gif_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((16, 16, 4), dtype=np.uint8)
    rgba[:8] = (200, 0, 0, 255)
    frames = [Image.fromarray(rgba), Image.fromarray(rgba[::-1].copy())]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    with FrameSource(probe(tmp_path / "a.gif")) as source:
        assert source.frame(0)[2, 2].tolist() == [200, 0, 0]
        assert source.frame(0)[12, 2].tolist() == [255, 255, 255]
        assert source.frame(1)[2, 2].tolist() == [255, 255, 255]


def test_odd_sizes_are_read_whole(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", TIMES[:2], size=(33, 17), codec="ffv1", pix_fmt="yuv444p")
    with FrameSource(probe(clip)) as source:
        assert np.abs(source.frame(1).astype(int) - plain_frame(1, 33, 17)).max() <= 3


def test_reading_wants_ascending_positions_inside(grouped: Path) -> None:
    with FrameSource(probe(grouped)) as source:
        with pytest.raises(ValueError, match="ascending"):
            list(source.read([3, 3]))
        with pytest.raises(IndexError):
            list(source.read([40]))


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", TIMES[:9])
    info = probe(path)
    write_clip(path, TIMES[:3])
    with FrameSource(info) as source, pytest.raises(UserError, match="has changed"):
        source.frame(8)


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a b.mp4", TIMES[:2])
    assert source_hash(clip) == hashlib.sha256(clip.read_bytes()).hexdigest()
    other = tmp_path / "ü.mp4"
    other.write_bytes(clip.read_bytes())
    assert source_hash(other) == source_hash(clip)


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    def fill(name: str, files: dict[str, int]) -> str:
        (tmp_path / name).mkdir()
        for file, index in files.items():
            Image.fromarray(plain_frame(index)).save(tmp_path / name / file)
        return source_hash(tmp_path / name)

    first = fill("a", {"1.png": 0, "2.png": 1})
    assert fill("b", {"2.png": 1, "1.png": 0}) == first
    assert fill("c", {"1.png": 1, "2.png": 0}) != first
    assert fill("d", {"1.png": 0, "3.png": 1}) != first


def test_the_hash_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mp4"):
        source_hash(tmp_path / "none.mp4")
