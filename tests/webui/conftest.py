"""Tests against a real webui 1.10.1: set WEBUI_DIR to its folder, and WEBUI_PYTHON where its venv lies elsewhere.

The webui needs a checkpoint; a small one is enough. It is started as a library, on the CPU, and nothing is written
into its folder but what any start writes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Check = Callable[..., Any]


def webui_dir() -> Path:
    folder = os.environ.get("WEBUI_DIR")
    if not folder:
        pytest.skip("WEBUI_DIR names no webui 1.10.1")
    return Path(folder).resolve()


def webui_python() -> Path:
    named = os.environ.get("WEBUI_PYTHON")
    place = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
    return Path(named) if named else webui_dir().joinpath("venv", *place)


def environment() -> dict[str, str]:
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    return {**os.environ, **quiet, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    """Runs a function of checks.py inside the webui and returns its result."""
    webui_dir()
    log = tmp_path_factory.mktemp("webui") / "log.txt"
    reading, writing = os.pipe()
    with log.open("w") as output, os.fdopen(reading) as answers:
        process = subprocess.Popen(
            [str(webui_python()), str(ROOT / "tests" / "webui" / "worker.py"), str(writing)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(writing,),
            env=environment(),
        )
        os.close(writing)

        def answer() -> Any:
            line = answers.readline()
            if not line:
                raise RuntimeError(f"the webui ended:\n{log.read_text(encoding='utf-8')[-4000:]}")
            found = json.loads(line)
            if "error" in found:
                raise AssertionError(found["error"])
            return found["result"]

        def ask(check: str, **arguments: Any) -> Any:
            assert process.stdin is not None
            print(json.dumps({"check": check, "arguments": arguments}), file=process.stdin, flush=True)
            return answer()

        try:
            assert answer() == "ready"
            yield ask
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=60)
