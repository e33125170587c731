import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from rerender.errors import RerenderError, UserError
from rerender.video.probe import VideoInfo, probe
from rerender.video.read import FrameSource
from rerender.video.timing import durations_of
from rerender.video.write import open_writer
from tests.video.clips import grey_of, plain_frame, write_clip

EVEN = [Fraction(k, 25) for k in range(9)]
UNEVEN = [Fraction(ms, 1000) for ms in (0, 40, 90, 150, 230, 500, 540, 600, 980)]
NTSC = [Fraction(1001 * k, 30000) for k in range(9)]
LAST = Fraction(11, 100)


def write(path: Path, times: Sequence[Fraction], size: tuple[int, int] = (32, 24), **options: object) -> VideoInfo:
    durations = durations_of(times, times[-1] + LAST)
    with open_writer(
        path,
        width=size[0],
        height=size[1],
        times=times,
        end=times[-1] + LAST,
        **options,  # type: ignore[arg-type]
    ) as writer:
        for index, (time, duration) in enumerate(zip(times, durations, strict=True)):
            writer.write(plain_frame(index, *size), time, duration)
    return probe(path.parent if "%" in path.name else path)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if "partial" in path.name)


@pytest.mark.parametrize("times", [EVEN, UNEVEN, NTSC], ids=["even", "uneven", "ntsc"])
@pytest.mark.parametrize(("ending", "tick"), [("mp4", 0), ("webm", Fraction(1, 1000)), ("gif", Fraction(1, 100))])
def test_times_frames_and_the_last_duration_come_back(
    tmp_path: Path, ending: str, tick: Fraction, times: list[Fraction]
) -> None:
    info = write(tmp_path / f"clip.{ending}", times)
    assert info.frames == len(times)
    for written, wanted in zip(info.timestamps, times, strict=True):
        assert abs(written - wanted) <= tick / 2
    assert abs(info.end_time - (times[-1] + LAST)) <= tick
    with FrameSource(info) as source:
        for index, frame in source.read():
            assert abs(int(np.median(frame)) - grey_of(index)) <= 4
    assert leftovers(tmp_path) == []


def test_mp4_is_what_players_want(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", EVEN)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
    data = (tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif"])
def test_colours_survive(tmp_path: Path, ending: str) -> None:
    palette = np.random.default_rng(2).integers(30, 226, (3, 4, 3))
    frame = np.kron(palette, np.ones((16, 16, 1))).astype(np.uint8)
    path = tmp_path / f"clip.{ending}"
    with open_writer(path, width=64, height=48, times=[Fraction(0)], quality=4) as writer:
        writer.write(frame, Fraction(0), Fraction(1, 5))
    with FrameSource(probe(path)) as source:
        read = source.frame(0).astype(int)
    inner = [slice(16 * k + 5, 16 * k + 11) for k in range(4)]
    for row in inner[:3]:
        for column in inner:
            assert np.abs(read[row, column] - frame[row, column]).max() <= 6


@pytest.mark.parametrize(("ending", "size"), [("mp4", (34, 18)), ("webm", (34, 18)), ("gif", (33, 17))])
def test_odd_sizes_grow_by_repeating_the_edge(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    info = write(tmp_path / f"clip.{ending}", EVEN, size=(33, 17))
    assert (info.width, info.height) == size
    with FrameSource(info) as source:
        assert abs(int(source.frame(2)[-1, -1].mean()) - grey_of(2)) <= 4


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    write(first, EVEN)
    write(second, EVEN)
    assert first.read_bytes() == second.read_bytes()


def test_a_gif_with_more_than_50_frames_a_second_keeps_every_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = write(tmp_path / "clip.gif", [Fraction(k, 100) for k in range(6)])
    assert info.timestamps == tuple(Fraction(2 * k, 100) for k in range(6))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("name", ["frames", "new/deep/shot_%04d.png", "50% “ü” it's/%06d.png"])
def test_pictures(tmp_path: Path, name: str) -> None:
    info = write(tmp_path / name, EVEN)
    assert info.frames == 9
    first = "shot_0000.png" if "shot" in name else "000000.png"
    assert info.pictures[0].name == first
    with FrameSource(info) as source:
        for index, frame in source.read():
            assert np.array_equal(frame, plain_frame(index))
    assert leftovers(tmp_path) == []


def test_pictures_of_an_older_clip_are_kept_or_replaced_but_never_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    write(folder, EVEN)
    (folder / "notes.txt").write_text("mine")
    Image.fromarray(plain_frame(0)).save(folder / "cover.png")
    with pytest.raises(UserError, match=r"000000\.png"):
        write(folder, EVEN[:3])
    assert len(list(folder.glob("0*.png"))) == 9
    write(folder, EVEN[:3], overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "000000.png",
        "000001.png",
        "000002.png",
        "cover.png",
        "notes.txt",
    ]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "frames"])
def test_a_failure_leaves_nothing_behind_and_the_old_output_untouched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, EVEN[:2])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def fail() -> None:
        with open_writer(path, width=32, height=24, times=EVEN, overwrite=True) as writer:
            writer.write(plain_frame(5), Fraction(0), Fraction(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert leftovers(tmp_path) == []


def test_an_existing_output_is_replaced_only_if_allowed(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", EVEN[:2])
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "clip.mp4", EVEN)
    assert write(tmp_path / "clip.mp4", EVEN, overwrite=True).frames == 9


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "detour"])
def test_an_output_on_the_source_is_refused(tmp_path: Path, link: str) -> None:
    source = write_clip(tmp_path / "clip.mp4", EVEN)
    content = source.read_bytes()
    output = {"same": source, "detour": tmp_path / "x" / ".." / "clip.mp4"}.get(link, tmp_path / "other.mp4")
    (tmp_path / "x").mkdir()
    if link == "symlink":
        output.symlink_to(source)
    elif link == "hardlink":
        os.link(source, output)
    with pytest.raises(UserError, match="overwrite the source"):
        write(output, EVEN, source=source, overwrite=True)
    assert source.read_bytes() == content


@pytest.mark.parametrize("name", ["", "%06d.png"])
def test_pictures_into_the_folder_of_the_source_are_refused(tmp_path: Path, name: str) -> None:
    Image.fromarray(plain_frame(0)).save(tmp_path / "000000.png")
    with pytest.raises(UserError, match="overwrite the source"):
        write(tmp_path / name, EVEN, source=tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mov", "clip.MPEG"])
def test_unknown_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        write(tmp_path / name, EVEN)
    assert name in caught.value.message
    assert ".mp4" in caught.value.hint


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        write(tmp_path / "file" / "clip.mp4", EVEN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="can't be written"):
        write(tmp_path / "clip.mp4", EVEN)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif"])
def test_a_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target = tmp_path / name
    temporary = tmp_path / f"full{target.suffix}"
    temporary.symlink_to("/dev/full")
    for module in ("encode", "gif"):
        monkeypatch.setattr(f"rerender.video.{module}.temporary_beside", lambda path: temporary)
    noise = np.random.default_rng(0)
    times = [Fraction(k, 25) for k in range(30)]

    def fill() -> None:
        with open_writer(target, width=64, height=64, times=times) as writer:
            for time in times:
                writer.write(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8), time, Fraction(1, 25))

    with pytest.raises(UserError) as caught:
        fill()
    assert "No space is left" in caught.value.message
    assert "MB are free" in caught.value.message
    assert "kept" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert Path("/dev/full").exists()


def test_a_full_device_while_pictures_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match="No space is left"):
        write(tmp_path / "frames", EVEN)
    assert list((tmp_path / "frames").iterdir()) == []


def test_misuse_is_refused(tmp_path: Path) -> None:
    with open_writer(tmp_path / "clip.mp4", width=32, height=24, times=EVEN) as writer:
        writer.write(plain_frame(0), Fraction(0), Fraction(1))
        with pytest.raises(ValueError, match="expected uint8"):
            writer.write(plain_frame(0, 16, 16), Fraction(1), Fraction(1))
        with pytest.raises(ValueError, match="does not follow"):
            writer.write(plain_frame(0), Fraction(0), Fraction(1))
        with pytest.raises(ValueError, match="does not follow"):
            writer.write(plain_frame(0), Fraction(1), Fraction(0))
    assert probe(tmp_path / "clip.mp4").frames == 1
    with pytest.raises(RerenderError, match="No frame"), open_writer(tmp_path / "b.mp4", width=8, height=8, times=EVEN):
        pass
    assert not (tmp_path / "b.mp4").exists()


def test_small_frames_give_the_same_bytes_however_often(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    frames = [cv2.resize(noise.integers(0, 256, (4, 6, 3), dtype=np.uint8), (96, 64)) for _ in range(8)]
    times = [Fraction(k, 10) for k in range(8)]
    files = set()
    for _ in range(40):
        with open_writer(tmp_path / "a.mp4", width=96, height=64, times=times, overwrite=True) as writer:
            for frame, time in zip(frames, times, strict=True):
                writer.write(frame, time, Fraction(1, 10))
        files.add((tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "frames"])
def test_two_writers_of_one_output_do_not_meet(tmp_path: Path, name: str) -> None:
    """Both at once: the one that ends last is what is there, whole, with all of its frames and none of the other's."""
    writers = [open_writer(tmp_path / name, width=32, height=16, times=EVEN) for _ in range(2)]
    for index, time in enumerate(EVEN):
        for number, writer in enumerate(writers):
            writer.write(plain_frame(index + number, 32, 16), time, LAST)
    for writer in writers:
        writer.__exit__(None, None, None)
    info = probe(tmp_path / name)
    assert info.frames == len(EVEN)
    with FrameSource(info) as source:
        for index, frame in source.read():
            assert abs(int(np.median(frame)) - grey_of(index + 1)) <= 4
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "frames"])
def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, name: str) -> None:
    script = (
        "import os, sys\n"
        "from fractions import Fraction\n"
        "import numpy as np\n"
        "from rerender.video.write import open_writer\n"
        "times = [Fraction(k, 25) for k in range(80)]\n"  # more than the encoder holds back
        "writer = open_writer(sys.argv[1], width=32, height=16, times=times)\n"
        "for time in times:\n"
        "    writer.write(np.zeros((16, 32, 3), np.uint8), time, Fraction(1, 25))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False, cwd=root)
    assert len([path for path in leftovers(tmp_path) if path.startswith(".")]) == 1
    write(tmp_path / name, EVEN)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", [".clip.partial.mp4", ".clip.00000000-1-00000000.partial.mp4"])
def test_what_another_machine_may_be_writing_stays_for_a_day(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / name
    foreign.touch()
    write(tmp_path / "clip.mp4", EVEN)
    assert foreign.exists()
    os.utime(foreign, (0, 0))
    write(tmp_path / "clip.mp4", EVEN, overwrite=True)
    assert not foreign.exists()
