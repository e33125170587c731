"""Runs inside the webui's own Python: starts the webui as a library and answers checks asked for on standard input.

One JSON object a line: {"check": name, "arguments": {...}} → {"result": ...} or {"error": traceback}. The webui prints
to standard output as it likes, so answers go to a pipe of their own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    *("--skip-prepare-environment", "--skip-python-version-check", "--skip-torch-cuda-test", "--skip-version-check"),
    *("--use-cpu", "all", "--no-half", "--no-download-sd-model", "--do-not-download-clip", "--api"),
]


def start_webui() -> None:
    folder = Path(os.environ["WEBUI_DIR"]).resolve()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.path.append(str(ROOT))
    sys.argv = ["launch.py", *FLAGS]
    from modules import launch_utils  # noqa: F401, I001  (first of all: reads the flags)
    from modules import initialize

    initialize.imports()
    initialize.check_versions()
    initialize.initialize()
    from modules import ui

    ui.create_ui()


def main() -> None:
    answers = os.fdopen(int(sys.argv[1]), "w")
    start_webui()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    from tests.webui import checks

    print(json.dumps({"result": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": getattr(checks, asked["check"])(**asked["arguments"])}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
