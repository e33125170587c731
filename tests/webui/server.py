"""A webui as a server, with this repository as its extension; what it writes goes to a folder of its own."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.webui.conftest import ROOT, environment, webui_dir, webui_python
from tests.webui.worker import FLAGS

USER = "somebody:secret"


class Server:
    """A running webui and a client of it.

    Args:
        data: an empty folder, which the webui uses for settings, extensions and results.
    """

    def __init__(self, data: Path) -> None:
        (data / "extensions").mkdir()
        (data / "extensions" / "renamed-by-the-user").symlink_to(ROOT)
        (data / "config.json").write_text("{}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = data / "log.txt"
        checkpoints = webui_dir() / "models" / "Stable-diffusion"
        places = ["--data-dir", str(data), "--ckpt-dir", str(checkpoints), "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(webui_python()), "-u", "launch.py", *FLAGS, *places, "--api-auth", USER],
                cwd=webui_dir(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=os.name != "nt",
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + 600
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                break
            if "Startup time" in self.log.read_text(errors="replace"):
                return
            time.sleep(0.5)
        raise RuntimeError(f"the webui did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def call(
        self, path: str, body: Any = None, *, method: str | None = None, user: str | None = USER
    ) -> tuple[int, Any]:
        """Status and body (decoded, where it is JSON). body: bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if user is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=900) as response:
                status, content, kind = response.status, response.read(), response.headers.get_content_type()
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers.get_content_type()
        return status, json.loads(content) if kind == "application/json" else content

    def finished(self, job_id: str, timeout: float = 900) -> dict[str, Any]:
        """The job, once it is no longer at work."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            status, job = self.call(f"/rerender/v1/jobs/{job_id}")
            assert status == 200, job
            if job["state"] not in ("queued", "running"):
                return dict(job)
            time.sleep(0.5)
        raise AssertionError(f"the job is still at work: {job}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
