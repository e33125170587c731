"""The extension in a running webui, by HTTP alone."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(1800)

SETTINGS: dict[str, Any] = {
    "prompt": "an oil painting of a face",
    "sampler": "Euler",
    "steps": 6,
    "cfg_scale": 2.5,
    "denoising_strength": 0.6,
    "seed": 3,
    "short_side": 0,
    "key_interval": 4,
    "scene_cuts": False,
    "propagation_preset": "fast",
}


def test_no_credentials_no_answer(server: Any) -> None:
    for method, path in (
        ("GET", "jobs"),
        ("GET", "settings"),
        ("POST", "jobs"),
        ("POST", "videos"),
        ("DELETE", "jobs/x"),
    ):
        for user in (None, "somebody:wrong", "nobody:secret"):
            assert server.call(f"/rerender/v1/{path}", method=method, user=user)[0] == 401, (method, path, user)


@pytest.mark.parametrize("video", ["../config.json", "/etc/passwd", "../../x"])
def test_paths_outside_are_forbidden(server: Any, video: str) -> None:
    assert server.call("/rerender/v1/jobs", {"video": video})[0] == 403


def test_huge_upload_is_refused_before_it_is_read(server: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/rerender/v1/videos")
    connection.putheader("Content-Length", str(5 * 2**30))
    connection.putheader("Authorization", "Basic " + base64.b64encode(b"somebody:secret").decode())
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_from_upload_to_mp4_with_two_jobs_and_a_picture_between(server: Any, clip: bytes) -> None:
    before = server.call("/sdapi/v1/options")[1]
    name = server.call("/rerender/v1/videos?name=clip.gif", clip)[1]["video"]
    job = server.call("/rerender/v1/jobs", {"video": name, "settings": SETTINGS})[1]
    other = server.call("/rerender/v1/jobs", {"video": name, "settings": SETTINGS, "stage": "first"})[1]
    status, picture = server.call("/sdapi/v1/txt2img", {"prompt": "x", "steps": 2, "width": 64, "height": 64})
    assert (status, len(picture["images"])) == (200, 1)
    done = server.finished(job["id"])
    assert (done["state"], done["error"], done["key_frames"]) == ("done", "", [0, 4])
    assert server.finished(other["id"])["key_frames"] == [0]
    status, film = server.call(f"/rerender/v1/jobs/{job['id']}/result")
    assert (status, film[4:8]) == (200, b"ftyp")
    # The same key frame, whichever job made it.
    first = [server.call(f"/rerender/v1/jobs/{each['id']}/keys/0")[1] for each in (job, other)]
    assert first[0] == first[1]
    assert server.call("/sdapi/v1/options")[1] == before


def test_cancelled_job_goes_on(server: Any, clip: bytes) -> None:
    name = server.call("/rerender/v1/videos?name=clip.gif", clip)[1]["video"]
    settings = {**SETTINGS, "key_interval": 1, "steps": 20}
    job = server.call("/rerender/v1/jobs", {"video": name, "settings": settings, "stage": "keys"})[1]
    while server.call(f"/rerender/v1/jobs/{job['id']}")[1]["key_frames"] == []:
        pass
    server.call(f"/rerender/v1/jobs/{job['id']}/cancel", {})
    stopped = server.finished(job["id"])
    assert stopped["state"] == "interrupted"
    assert 0 < len(stopped["key_frames"]) < 5
    server.call(f"/rerender/v1/jobs/{job['id']}/resume", {})
    assert server.finished(job["id"])["key_frames"] == [0, 1, 2, 3, 4]


def test_script_in_img2img(server: Any, clip: bytes) -> None:
    name = server.call("/rerender/v1/videos?name=clip.gif", clip)[1]["video"]
    tab = {"init_images": [], "width": 128, "height": 128, "script_name": "rerender a video", "sampler_name": "Euler"}
    own = {"prompt": SETTINGS["prompt"], "steps": 6, "cfg_scale": 2.5, "denoising_strength": 0.6, "seed": 3}
    asked = {"video": name, "stage": "keys", "key_interval": 4, "scene_cuts": False}
    status, found = server.call("/sdapi/v1/img2img", {**tab, **own, "script_args": [asked]})
    assert status == 200, found
    assert len(found["images"]) == 2
    infotext = json.loads(found["info"])["infotexts"][0]
    assert "Script: Rerender A Video" in infotext
    assert "Rerender key_interval: 4" in infotext
    wrong = {**tab, **own, "script_args": [{**asked, "key_intervall": 3}]}
    status, refused = server.call("/sdapi/v1/img2img", wrong)
    assert (status, "key_intervall" in str(refused)) == (422, True)
