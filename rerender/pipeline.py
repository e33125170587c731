"""A run: plan it, then one stage or all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from rerender.errors import UserError
from rerender.events import Emit, Event
from rerender.external import find_keys, plan_around, take_over
from rerender.host import Host
from rerender.motion.flow import flow_estimator
from rerender.planning import Plan, plan_run
from rerender.project import Project
from rerender.recipes import in_short
from rerender.settings import Settings, draw_seed, flow_of_propagation, schema
from rerender.stages.context import RunContext
from rerender.video.folder import list_pictures, missing_numbers
from rerender.video.probe import probe
from rerender.video.read import source_hash

RunStage = Literal["first", "keys", "propagate", "all"]
RUN_STAGES: tuple[RunStage, ...] = ("first", "keys", "propagate", "all")


def prepare(
    project: Project,
    video: Path,
    settings: Settings,
    *,
    host: Host | None,
    model: dict[str, str] | None = None,
    emit: Emit = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunContext:
    """Examine the video, decide what the run will do, and note it in the project.

    Args:
        project: the open project.
        video: file, or folder of frames.
        settings: complete settings of the run.
        host: what renders key frames; None where only propagation is wanted.
        model: paths of the model, noted so that the run can be taken up without naming them again.
        emit: told about everything that happens.
        cancelled: asked between steps.

    Raises:
        UserError: the video or a setting does not fit; nothing was changed.
        Interrupted: the run was cancelled.
    """
    settings = draw_seed(settings)
    sha256 = _check_source(project, video)
    info = probe(video, until=settings.end_frame or None)
    plan, analysis = plan_run(
        info, sha256, settings, analysis=project.analysis, cancelled=cancelled, note=_noting(emit)
    )
    run = RunContext(project, plan, settings, host, emit, cancelled)
    if host is not None:
        run.key_fingerprints()  # refuses prompts that cannot be read, and LoRA files that are missing
    return _begin(run, analysis, model)


def prepare_around(
    project: Project,
    video: Path,
    keys: Path,
    settings: Settings,
    *,
    emit: Emit = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunContext:
    """Like `prepare`, for key frames that were styled by another tool and lie in the folder `keys`.

    Raises:
        UserError: the key frames do not fit the video; nothing was changed.
        Interrupted: the run was cancelled.
    """
    found = find_keys(keys, list_pictures(video) if video.is_dir() else ())
    sha256 = _check_source(project, video)
    info = probe(video, until=settings.end_frame or None)
    plan, analysis = plan_around(
        found, info, sha256, settings, analysis=project.analysis, cancelled=cancelled, note=_noting(emit)
    )
    run = _begin(RunContext(project, plan, settings, None, emit, cancelled), analysis, None)
    if found.by_name:
        run.note("The key frames belong to the source's pictures of the same names")
    with run.masking() as masking:
        take_over(found, project, plan.mask.fingerprint if plan.mask is not None else "", masking.apply)
    return run


def _check_source(project: Project, video: Path) -> str:
    sha256 = source_hash(video)
    project.check_source(sha256)
    return sha256


def _begin(run: RunContext, analysis: dict[str, object], model: dict[str, str] | None) -> RunContext:
    """Note the run in the project, which remembers its settings: what they cannot be is refused before."""
    for flow in (run.settings.flow, flow_of_propagation(run.settings)):
        flow_estimator(flow)
    if missing := missing_numbers(run.plan.info.pictures):
        run.note(f"The source's pictures lack the numbers {missing}; frames are counted in order, from 0")
    _say_what_changed(run, run.project.stored_settings)
    run.project.begin(run.plan.describe(), run.settings, model)
    if analysis:
        run.project.set_analysis(analysis)
    run.emit(Event("plan", _facts(run.plan)))
    return run


def _say_what_changed(run: RunContext, before: Mapping[str, Any]) -> None:
    now = run.settings.dict()
    infos = schema()
    changed = [
        name for name in infos if name in before and before[name] != now[name] and infos[name].stage != "runtime"
    ]
    if changed:
        told = [f"{name} {in_short(before[name])} → {in_short(now[name])}" for name in changed[:6]]
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        run.note(f"Changed since the last run: {', '.join(told)}{more}")


def _noting(emit: Emit) -> Callable[[str], None]:
    return lambda text: emit(Event("note", {"text": text}))


def run_stage(run: RunContext, stage: RunStage, output: Path, *, overwrite: bool = True) -> None:
    """Run one stage, or all of them; each takes up where it stopped.

    Args:
        stage: "first": the first key frame. "keys": all key frames. "propagate": the frames between them and the
            finished file. "all": everything.
        output: where the finished file goes.
        overwrite: replace what is there even if the project did not write it.

    Raises:
        UserError: something the user can mend; nothing finished is lost.
        Interrupted: the run was cancelled; everything finished is kept.
    """
    # Imported here: a run that only propagates loads no diffusion code.
    if stage in ("first", "keys", "all"):
        from rerender.stages.keys import render_keys

        shots = [run.plan.shots[0][:1]] if stage == "first" else list(run.plan.shots)
        render_keys(run, "first" if stage == "first" else "keys", shots)
        if stage != "all":
            paths = [str(run.project.key_path(key)) for shot in shots for key in shot]
            run.emit(Event("key_frames", {"paths": paths}))
    if stage in ("propagate", "all"):
        from rerender.stages.output import write_output
        from rerender.stages.propagation import propagate

        propagate(run)
        write_output(run, output, overwrite=overwrite)


def redo(run: RunContext, *frames: int) -> None:
    """Have key frames rendered anew, with another seed, by the next run of the stage keys.

    Raises:
        UserError: a frame is no key frame of the plan; then none is redone.
    """
    for frame in frames:
        if frame not in run.plan.keys:
            listed = ", ".join(map(str, run.plan.keys[:12])) + (" …" if len(run.plan.keys) > 12 else "")
            raise UserError(f"Frame {frame} is not a key frame of this run.", hint=f"The key frames are {listed}.")
    for frame in frames:
        run.project.ask_redo(frame)


def _facts(plan: Plan) -> dict[str, object]:
    return {
        "frames": len(plan.frames),
        "key_frames": len(plan.keys),
        "shots": len(plan.shots),
        "width": plan.geometry.width,
        "height": plan.geometry.height,
    }
