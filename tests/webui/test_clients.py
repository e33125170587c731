"""A whole run with the package webuiapi as the client, and a login by the page's own form."""

from __future__ import annotations

import io
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.webui.server import USER, Server
from tests.webui.standalone import opened
from tests.webui.test_server import SETTINGS

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    webuiapi = pytest.importorskip("webuiapi", reason="webuiapi is not installed (requirements/test-webui.txt)")
    user, password = USER.split(":")
    return webuiapi.WebUIApi(host="127.0.0.1", port=server.port, username=user, password=password)


def test_run_from_upload_to_mp4_by_webuiapi(api: Any, clip: bytes) -> None:
    upload = api.session.post(
        api.get_endpoint("rerender/v1/videos", baseurl=False), params={"name": "clip.gif"}, data=clip
    )
    asked = {"video": upload.json()["video"], "settings": SETTINGS}
    job = api.custom_post("rerender/v1/jobs", asked).json
    ends = time.monotonic() + 900
    while (state := api.custom_get(f"rerender/v1/jobs/{job['id']}"))["state"] in ("queued", "running"):
        assert time.monotonic() < ends, state
        time.sleep(0.5)
    assert state["state"] == "done", state
    film = api.session.get(api.get_endpoint(f"rerender/v1/jobs/{job['id']}/result", baseurl=False))
    with av.open(io.BytesIO(film.content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(128, 128, 3)] * 5
    # The film's first frame is the first key frame, but for what H.264 loses.
    key = opened(api.session.get(api.get_endpoint(f"rerender/v1/jobs/{job['id']}/keys/0", baseurl=False)).content)
    assert np.abs(frames[0].astype(int) - key).mean() < 12


def test_script_by_webuiapi_gives_the_same_key_frames_as_a_job(api: Any, server: Server, clip: bytes) -> None:
    video = server.upload(clip)
    result = api.img2img(
        images=[],
        prompt=SETTINGS["prompt"],
        sampler_name="Euler",
        steps=6,
        cfg_scale=2.5,
        denoising_strength=0.6,
        seed=3,
        width=128,
        height=128,
        script_name="Rerender A Video",
        script_args=[{"video": video, "stage": "keys", "key_interval": 4, "scene_cuts": False}],
    )
    job = server.submit(video, {**SETTINGS, "short_side": 128}, stage="keys")
    assert server.finished(job)["state"] == "done"
    pictures = [np.asarray(image.convert("RGB")) for image in result.images]
    assert all(np.array_equal(one, opened(two)) for one, two in zip(pictures, server.keys(job), strict=True))
    assert [text.count("Rerender key_interval: 4") for text in result.info["infotexts"]] == [1, 1]


@pytest.fixture(scope="module")
def page_server(webui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose page asks for a login, with no word about the API."""
    with Server(webui, tmp_path_factory.mktemp("page"), ["--gradio-auth", USER]) as running:
        yield running


def test_login_of_the_page_covers_the_routes(page_server: Server) -> None:
    for path in ("jobs", "settings"):
        assert page_server.call(f"/rerender/v1/{path}", user=None)[0] == 401
        assert page_server.call(f"/rerender/v1/{path}", user="somebody:wrong")[0] == 401
        assert page_server.call(f"/rerender/v1/{path}")[0] == 200
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    user, password = USER.split(":")
    form = urllib.parse.urlencode({"username": user, "password": password}).encode()
    browser.open(f"{page_server.url}/login", form)
    assert json.load(browser.open(f"{page_server.url}/rerender/v1/jobs")) == []
