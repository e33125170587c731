"""A webui started as a library, which runs functions of checks.py and tells what they returned."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.webui.place import FULL_PRECISION, ROOT, environment, make_data_folder, webui_python


class Inside:
    """Use it as a context manager; then `inside("same_as_plain", sampler="Euler")` returns that check's result.

    Args:
        data: a folder for settings, models and results.
        flags: further flags of the webui.
        precision: those flags that choose the precision.
        extensions: folders of other extensions.
        options: of the settings file.
        measure_startup: note what loading the extension costs; see `checks.startup_cost`.
    """

    def __init__(
        self,
        webui: Path,
        data: Path,
        flags: Sequence[str] = (),
        *,
        precision: Sequence[str] = FULL_PRECISION,
        extensions: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
        measure_startup: bool = False,
    ) -> None:
        make_data_folder(data, extensions, options)
        self.data, self._log = data, data / "log.txt"
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading)
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [
                    *(str(webui_python(webui)), str(ROOT / "tests" / "webui" / "worker.py"), str(webui), str(writing)),
                    *("--data-dir", str(data), *precision, *flags),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=(writing,),
                env=environment() | ({"MEASURE_STARTUP": str(data / "compiled")} if measure_startup else {}),
            )
        os.close(writing)

    def __enter__(self) -> Inside:
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers.close()
        self._process.wait(timeout=60)

    def __call__(self, check: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        print(json.dumps({"check": check, "arguments": arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the webui ended:\n{self._log.read_text(encoding='utf-8')[-4000:]}")
        found = json.loads(line)
        if "error" in found:
            raise AssertionError(found["error"])
        return found["result"]
