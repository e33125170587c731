"""The stage that writes the finished file."""

from __future__ import annotations

from pathlib import Path

from rerender.events import Event, Meter
from rerender.files import file_digest
from rerender.fingerprints import output_fingerprint
from rerender.stages.context import RunContext
from rerender.video.audio import audio_range
from rerender.video.write import open_writer


def write_output(run: RunContext, output: Path, *, overwrite: bool) -> None:
    """Put the finished frames together with the source's timestamps and audio.

    Args:
        overwrite: replace what is there even if the project did not write it.

    Raises:
        UserError: the file cannot be written; the frames stay in the project.
        Interrupted: the run was cancelled; an earlier output stays as it was.
    """
    fingerprint = _fingerprint(run)
    written = run.project.output_fingerprint(output)
    if written == fingerprint and output.exists():
        run.finish("output", kept=True)
    else:
        run.begin("output")
        _write(run, output, overwrite=overwrite or written is not None)
        run.project.set_output(output, fingerprint)
        run.finish("output")
    run.emit(Event("output", {"path": str(output)}))


def _fingerprint(run: RunContext) -> str:
    parts = [run.interval_fingerprint(interval) for interval in run.plan.intervals]
    parts += [file_digest(run.project.key_path(frame)) for frame in run.plan.keys]
    return output_fingerprint(run.plan, run.settings, parts)


def _write(run: RunContext, output: Path, *, overwrite: bool) -> None:
    selection, geometry = run.plan.selection, run.plan.geometry
    meter = Meter(run.emit, "output", len(selection), "frames")
    with open_writer(
        output,
        width=geometry.width,
        height=geometry.height,
        times=selection.times,
        end=selection.length,
        audio=audio_range(run.plan.info, selection) if run.settings.audio else None,
        quality=run.settings.quality,
        source=run.plan.info.path,
        overwrite=overwrite,
    ) as writer:
        for time, duration, picture in zip(selection.times, selection.durations, run.results(), strict=True):
            run.check_cancelled()
            writer.write(picture, time, duration)
            meter.advance()
