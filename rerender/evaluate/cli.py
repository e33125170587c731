"""The `evaluate` command: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys

from tqdm import tqdm

from rerender.files import typed_path
from rerender.motion.flow import flow_estimator_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m rerender evaluate`."""
    parser.add_argument("source", type=typed_path, metavar="SOURCE", help="the clip that was rendered")
    parser.add_argument(
        "result", type=typed_path, metavar="RESULT", help="the clip to judge: a video or a folder of frames"
    )
    parser.add_argument(
        "--against",
        type=typed_path,
        action="append",
        default=[],
        metavar="OTHER",
        help="another result of the same source",
    )
    parser.add_argument("--names", default="", metavar="A,B,…", help="what to call the results, in their order")
    parser.add_argument("--keys", metavar="FRAMES", help='key frames of the results, such as "0, 10, 20-100:10"')
    parser.add_argument("--mask", type=typed_path, metavar="FILE", help="a picture or a clip; only white areas count")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="first source frame that the results show")
    parser.add_argument("--flow", default="dis", choices=flow_estimator_names(), help="optical flow estimator")
    parser.add_argument("--no-semantic", action="store_true", help="leave out the metrics of the semantic network")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="figures as JSON, to FILE or printed")
    parser.add_argument(
        "--report", type=typed_path, metavar="DIR", help="write DIR/report.html with plots and pictures"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, write what was asked for, and print the table; returns the exit status."""
    from rerender.evaluate.command import evaluate  # scipy and more: not for those who only want the usage

    to_screen = args.json == "-"
    with tqdm(unit="frame", disable=to_screen or not sys.stderr.isatty(), leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        evaluation = evaluate(
            args.source,
            args.result,
            against=args.against,
            names=[name.strip() for name in args.names.split(",")] if args.names else (),
            keys=args.keys,
            mask=args.mask,
            start=args.start,
            flow=args.flow,
            semantic=not args.no_semantic,
            json_path=None if to_screen else args.json,
            report_dir=args.report,
            on_progress=show,
        )
    if to_screen:
        print(json.dumps(evaluation.as_json(), ensure_ascii=False))  # noqa: T201
        return 0
    print(evaluation.table())  # noqa: T201
    if args.report:
        print(args.report / "report.html")  # noqa: T201
    return 0
