"""Runs the suite, prints its tables, and writes JSON, reports, and the section of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.quality.methods import COMMON, METHODS, Output, render
from benchmarks.quality.section import slug, update_docs, write_sheet
from benchmarks.quality.suite import SETS, Case
from rerender.errors import UserError
from rerender.evaluate.command import Evaluation, evaluate
from rerender.evaluate.figures import METRICS, show
from rerender.files import write_json
from rerender.host import Host
from rerender.hosts.standalone import load_host

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "rerender-demo.safetensors"


def main() -> None:
    """Run what was asked for."""
    options = _options()
    if options.set == "smoke" and options.checkpoint is None:
        with tempfile.TemporaryDirectory() as folder:
            from tools.make_tiny_checkpoint import make_tiny_checkpoint

            run(options, make_tiny_checkpoint(Path(folder)))
    else:
        run(options, options.checkpoint or CHECKPOINT)


def run(options: argparse.Namespace, checkpoint: Path) -> None:
    """Measure each case and write the results as they come: a run that is stopped leaves what it has."""
    if not checkpoint.exists():
        raise UserError(f"There is no checkpoint {checkpoint}.", hint="Name one with --checkpoint.")
    host = load_host(checkpoint)
    document: dict[str, Any] = {
        "set": options.set,
        "checkpoint": checkpoint.name,
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}",
        "settings": COMMON,
        "note": options.note,
        "cases": [],
    }
    started = time.perf_counter()
    for case in [case for case in SETS[options.set] if options.only in case.name]:
        result, outputs = measure(case, host, options)
        document["cases"].append(result)
        document["seconds"] = round(time.perf_counter() - started, 1)
        print(table(result), flush=True)
        if options.json:
            write_json(options.json, document)
        if options.pictures:
            write_sheet(options.pictures, case.name, outputs)
    if options.docs:
        update_docs(ROOT / "docs" / "benchmarks.md", document)
    print(f"{len(document['cases'])} clips in {document['seconds']:.0f} s")


def measure(case: Case, host: Host, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Output]]:
    """Render a clip with each method and evaluate the results together."""
    outputs = {}
    for method in METHODS:
        outputs[method] = render(case, method, host)
        print(f"{case.name}: {method}, {outputs[method].seconds:.0f} s", flush=True)
    results = [output.frames for output in outputs.values()]
    evaluation = evaluate(
        case.scene() if case.is_scene else outputs["ours"].source,
        results[0],
        against=results[1:],
        names=list(outputs),
        keys=outputs["ours"].keys,
        semantic=options.set != "smoke",
        report_dir=options.reports / slug(case.name) if options.reports else None,
    )
    return _facts(case, outputs, evaluation), outputs


def table(result: dict[str, Any]) -> str:
    """The figures of one case as text."""
    methods = list(result["methods"])
    lines = [f"{result['name']}: {result['frames']} frames, {result['motion']} motion"]
    lines.append(f"{'':38}{'source':>10}" + "".join(f"{name[:12]:>14}" for name in methods))
    for name, metric in METRICS.items():
        values = [result["source"][name], *(result["methods"][method]["figures"][name] for method in methods)]
        cells = [show(float("nan") if value is None else value) for value in values]
        lines.append(f"{metric.label[:37]:38}{cells[0]:>10}" + "".join(f"{cell:>14}" for cell in cells[1:]))
    lines += [f"{method}: {result['methods'][method]['verdict']}" for method in methods]
    return "\n".join([*lines, f"best: {result['best_why']}", ""])


def _facts(case: Case, outputs: dict[str, Output], evaluation: Evaluation) -> dict[str, Any]:
    document = evaluation.as_json()
    methods = {}
    for clip in document["results"]:
        output = outputs[clip["name"]]
        methods[clip["name"]] = {
            "figures": clip["figures"],
            "verdict": clip["verdict"],
            "key_frames": len(output.keys),
            "seconds_per_key_frame": round(output.seconds_per_key, 2),
            "seconds": round(output.seconds, 1),
        }
    return {
        "name": case.name,
        "prompt": case.prompt,
        "frames": document["frames"],
        "motion": document["motion"],
        "key_frames": document["key_frames"],
        "source": document["source"]["figures"],
        "methods": methods,
        "best": document["best"],
        "best_why": document["best_why"],
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--set", choices=tuple(SETS), default="full", help="which clips (default: full)")
    parser.add_argument("--smoke", action="store_const", const="smoke", dest="set", help="the same as --set smoke")
    parser.add_argument("--only", default="", metavar="TEXT", help="only clips whose name contains this")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=f"default: {CHECKPOINT.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--reports", type=Path, metavar="DIR", help="write an HTML report of each clip here")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write a sheet of frames of each clip here")
    parser.add_argument("--note", default="", metavar="TEXT", help="what a reader of the figures should know")
    parser.add_argument(
        "--docs", action="store_true", help="write the section Quality of docs/benchmarks.md, and sheets"
    )
    options = parser.parse_args()
    if options.docs and options.pictures is None:
        options.pictures = ROOT / "docs" / "pictures"
    return options


if __name__ == "__main__":
    main()
