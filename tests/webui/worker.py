"""Runs inside the webui's own Python: `worker.py WEBUI DESCRIPTOR [FLAG ...]` starts it as a library.

It answers checks asked for on standard input, one JSON object a line: {"check": name, "arguments": {...}} →
{"result": ...} or {"error": traceback}. A check is a function of checks.py, or of another module of this folder as
"module.function". The webui prints to standard output as it likes, so answers go to the pipe DESCRIPTOR.
"""

from __future__ import annotations

import compileall
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
startup: dict[str, Any] = {}


def start_webui(folder: Path, flags: list[str]) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.path.append(str(ROOT))
    from tests.webui.place import FLAGS

    sys.argv = ["launch.py", *FLAGS, *flags]
    from modules import launch_utils  # noqa: F401, I001  (first of all: reads the flags)
    from modules import initialize

    initialize.imports()
    if "MEASURE_STARTUP" in os.environ:
        measure_our_script(Path(os.environ["MEASURE_STARTUP"]))
    initialize.check_versions()
    initialize.initialize()
    from modules import ui

    ui.create_ui()


def measure_our_script(compiled: Path) -> None:
    """Note what loading the extension's script costs and brings, at any start but the first, which compiles it."""
    from modules import script_loading

    load = script_loading.load_module

    def measured(path: str) -> Any:
        if Path(path).name != "rerender_a_video.py":
            return load(path)
        sys.pycache_prefix, sys.dont_write_bytecode = str(compiled), False
        compileall.compile_dir(Path(path).parents[1] / "rerender", quiet=1)
        known, began = set(sys.modules), time.thread_time()
        module = load(path)
        startup["seconds"] = time.thread_time() - began
        startup["modules"] = sorted(set(sys.modules) - known)
        return module

    script_loading.load_module = measured


def main() -> None:
    webui, descriptor, *flags = sys.argv[1:]
    answers = os.fdopen(int(descriptor), "w")
    start_webui(Path(webui), flags)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(json.dumps({"result": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            module, _, name = asked["check"].rpartition(".")
            checks = importlib.import_module(f"tests.webui.{module or 'checks'}")
            answer = {"result": getattr(checks, name)(**asked["arguments"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
