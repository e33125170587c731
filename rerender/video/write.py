"""Video out: mp4, webm, gif or a PNG sequence by the ending of the path, with exact times and the source's sound."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rerender.errors import UserError
from rerender.video.audio import AudioRange
from rerender.video.encode import FileWriter
from rerender.video.gif import GifWriter
from rerender.video.output import Writer, disk_errors, no_space
from rerender.video.pictures import PATTERN, PictureWriter, pictures_at

ENDINGS = (".mp4", ".webm", ".gif")


def open_writer(
    path: Path | str,
    *,
    width: int,
    height: int,
    times: Sequence[Fraction],
    end: Fraction | None = None,
    audio: AudioRange | None = None,
    quality: int = 16,
    source: Path | None = None,
    overwrite: bool = False,
) -> Writer:
    """Open an output; the file ending chooses the format.

    `.mp4` is H.264 yuv420p with the index in front, `.webm` VP9 (times are rounded to ms there), `.gif` has a palette
    of its own for each frame (times are rounded to 1/100 s, at least 2/100 s apart). A path ending in `%06d.png`, or
    one without an ending, or an existing folder, gives numbered PNG pictures. H.264 and VP9 need even sides: an odd
    side grows by one pixel, which repeats the edge.

    Args:
        path: the target; folders on the way to it are made.
        width: of the frames, pixels.
        height: of the frames, pixels.
        times: the times that will be written, seconds; they decide the clock of the file.
        end: when the last frame will end, seconds; without it that moment is rounded to the clock.
        audio: what sound to carry over; left out for gif and pictures, which have none.
        quality: constant rate factor, 0 to 51, lower is better (VP9: scaled to its 0 to 63).
        source: the clip that is read; an output on top of it is refused.
        overwrite: replace an existing output.

    Raises:
        UserError: unknown ending, the output exists or is the source, or its folder can't be written.
    """
    path = Path(path)
    check_output(path, source=source, overwrite=overwrite)
    size = (width, height)
    if _is_pictures(path):
        return PictureWriter(path, size)
    with disk_errors(path):
        if path.suffix.lower() == ".gif":
            return GifWriter(path, size)
        return FileWriter(path, size, [*times, end] if end else times, audio, quality)


def check_output(path: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Refuse an output that cannot be written, before any work is done for it.

    Args:
        path: the target; folders on the way to it are made.
        source: the clip that is read.
        overwrite: an existing output may be replaced.

    Raises:
        UserError: unknown ending, the output exists or is the source, or its folder can't be written.
    """
    is_pictures = _is_pictures(path)
    if not is_pictures and path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"The output {path} has the ending {path.suffix}, which is not known.",
            hint=f"Use {', '.join(ENDINGS)}, or a folder or a name like frames/%06d.png for pictures.",
        )
    target = path.parent if PATTERN.search(path.name) else path
    if source is not None:
        refuse_source(target, source)
    _prepare_folder(target if is_pictures else path.parent, path)
    if overwrite:
        return
    if is_pictures and (old := pictures_at(path)):
        raise UserError(
            f"The output folder {target} has pictures like {old[0].name} already.",
            hint="Choose another folder, or allow them to be replaced (--overwrite).",
        )
    if not is_pictures and path.exists():
        raise UserError(
            f"The output {path} exists already.", hint="Choose another name, or allow it to be replaced (--overwrite)."
        )


def _is_pictures(path: Path) -> bool:
    """Whether the target is a folder of pictures and not one file."""
    return bool(PATTERN.search(path.name)) or path.is_dir() or not path.suffix


def refuse_source(target: Path, source: Path) -> None:
    """Refuse an output that is the source, be it a file or a folder of frames, also through a link.

    Raises:
        UserError: it would overwrite the source.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"The output {target} would overwrite the source {source}.", hint="Choose another output.")


def _prepare_folder(folder: Path, path: Path) -> None:
    """Make the folder and prove that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_space(path) from error
        raise UserError(
            f"The output {path} can't be written: {error.strerror} ({folder}).",
            hint="Choose a folder that you may write to.",
        ) from error
