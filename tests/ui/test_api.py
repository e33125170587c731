"""The HTTP API with FastAPI's test client."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the panel's packages are not installed (requirements/panel.txt)")
pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from PIL import Image

from rerender.errors import UserError
from rerender.files import write_png
from rerender.pipeline import RUN_STAGES
from rerender.ui.api import Access, make_router
from rerender.ui.job import Format
from tests.ui.test_jobs import SETTINGS, GatedHost, PaintingHost, clip, jobs_with  # noqa: F401  (clip is a fixture)


class Unsupported(UserError):  # noqa: N818
    http_status = 501


def client_for(
    tmp_path: Path, dependencies: list[Any] | None = None, host: PaintingHost | None = None, **access: Any
) -> TestClient:
    app = FastAPI()
    jobs = jobs_with(tmp_path / "jobs", host or PaintingHost())
    reach = Access(**{"uploads": tmp_path / "uploads", "folders": lambda: [tmp_path], **access})
    app.include_router(make_router(jobs, reach, dependencies))
    app.state.jobs = jobs
    return TestClient(app)


def test_whole_run_by_api(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    client = client_for(tmp_path)
    answer = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": SETTINGS})
    assert answer.status_code == 200, answer.text
    job = client.app.state.jobs.wait(answer.json()["id"], 60)  # type: ignore[attr-defined]
    shown = client.get(f"/rerender/v1/jobs/{job.id}").json()
    assert (shown["state"], shown["result"], shown["key_frames"]) == ("done", True, [0, 4])
    assert str(tmp_path) not in str(shown)
    assert client.get(f"/rerender/v1/jobs/{job.id}/preview").content[:4] == b"\x89PNG"
    assert client.get(f"/rerender/v1/jobs/{job.id}/keys/0").status_code == 200
    assert client.get(f"/rerender/v1/jobs/{job.id}/keys/1").status_code == 404
    assert b"ftyp" in client.get(f"/rerender/v1/jobs/{job.id}/result").content[:16]
    assert [listed["id"] for listed in client.get("/rerender/v1/jobs").json()] == [job.id]
    assert client.delete(f"/rerender/v1/jobs/{job.id}").status_code == 422
    assert client.delete(f"/rerender/v1/jobs/{job.id}?delete_files=true").status_code == 200
    assert client.get(f"/rerender/v1/jobs/{job.id}").status_code == 404


def test_earlier_version_is_listed_fetched_and_brought_back(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    host = PaintingHost()
    client = client_for(tmp_path, host=host)
    jobs: Any = client.app.state.jobs  # type: ignore[attr-defined]
    asked = {"video": "clip", "settings": SETTINGS, "stage": "keys"}
    job_id = client.post("/rerender/v1/jobs", json=asked).json()["id"]
    jobs.wait(job_id, 60)
    key = f"/rerender/v1/jobs/{job_id}/keys/4"
    assert client.get(f"{key}/versions").json() == []
    assert client.post(f"{key}/bring-back", json={"version": "x"}).status_code == 404
    client.post(f"/rerender/v1/jobs/{job_id}/resume", json={"redo": [4]})
    jobs.wait(job_id, 60)
    (version,) = client.get(f"{key}/versions").json()
    assert (version["seed"], version["edited"], version["differs"], jobs.seed(job_id, 4)) == (1, False, {}, 2)
    picture = client.get(f"{key}/versions/{version['version']}").content
    assert picture[:4] == b"\x89PNG"
    for name in ("none.png", "..%2F..%2Fproject.json", "../keys/000004.png"):
        assert client.get(f"{key}/versions/{name}").status_code == 404
        assert client.post(f"{key}/bring-back", json={"version": name}).status_code == 404
    host.gate = threading.Event()
    client.post(f"/rerender/v1/jobs/{job_id}/resume", json={"redo": [4]})
    refused = client.post(f"{key}/bring-back", json={"version": version["version"]})
    assert (refused.status_code, "is still" in refused.json()["error"]) == (422, True)
    host.gate.set()
    jobs.wait(job_id, 60)
    assert client.post(f"{key}/bring-back", json={"version": version["version"]}).json()["id"] == job_id
    assert client.get(key).content == picture
    assert [found["seed"] for found in client.get(f"{key}/versions").json()] == [3, 2]
    assert client.get("/rerender/v1/jobs/none/keys/4/versions").status_code == 404
    jobs.close()


def test_a_mask_lies_where_videos_may(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    client = client_for(tmp_path)
    mask = tmp_path / "uploads" / "mask.png"
    write_png(mask, np.full((32, 40, 3), 255, np.uint8))
    settings = {**SETTINGS, "mask": "mask.png"}
    shown = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": settings}).json()
    job = client.app.state.jobs.wait(shown["id"], 60)  # type: ignore[attr-defined]
    assert job.settings["mask"] == str(mask)
    assert shown["settings"]["mask"] == "mask.png"
    for name, status in (("/etc/passwd", 403), ("../x.png", 403), ("none.png", 404)):
        refused = {"settings": {"mask": name}}
        assert client.post("/rerender/v1/jobs", json={"video": "clip", **refused}).status_code == status
        assert client.post(f"/rerender/v1/jobs/{job.id}/resume", json=refused).status_code == status


def test_failure_names_files_without_their_folders(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    client = client_for(tmp_path)
    write_png(tmp_path / "uploads" / "wide.png", np.full((8, 80, 3), 255, np.uint8))
    settings = {**SETTINGS, "mask": "wide.png"}
    shown = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": settings}).json()
    client.app.state.jobs.wait(shown["id"], 60)  # type: ignore[attr-defined]
    shown = client.get(f"/rerender/v1/jobs/{shown['id']}").json()
    assert shown["state"] == "failed"
    assert shown["error"].startswith("The mask wide.png has")
    assert str(tmp_path) not in str(shown)


def test_documented_interface_names_stages_files_and_errors(tmp_path: Path) -> None:
    document = client_for(tmp_path).get("/openapi.json").json()
    routes = document["paths"]
    submission = document["components"]["schemas"]["Submission"]["properties"]
    for name, values in (("stage", RUN_STAGES), ("format", get_args(Format))):
        assert set(values) <= set(re.findall(r"\w+", submission[name]["description"]))
    assert "application/octet-stream" in routes["/rerender/v1/videos"]["post"]["requestBody"]["content"]
    for methods in routes.values():
        for route in methods.values():
            assert {"403", "404", "413", "422", "429", "501"} <= set(route["responses"])
    key = routes["/rerender/v1/jobs/{job_id}/keys/{frame}"]["get"]["responses"]["200"]
    assert list(key["content"]) == ["image/png"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"video": "../x"}, 403),
        ({"video": "/etc/passwd"}, 403),
        ({"video": "none.mp4"}, 404),
        ({"video": "clip", "settings": {"steps": 0}}, 422),
        ({"video": "clip", "stage": "half"}, 422),
        ({"video": "clip", "surprise": 1}, 422),
    ],
)
def test_bad_requests(tmp_path: Path, clip: Path, body: dict[str, Any], status: int) -> None:  # noqa: F811
    assert client_for(tmp_path).post("/rerender/v1/jobs", json=body).status_code == status


def test_preview_is_the_newest_step_and_skip_leaves_out_the_key_frame_at_work(
    tmp_path: Path,
    clip: Path,  # noqa: F811
) -> None:
    host = GatedHost()
    client = client_for(tmp_path, host=host)
    submitted = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": {**SETTINGS, "key_interval": 2}})
    address = f"/rerender/v1/jobs/{submitted.json()['id']}"
    assert host.waiting.wait(30)
    client.app.state.jobs._signals[submitted.json()["id"]].show(np.zeros((2, 3, 3), np.uint8))  # type: ignore[attr-defined]
    preview = client.get(f"{address}/preview")
    assert Image.open(io.BytesIO(preview.content)).size == (3, 2)
    assert client.get(address).json()["rendering"] == 2
    assert client.post(f"{address}/skip").status_code == 200
    job = client.app.state.jobs.wait(submitted.json()["id"], 60)  # type: ignore[attr-defined]
    assert (job.state, job.key_frames) == ("done", (0, 4))
    assert client.post(f"{address}/skip").status_code == 422
    assert Image.open(io.BytesIO(client.get(f"{address}/preview").content)).size == (40, 32)


def test_upload_is_stored_under_a_safe_name_and_a_second_one_beside_it(tmp_path: Path) -> None:
    client = client_for(tmp_path)
    names = [
        client.post("/rerender/v1/videos?name=..%2Fa%3F.mp4", content=content).json()["video"]
        for content in (b"1", b"2")
    ]
    assert names == ["a_.mp4", "a_-2.mp4"]
    assert [(tmp_path / "uploads" / name).read_bytes() for name in names] == [b"1", b"2"]


def test_upload_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    client = client_for(tmp_path, upload_limit=lambda: 10)
    assert client.post("/rerender/v1/videos", content=b"x" * 11).status_code == 413
    streamed = client.post("/rerender/v1/videos", content=iter([b"x" * 6, b"x" * 6]))  # announces no length
    assert streamed.status_code == 413
    assert client.post("/rerender/v1/videos", content=b"").status_code == 422
    assert not (tmp_path / "uploads").exists() or not list((tmp_path / "uploads").iterdir())


def test_caps_hold_whatever_a_request_says(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    client = client_for(tmp_path, caps=lambda: {"limit_frames": 3, "limit_long_side": 0})
    for settings in (SETTINGS, {**SETTINGS, "limit_frames": 0}, {**SETTINGS, "limit_frames": 100}):
        job = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": settings}).json()
        assert job["settings"]["limit_frames"] == 3
        assert client.app.state.jobs.wait(job["id"], 60).state == "failed"  # type: ignore[attr-defined]
    lower = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": {"limit_frames": 2}}).json()
    assert (lower["settings"]["limit_frames"], lower["settings"]["limit_long_side"]) == (2, 2048)
    refused = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": {"limit_frames": "many"}})
    assert refused.status_code == 422


def test_job_starts_from_a_preset(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    client = client_for(tmp_path, default_preset=lambda: "Strong style")
    known = {preset["name"]: preset["values"] for preset in client.get("/rerender/v1/presets").json()}
    for asked, expected in (({}, "Strong style"), ({"preset": "Close to the source"}, "Close to the source")):
        job = client.post("/rerender/v1/jobs", json={"video": "clip", "settings": {"steps": 7}, **asked}).json()
        assert {name: job["settings"][name] for name in known[expected]} == known[expected]
        assert job["settings"]["steps"] == 7
    answer = client.post("/rerender/v1/jobs", json={"video": "clip", "preset": "none"})
    assert answer.status_code == 422


def test_unsupported_host_is_501(tmp_path: Path, clip: Path) -> None:  # noqa: F811
    def refuse() -> None:
        raise Unsupported("Forge is not supported.")

    answer = client_for(tmp_path, check_host=refuse).post("/rerender/v1/jobs", json={"video": "clip"})
    assert (answer.status_code, answer.json()["error"]) == (501, "Forge is not supported.")


def test_every_route_asks_the_dependency(tmp_path: Path) -> None:
    def refuse() -> None:
        raise HTTPException(401)

    client = client_for(tmp_path, [Depends(refuse)])
    routes = [route for route in client.app.routes if route.path.startswith("/rerender")]  # type: ignore[attr-defined]
    assert len(routes) >= 13
    for route in routes:
        for method in route.methods:
            assert client.request(method, route.path).status_code == 401, route.path


def test_settings_schema(tmp_path: Path) -> None:
    schema = client_for(tmp_path).get("/rerender/v1/settings").json()
    assert schema["properties"]["steps"]["maximum"] == 150
