"""The command line, `python -m rerender`.

Exit status: 0; 2 for a user's mistake; 1 for a failure; 130 for an interrupt.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rerender import __version__
from rerender.cli_settings import collect_settings, say_what_is_idle
from rerender.cli_versions import list_versions, wanted_versions
from rerender.console import JsonReporter, LogHandler, Reporter, TerminalReporter
from rerender.errors import Interrupted, RerenderError, UserError
from rerender.files import storage_error, typed_path
from rerender.pipeline import RUN_STAGES, prepare, prepare_around, redo, run_stage
from rerender.presets import BUILT_IN
from rerender.project import Project
from rerender.settings import Settings, json_schema, nearest_name, schema, settings_table
from rerender.stages.context import RunContext
from rerender.video.pictures import PATTERN
from rerender.video.probe import probe
from rerender.video.write import ENDINGS, check_output


class _Parser(argparse.ArgumentParser):
    """Reports usage errors as the other mistakes of a user are reported."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}.", hint=f"`{self.prog} --help` shows the usage.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(prog="python -m rerender", description="Restyle a video by prompt, consistent over time.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(commands)
    _add_propagate(commands)
    info = commands.add_parser("info", help="show the facts of a video")
    info.add_argument("video", type=typed_path, metavar="VIDEO")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(function=_info)
    _add_evaluate(commands)
    _add_inspect(commands)
    _add_ui(commands)
    settings = commands.add_parser("settings", help="list all settings, as a table and as JSON Schema")
    settings.add_argument("names", nargs="*", metavar="WORD", help="only settings whose names hold one of these words")
    settings.add_argument(
        "--format", choices=("both", "table", "json"), help="what to print (default: both; with words, table)"
    )
    settings.set_defaults(function=_settings)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="render key frames and propagate them")
    run.add_argument(
        "video", type=typed_path, metavar="VIDEO", help="a video file, an animated GIF, or a folder of frames"
    )
    run.add_argument("--prompt", help="what the result should look like")
    run.add_argument("--negative", help="what to keep out of the picture")
    _add_model(run)
    presets = "; ".join(preset.name for preset in BUILT_IN)
    run.add_argument(
        "--preset", metavar="NAME", help=f"settings to start from; the beginning of a name is enough: {presets}"
    )
    run.add_argument("--stage", choices=RUN_STAGES, default="all", help="run one stage only (default: all)")
    run.add_argument(
        "--redo",
        type=int,
        action="append",
        default=[],
        metavar="FRAME",
        help="render this key frame anew, with another seed; may be given several times",
    )
    run.add_argument(
        "--versions", type=int, metavar="FRAME", help="list the earlier versions of this key frame, and do nothing else"
    )
    run.add_argument(
        "--bring-back",
        action="append",
        default=[],
        metavar="VERSION",
        help="use this earlier version of a key frame, named as --versions lists it; may be given several times",
    )
    _add_common(run)
    run.set_defaults(function=_run)


def _add_propagate(commands: Any) -> None:
    propagate = commands.add_parser("propagate", help="propagate key frames styled elsewhere")
    propagate.add_argument("video", type=typed_path, metavar="VIDEO")
    propagate.add_argument(
        "--keys", type=typed_path, required=True, metavar="DIR", help="pictures named by frame number, counted from 0"
    )
    flows = [name for name in schema()["propagation_flow"].choices if name != "same"]
    propagate.add_argument("--flow", choices=flows, help="optical flow estimator (the setting propagation_flow)")
    _add_common(propagate)
    propagate.set_defaults(function=_propagate)


def _add_evaluate(commands: Any) -> None:
    from rerender.evaluate import cli

    evaluate = commands.add_parser("evaluate", help="measure how consistent a result is")
    cli.add_arguments(evaluate)
    evaluate.set_defaults(function=lambda options, reporter, cancelled: cli.run(options))


def _add_inspect(commands: Any) -> None:
    from rerender.inspection import cli

    inspect = commands.add_parser("inspect", help="show what a key frame was made from: flow, masks, fusion target")
    cli.add_arguments(inspect)
    inspect.set_defaults(function=lambda options, reporter, cancelled: cli.run(options, cancelled))


def _add_ui(commands: Any) -> None:
    ui = commands.add_parser("ui", help="serve the panel as a page of its own, on this machine only")
    _add_model(ui, required=True)
    ui.add_argument("--folder", type=typed_path, default=Path("rerender-jobs"), metavar="DIR", help="jobs and uploads")
    ui.add_argument("--port", type=int, default=7861)
    ui.set_defaults(function=_ui)


def _add_model(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    checkpoint = "Stable Diffusion checkpoint (A1111 layout)"
    parser.add_argument("--checkpoint", type=typed_path, required=required, metavar="CKPT", help=checkpoint)
    parser.add_argument("--vae", type=typed_path, metavar="FILE", help="VAE file to use instead of the checkpoint's")
    lora_dir = "folder of the files that <lora:name:weight> names"
    parser.add_argument("--lora-dir", type=typed_path, metavar="DIR", help=lora_dir)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=typed_path, metavar="OUT", help="finished file: .mp4, .webm, .gif, or a folder"
    )
    parser.add_argument("--project", type=typed_path, metavar="DIR", help="project folder (default: beside the output)")
    parser.add_argument(
        "--settings",
        type=typed_path,
        metavar="FILE.json",
        help="a file of settings, or the project.json of another run",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one setting; `settings` lists them all"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output that is not this project's own")
    parser.add_argument("--json", action="store_true", help="report as JSON lines on standard output")
    parser.add_argument("--quiet", action="store_true", help="report nothing but errors and the paths of results")
    parser.add_argument("--verbose", action="store_true", help="show the log")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    reporter: Reporter = JsonReporter() if "--json" in words else TerminalReporter(quiet="--quiet" in words)
    try:
        options = _parse(words)
        if getattr(options, "json", False) not in (True, "-"):  # `evaluate --json FILE` leaves the terminal to words
            reporter = TerminalReporter(quiet=getattr(options, "quiet", False))
        _show_log(verbose=getattr(options, "verbose", False), quiet=getattr(options, "quiet", False))
        with _stop_on_signal() as cancelled:
            options.function(options, reporter, cancelled)
        return 0
    except RerenderError as error:
        reporter.fail(error)
        return error.exit_status
    except KeyboardInterrupt:
        reporter.fail(Interrupted())
        return Interrupted.exit_status
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain at its end
        return 1
    except OSError as error:
        failure = storage_error(error, Path(str(error.filename or ".")))
        reporter.fail(failure)
        return failure.exit_status
    finally:
        reporter.close()


def _show_log(*, verbose: bool, quiet: bool) -> None:
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, handlers=[LogHandler(verbose=verbose)])


def _parse(words: Sequence[str]) -> argparse.Namespace:
    try:
        return build_parser().parse_args(words)
    except UserError as error:
        dashed = next((word for word in words if word.startswith("-") and Path(word).exists()), None)
        if dashed is None:
            raise
        raise UserError(
            error.message, hint=f"Write the file {dashed} as ./{dashed}: a dash begins an option."
        ) from error


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop after the present step; a second one stops at once."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return
    previous = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace, reporter: Reporter, cancelled: Callable[[], bool]) -> None:
    probe_path(options.video)
    output, folder = _places(options)
    if options.versions is not None:
        list_versions(options, folder)
        return
    with Project(folder) as project:
        wanted = wanted_versions(options, project)
        texts = {"prompt": options.prompt, "negative_prompt": options.negative}
        settings = collect_settings(options, project, {k: v for k, v in texts.items() if v is not None})
        is_own = project.output_fingerprint(output) is not None
        check_output(output, source=options.video, overwrite=options.overwrite or is_own)
        model = _model_paths(options, project)
        host = _open_host(model, settings) if model.get("checkpoint") else None
        say_what_is_idle(options, settings, reporter)
        run = prepare(project, options.video, settings, host=host, model=model, emit=reporter.emit, cancelled=cancelled)
        _redo(run, options)
        for version in wanted:
            project.bring_back(version.frame, version.name)
            run.note(f"Key frame {version.frame} is {version.name} again; what was there goes to history/")
        run_stage(run, options.stage, output, overwrite=options.overwrite)


def _redo(run: RunContext, options: argparse.Namespace) -> None:
    """Ask for new renderings, where the stage makes any.

    Raises:
        UserError: the stage does not render a frame that is to be redone.
    """
    first = run.plan.keys[0]
    for frame in options.redo:
        if options.stage == "propagate" or (options.stage == "first" and frame != first):
            raise UserError(
                f"--redo {frame} renders a key frame, which --stage {options.stage} does not.",
                hint="Use --stage keys, or leave out --stage.",
            )
    redo(run, *options.redo)


def _propagate(options: argparse.Namespace, reporter: Reporter, cancelled: Callable[[], bool]) -> None:
    probe_path(options.video)
    output, folder = _places(options)
    with Project(folder) as project:
        settings = collect_settings(options, project, {"propagation_flow": options.flow} if options.flow else {})
        is_own = project.output_fingerprint(output) is not None
        check_output(output, source=options.video, overwrite=options.overwrite or is_own)
        say_what_is_idle(options, settings, reporter)
        run = prepare_around(project, options.video, options.keys, settings, emit=reporter.emit, cancelled=cancelled)
        run_stage(run, "propagate", output, overwrite=options.overwrite)


def _ui(options: argparse.Namespace, reporter: Reporter, cancelled: Callable[[], bool]) -> None:
    from rerender.ui.serve import serve

    def announce(address: str) -> None:
        _print(f"The panel is served on {address} (Ctrl-C ends it).")

    paths = {"vae": options.vae, "lora_dir": options.lora_dir}
    serve(options.checkpoint, options.folder, port=options.port, announce=announce, **paths)


def _info(options: argparse.Namespace, reporter: Reporter, cancelled: Callable[[], bool]) -> None:
    facts = probe(options.video).summary()
    if options.json:
        _print(json.dumps(facts, ensure_ascii=False))
    else:
        for name, value in facts.items():
            _print(f"{name.replace('_', ' '):20} {', '.join(value) if isinstance(value, list) else value}")


def _settings(options: argparse.Namespace, reporter: Reporter, cancelled: Callable[[], bool]) -> None:
    names = _matching(options.names) if options.names else list(schema())
    wanted = options.format or ("table" if options.names else "both")
    if wanted in ("both", "table"):
        _print(settings_table(names))
    if wanted == "both":
        _print("")
    if wanted in ("both", "json"):
        document = json_schema()
        document["properties"] = {name: document["properties"][name] for name in names}
        _print(json.dumps(document, indent=1, ensure_ascii=False))


def _matching(words: Sequence[str]) -> list[str]:
    """Names of settings that hold one of the words.

    Raises:
        UserError: a word is in no name.
    """
    for word in words:
        if not any(word.lower() in name for name in schema()):
            hint = nearest_name(word, schema()) or "Without words, all settings are listed."
            raise UserError(f"No setting has {word!r} in its name.", hint=hint)
    return [name for name in schema() if any(word.lower() in name for word in words)]


def _print(text: str) -> None:
    print(text)  # noqa: T201


def probe_path(video: Path) -> None:
    """Refuse a missing video before a project folder is made for it.

    Raises:
        UserError: there is no such file or folder.
    """
    if not video.exists():
        raise UserError(f"The video {video} does not exist.", hint="Check the path.")


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Output and project folder: as asked, or beside each other and named after the video."""
    name = options.video.stem if options.video.is_file() else options.video.resolve().name
    output = options.output
    if output is None:
        output = (options.project / f"{name}.mp4") if options.project else Path(f"{name}-rerendered.mp4")
    return output, options.project or _beside(output)


def _beside(output: Path) -> Path:
    """The project folder of an output: NAME.rerender for NAME.mp4, for a folder NAME and for NAME/%06d.png."""
    place = output.parent if PATTERN.search(output.name) else output
    name = place.stem if place.suffix.lower() in ENDINGS else place.name
    return place.parent / f"{name if name not in ('', '..') else place.resolve().name}.rerender"


def _model_paths(options: argparse.Namespace, project: Project) -> dict[str, str]:
    paths = project.model
    for name in ("checkpoint", "vae", "lora_dir"):
        value = getattr(options, name)
        if value is not None:
            paths[name] = str(value.resolve())
    lora_dir = Path(paths.get("lora_dir", "."))
    if not lora_dir.is_dir():
        raise UserError(f"The folder of LoRA files {lora_dir} does not exist.", hint="Name one with --lora-dir.")
    if options.stage != "propagate" and "checkpoint" not in paths:
        raise UserError("No checkpoint was given.", hint="Name one with --checkpoint FILE (.safetensors or .ckpt).")
    return paths


def _open_host(model: dict[str, str], settings: Settings) -> Any:
    from rerender.hosts.standalone import load_host
    from rerender.hosts.standalone.samplers import find_sampler

    find_sampler(settings.sampler, settings.scheduler)  # refused before the project remembers it
    vae, lora = model.get("vae"), model.get("lora_dir")
    return load_host(
        Path(model["checkpoint"]),
        vae=Path(vae) if vae else None,
        lora_dir=Path(lora) if lora else None,
        device=settings.device,
    )
