from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rerender.errors import UserError
from rerender.video.probe import probe
from tests.video.clips import plain_frame, real_clip, tone, turn, write_clip, write_sound

UNEVEN = [Fraction(ms, 1000) for ms in (0, 40, 90, 91, 200, 500, 533, 600)]


def even(count: int, rate: int = 25) -> list[Fraction]:
    return [Fraction(k, rate) for k in range(count)]


def test_a_real_clip() -> None:
    info = probe(real_clip())
    assert (info.width, info.height, info.frames, info.codec) == (1280, 720, 132, "h264")
    assert info.timestamps == tuple(even(132))
    assert (info.rate, info.duration, info.is_variable) == (25, Fraction(132, 25), False)
    assert [(audio.codec, audio.sample_rate, audio.layout) for audio in info.audio] == [("aac", 48000, "5.1")]
    assert info.summary()["frames"] == 132


@pytest.mark.parametrize(("name", "b_frames"), [("clip.mp4", "0"), ("clip.mp4", "2"), ("clip.mkv", "2")])
def test_uneven_times_are_exact(tmp_path: Path, name: str, b_frames: str) -> None:
    info = probe(write_clip(tmp_path / name, UNEVEN, last=Fraction(1, 10), options={"bf": b_frames}))
    assert info.timestamps == tuple(UNEVEN)
    assert info.is_variable
    # An mp4 with B-frames and uneven times does not hold its length exactly.
    assert abs(info.duration - Fraction(7, 10)) <= (Fraction(1, 100) if "mp4" in name and b_frames != "0" else 0)
    assert info.rate == 8 / info.duration


def test_times_rounded_by_the_container_do_not_look_variable(tmp_path: Path) -> None:
    rounded = [Fraction(round(1000 * k / 30), 1000) for k in range(30)]
    assert not probe(write_clip(tmp_path / "clip.mkv", rounded, last=Fraction(33, 1000))).is_variable


@pytest.mark.parametrize(("degrees", "size"), [(0, (32, 24)), (90, (24, 32)), (180, (32, 24)), (270, (24, 32))])
def test_rotation(tmp_path: Path, degrees: int, size: tuple[int, int]) -> None:
    info = probe(turn(write_clip(tmp_path / "clip.mp4", even(3)), degrees))
    assert ((info.width, info.height), info.rotation) == (size, degrees)


def test_pixels_that_are_not_square_count_as_displayed() -> None:
    with av.open(str(real_clip("carphone_pristine.mp4"))) as container:
        stream = container.streams.video[0]
        shape = stream.width * stream.sample_aspect_ratio, stream.height
    info = probe(real_clip("carphone_pristine.mp4"))
    assert (info.width, info.height) == (round(shape[0]), shape[1])
    assert info.width != 176


def test_odd_sizes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", even(2), size=(33, 17), codec="ffv1", pix_fmt="yuv444p")
    assert (probe(clip).width, probe(clip).height) == (33, 17)


def test_one_frame_is_a_clip(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "clip.mp4", even(1), last=Fraction(1, 5)))
    assert (info.frames, info.duration) == (1, Fraction(1, 5))


def test_an_animated_gif(tmp_path: Path) -> None:
    frames = [Image.fromarray(plain_frame(k)) for k in range(4)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=[100, 300, 50, 200], loop=0)
    info = probe(tmp_path / "clip.gif")
    assert info.timestamps == (0, Fraction(1, 10), Fraction(4, 10), Fraction(9, 20))
    assert info.duration == Fraction(13, 20)


def test_times_that_go_back_are_repaired(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, even(8), options={"bf": "0", "g": "100"})
    swap_block_times(path, 80, 160)
    info = probe(path)
    assert info.frames == 8
    assert all(after > before for before, after in pairwise(info.timestamps))
    with av.open(str(path)) as container:
        stored = [frame.pts for frame in container.decode(video=0)]
    assert sorted(stored) != stored, "the clip is not broken: the test shows nothing"
    assert sum(new * 1000 == old for new, old in zip(info.timestamps, stored, strict=True)) >= 6


def swap_block_times(path: Path, first: int, second: int) -> None:
    """Swap the times (ms, within the cluster) of two SimpleBlocks of track 1 in a Matroska file."""
    data = bytearray(path.read_bytes())
    places = [data.index(b"\x81" + ms.to_bytes(2, "big") + b"\x00") + 1 for ms in (first, second)]
    for place, ms in zip(places, (second, first), strict=True):
        data[place : place + 2] = ms.to_bytes(2, "big")
    path.write_bytes(data)


def test_counting_can_stop_early(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", even(9))
    info = probe(clip, until=4)
    assert (info.frames, info.is_complete, info.duration) == (4, False, Fraction(4, 25))
    assert probe(clip, until=9).is_complete
    assert probe(clip, until=100).frames == 9


@pytest.mark.parametrize("name", ["it's “ein” Größenvergleich 映画 (1).mp4", "100%d %s.mp4", "data:x,y.mp4"])
def test_strange_file_names(tmp_path: Path, name: str) -> None:
    assert probe(write_clip(tmp_path / "clip.mp4", even(2)).rename(tmp_path / name)).frames == 2


def refusal(path: Path, **options: object) -> UserError:
    with pytest.raises(UserError) as caught:
        probe(path, **options)  # type: ignore[arg-type]
    assert str(path) in caught.value.message
    return caught.value


def test_no_such_file(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "none.mp4").message


@pytest.mark.parametrize("name", ["clip.mp4", "notes.txt", "list.m3u8"])
def test_not_a_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("#EXTM3U\n#EXTINF:1,\nother.mp4\n" * 20)
    assert "not a video" in refusal(tmp_path / name).message


def test_a_play_list_leads_nowhere(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.ts", even(30))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.2,", "clip.ts", "#EXT-X-ENDLIST"]
    (tmp_path / "list.m3u8").write_text("\n".join(lines))
    assert "not a video" in refusal(tmp_path / "list.m3u8").message


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    assert "empty" in refusal(tmp_path / "clip.mp4").message


def test_only_sound(tmp_path: Path) -> None:
    assert "only sound" in refusal(write_sound(tmp_path / "song.m4a")).message


def test_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_clip(path, even(1), codec="ffv1", pix_fmt="yuv444p", sound=tone(0.3), sound_codec="pcm_s16le")
    data = path.read_bytes()
    block = data.index(b"\x81\x00\x00\x80")
    # The only picture becomes a block of a track that does not exist.
    path.write_bytes(data[:block] + b"\x85" + data[block + 1 :])
    assert "no frames" in refusal(path).message


def test_an_index_that_is_missing(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", even(20))
    clip.write_bytes(clip.read_bytes()[:-400])
    assert "moov" in refusal(clip).message


@pytest.mark.parametrize(("ending", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {})])
def test_a_clip_that_breaks_off_is_used_up_to_there(tmp_path: Path, ending: str, options: dict[str, str]) -> None:
    clip = remux(real_clip(), tmp_path / f"clip.{ending}", options)
    assert probe(clip).frames == 132
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    error = refusal(clip)
    count = int(error.message.split("first ")[1].split()[0])
    assert 50 < count < 90
    assert f"end_frame to {count}" in error.hint
    usable = probe(clip, until=count)
    assert usable.timestamps == tuple(even(count))
    assert not usable.is_complete


def test_damage_inside_is_found(tmp_path: Path) -> None:
    data = bytearray(real_clip().read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    (tmp_path / "clip.mp4").write_bytes(data)
    error = refusal(tmp_path / "clip.mp4")
    count = int(error.message.split("first ")[1].split()[0])
    assert 30 < count < 100
    assert probe(tmp_path / "clip.mp4", until=count).frames == count


def remux(source: Path, target: Path, options: dict[str, str]) -> Path:
    """Put the pictures of a clip into another container as they are."""
    with av.open(str(source)) as reading, av.open(str(target), "w", options=options) as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(reading.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
    return target
