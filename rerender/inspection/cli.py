"""The `inspect` command: its arguments, and what it writes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tqdm import tqdm

from rerender.files import typed_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m rerender inspect`."""
    parser.add_argument("project", type=typed_path, metavar="PROJECT", help="a project folder")
    parser.add_argument("--frame", type=int, required=True, metavar="N", help="a key frame, by its frame number")
    parser.add_argument("--output", type=typed_path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that are in the folder already")


def run(args: argparse.Namespace, cancelled: Callable[[], bool]) -> None:
    """Write the pictures and print the path of the sheet; on standard error, how much the references show."""
    from rerender.inspection import check_folder, inspect_key_frame, write_inspection
    from rerender.project import Project

    project = Project.as_it_is(args.project)
    check_folder(args.output, overwrite=args.overwrite)
    with tqdm(unit="frame", disable=not sys.stderr.isatty(), leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        views = inspect_key_frame(project, args.frame, on_progress=show, cancelled=cancelled)
    if (key := project.key(args.frame)) is not None:
        for name, share in key.visible.items():
            text = f"{name} ({key.references[name]}) shows {share:.0%} of frame {args.frame}"
            print(text, file=sys.stderr)  # noqa: T201
    print(write_inspection(views, args.output, overwrite=args.overwrite)[-1])  # noqa: T201
