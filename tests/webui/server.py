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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.webui.place import FLAGS, FULL_PRECISION, environment, make_data_folder, webui_python

USER = "somebody:secret"


class Server:
    """A running webui and a client of it. Use it as a context manager.

    Args:
        webui: its folder.
        data: an empty folder, which the webui uses for settings, extensions, models and results.
        flags: further flags, such as the one that asks for credentials.
        extensions: folders of other extensions.
        options: of the settings file.
    """

    def __init__(
        self,
        webui: Path,
        data: Path,
        flags: Sequence[str] = ("--api-auth", USER),
        *,
        extensions: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        make_data_folder(data, extensions, options)
        self._webui, self._flags = webui, flags
        self.data, self.log = data, data / "log.txt"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers; again after `stop` or `kill`."""
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(str(webui_python(self._webui)), "-u", "launch.py", *FLAGS, *FULL_PRECISION),
                    *("--data-dir", str(self.data), "--port", str(self.port), *self._flags),
                ],
                cwd=self._webui,
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
            if self._process.poll() is not None:
                break
            if "Startup time" in self.log.read_text(errors="replace"):
                return
            time.sleep(0.5)
        raise RuntimeError(f"the webui did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def call(
        self, path: str, body: Any = None, *, method: str | None = None, user: str | None = USER
    ) -> tuple[int, Any]:
        """Status and body (decoded, where it is JSON). body: bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if user is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=900) as response:
                status, content, kind = response.status, response.read(), response.headers.get_content_type()
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers.get_content_type()
        return status, json.loads(content) if kind == "application/json" else content

    def upload(self, content: bytes, name: str = "clip.gif") -> str:
        """Store a video; the name by which a job can use it."""
        status, answer = self.call(f"/rerender/v1/videos?name={name}", content)
        assert status == 200, answer
        return str(answer["video"])

    def submit(self, video: str, settings: Mapping[str, Any], **more: Any) -> str:
        """Queue a job; its id."""
        status, job = self.call("/rerender/v1/jobs", {"video": video, "settings": dict(settings), **more})
        assert status == 200, job
        return str(job["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        status, job = self.call(f"/rerender/v1/jobs/{job_id}")
        assert status == 200, job
        return dict(job)

    def finished(self, job_id: str, timeout: float = 900) -> dict[str, Any]:
        """The job, once it is no longer at work."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            job = self.job(job_id)
            if job["state"] not in ("queued", "running"):
                return job
            time.sleep(0.5)
        raise AssertionError(f"the job is still at work: {job}")

    def keys(self, job_id: str) -> list[bytes]:
        """The PNG files of a job's key frames."""
        return [self.call(f"/rerender/v1/jobs/{job_id}/keys/{n}")[1] for n in self.job(job_id)["key_frames"]]
