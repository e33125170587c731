"""The extension in a running webui, by HTTP alone."""

from __future__ import annotations

import base64
import http.client
import json
import time
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.webui.place import CHECKPOINT
from tests.webui.server import Server
from tests.webui.standalone import CHECKPOINT_FILE, opened

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
LONG = {**SETTINGS, "key_interval": 1, "steps": 20}


def wait_for_a_key_frame(server: Server, job_id: str) -> None:
    ends = time.monotonic() + 300
    while not server.job(job_id)["key_frames"]:
        assert time.monotonic() < ends


def test_no_credentials_no_answer(server: Server) -> None:
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
def test_paths_outside_are_forbidden(server: Server, video: str) -> None:
    assert server.call("/rerender/v1/jobs", {"video": video})[0] == 403


def test_huge_upload_is_refused_before_it_is_read(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/rerender/v1/videos")
    connection.putheader("Content-Length", str(5 * 2**30))
    connection.putheader("Authorization", "Basic " + base64.b64encode(b"somebody:secret").decode())
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def options(server: Server) -> dict[str, Any]:
    """The webui's options, without the hash that it notes when its model is loaded, in a thread of its own."""
    return {name: value for name, value in server.call("/sdapi/v1/options")[1].items() if name != "sd_checkpoint_hash"}


def test_from_upload_to_mp4_with_two_jobs_and_a_picture_between(server: Server, clip: bytes) -> None:
    before = options(server)
    video = server.upload(clip)
    job, other = server.submit(video, SETTINGS), server.submit(video, SETTINGS, stage="first")
    status, picture = server.call("/sdapi/v1/txt2img", {"prompt": "x", "steps": 2, "width": 64, "height": 64})
    assert (status, len(picture["images"])) == (200, 1)
    done = server.finished(job)
    assert (done["state"], done["error"], done["key_frames"]) == ("done", "", [0, 4])
    assert server.finished(other)["key_frames"] == [0]
    status, film = server.call(f"/rerender/v1/jobs/{job}/result")
    assert (status, film[4:8]) == (200, b"ftyp")
    assert server.call(f"/rerender/v1/jobs/{job}/preview")[1] == server.keys(job)[-1]
    assert server.keys(job)[0] == server.keys(other)[0]  # the same key frame, whichever job made it
    assert options(server) == before


def test_job_is_deleted_when_that_is_said_plainly(server: Server, clip: bytes) -> None:
    job = server.submit(server.upload(clip), {**SETTINGS, "steps": 2}, stage="first")
    server.finished(job)
    assert server.call(f"/rerender/v1/jobs/{job}", method="DELETE")[0] == 422
    assert server.call(f"/rerender/v1/jobs/{job}?delete_files=true", method="DELETE")[0] == 200
    assert server.call(f"/rerender/v1/jobs/{job}")[0] == 404


def test_cancelled_job_goes_on(server: Server, clip: bytes) -> None:
    job = server.submit(server.upload(clip), LONG, stage="keys")
    wait_for_a_key_frame(server, job)
    server.call(f"/rerender/v1/jobs/{job}/cancel", {})
    stopped = server.finished(job)
    assert stopped["state"] == "interrupted"
    assert 0 < len(stopped["key_frames"]) < 5
    server.call(f"/rerender/v1/jobs/{job}/resume", {})
    assert server.finished(job)["key_frames"] == [0, 1, 2, 3, 4]


def test_step_is_shown_and_the_key_frame_skipped(server: Server, clip: bytes) -> None:
    job = server.submit(server.upload(clip), {**LONG, "steps": 60}, stage="keys")
    ends = time.monotonic() + 300
    while server.job(job)["rendering"] != 2:
        assert time.monotonic() < ends
    # The first question makes previews begin; until then it is answered by the newest key frame.
    while opened(server.call(f"/rerender/v1/jobs/{job}/preview")[1]).shape != (16, 16, 3):
        assert time.monotonic() < ends
    skipped = server.job(job)["rendering"]
    assert server.call(f"/rerender/v1/jobs/{job}/skip", {})[0] == (200 if skipped < 4 else 422)
    assert server.finished(job)["key_frames"] == [frame for frame in range(5) if frame != skipped or frame == 4]


def test_api_cannot_lift_the_limits_of_the_server(server: Server) -> None:
    before = options(server)
    assert before["rerender_upload_limit_mb"] == 2048
    for name in (name for name in before if name.startswith("rerender_") and name != "rerender_preset"):
        server.call("/sdapi/v1/options", {name: 1 if isinstance(before[name], int) else "/"})
    assert options(server) == before
    assert len([name for name in before if name.startswith("rerender_")]) == 8


def test_another_checkpoint_between_stages_is_noticed(server: Server, clip: bytes) -> None:
    usual = server.call("/sdapi/v1/options")[1]["sd_model_checkpoint"]
    video = server.upload(clip)
    job = server.submit(video, SETTINGS, stage="keys")
    server.finished(job)
    before = server.keys(job)
    place_other_checkpoint(server)
    server.call("/sdapi/v1/options", {"sd_model_checkpoint": "other.safetensors"})
    try:
        server.call(f"/rerender/v1/jobs/{job}/resume", {"stage": "keys"})
        assert server.finished(job)["state"] == "done"
        fresh = server.submit(video, SETTINGS, stage="keys")
        assert server.finished(fresh)["state"] == "done"
    finally:
        server.call("/sdapi/v1/options", {"sd_model_checkpoint": usual})
    assert server.keys(job) == server.keys(fresh)
    assert all(old != new for old, new in zip(before, server.keys(job), strict=True))


def place_other_checkpoint(server: Server) -> None:
    """A checkpoint that differs a little from the demo's."""
    folder = server.data / "models" / "Stable-diffusion"
    weights = load_file(CHECKPOINT_FILE)
    weights["model.diffusion_model.out.2.weight"] *= 0.9
    save_file(weights, folder / "other.safetensors")
    (folder / "other.yaml").write_bytes((folder / f"{CHECKPOINT}.yaml").read_bytes())
    server.call("/sdapi/v1/refresh-checkpoints", {})


def test_jobs_survive_the_end_of_the_webui(server: Server, clip: bytes) -> None:
    video = server.upload(clip)
    unbroken = server.submit(video, LONG, stage="keys")
    server.finished(unbroken)
    broken, waiting = server.submit(video, LONG, stage="keys"), server.submit(video, SETTINGS, stage="first")
    wait_for_a_key_frame(server, broken)
    server.kill()
    server.start()
    assert server.job(broken)["state"] == "interrupted"
    assert server.finished(waiting)["state"] == "done"
    server.call(f"/rerender/v1/jobs/{broken}/resume", {})
    assert server.finished(broken)["state"] == "done"
    assert server.keys(broken) == server.keys(unbroken)


def test_script_in_img2img(server: Server, clip: bytes) -> None:
    name = server.upload(clip)
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
