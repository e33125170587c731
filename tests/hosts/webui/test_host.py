"""The webui host against stand-ins."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rerender.diffusion.edits import Constraint, edits
from rerender.errors import Interrupted, UserError
from rerender.host import RenderRequest, Sampling
from tests.hosts.webui.standins import Webui

PICTURE = np.zeros((16, 16, 3), np.uint8)


def request(**changes: Any) -> RenderRequest:
    fields: dict[str, Any] = {"picture": PICTURE, "prompt": "x", "sampler": "euler", "steps": 6, "seed": 5}
    return RenderRequest(**{**fields, **changes})


def host_of(webui: Webui) -> Any:
    from rerender.hosts.webui.host import WebuiHost

    return WebuiHost()


def seen_by(webui: Webui, **changes: Any) -> Sampling:
    seen: list[Sampling] = []

    @contextmanager
    def attach(sampling: Sampling) -> Iterator[None]:
        seen.append(sampling)
        yield

    webui.calls.clear()
    host_of(webui).render(request(**changes), attach=attach)
    return seen[0]


@pytest.mark.parametrize(
    ("sampler", "first", "multistep"),
    [
        ("euler", "FFFFF", False),
        ("euler_ancestral", "FFFFF", False),
        ("heun", "F.F.F.F.F", False),
        ("dpmpp_2m", "FFFFF", True),
        ("lms", "FFFFF", False),
        ("ddim", "FFF", False),
        ("plms", "F.FF", True),
    ],
)
def test_announced_calls_are_those_that_are_made(webui: Webui, sampler: str, first: str, multistep: bool) -> None:
    sampling = seen_by(webui, sampler=sampler, denoising_strength=0.75)
    assert "".join("F" if call.first else "." for call in sampling.calls) == first
    assert sampling.multistep is multistep
    levels = [level for _, level in webui.calls]
    if sampling.form == "timestep":
        alphas = webui.shared.sd_model.alphas_cumprod.double().numpy()
        levels = [np.sqrt((1 - alphas[int(t)]) / alphas[int(t)]) for t in levels]
    assert [call.sigma for call in sampling.calls] == pytest.approx(levels, rel=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_a_composed_prompt_makes_more_rows(webui: Webui, sampler: str) -> None:
    assert seen_by(webui, sampler=sampler).rows == 2
    assert seen_by(webui, sampler=sampler, prompt="oil AND a face AND sky").rows == 4


def test_rehearsal_draws_nothing_from_the_pictures_noise(webui: Webui) -> None:
    sampling = seen_by(webui, sampler="euler_ancestral")
    assert webui.noise.draws == sampling.steps - 1  # none in the last step, down to zero


def test_sampler_without_fixed_steps_is_refused_by_name(webui: Webui) -> None:
    with pytest.raises(UserError, match="'dpm_adaptive' has no fixed number of steps"):
        host_of(webui).render(request(sampler="dpm_adaptive"))
    with pytest.raises(UserError, match="no sampler named 'dpm'"):
        host_of(webui).render(request(sampler="dpm"))


class Shift(Constraint):
    """Moves x̂0 by 1 in the first step."""

    def after(self, index: int, call: Any, x0: torch.Tensor) -> torch.Tensor | None:
        return x0 + 1.0 if index == 0 else None


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim"])
def test_edit_moves_the_samplers_own_latent(webui: Webui, sampler: str) -> None:
    """By Δ in sigma form, by sqrt(a)·Δ in timestep form: the noise estimate stays."""
    latents = []
    for constraints in ([], [Shift()]):
        webui.calls.clear()
        sampling: list[Sampling] = []

        @contextmanager
        def attach(s: Sampling, given: Any = constraints, into: Any = sampling) -> Iterator[None]:
            into.append(s)
            with edits(s, given):
                yield

        host_of(webui).render(request(sampler=sampler), attach=attach)
        latents.append(webui.calls[1][0])
    call = sampling[0].calls[1]
    scale = 1.0 if sampling[0].form == "sigma" else (1 + call.sigma**2) ** -0.5
    torch.testing.assert_close(latents[1] - latents[0], torch.full_like(latents[0], scale), rtol=0, atol=1e-4)


def state_of(webui: Webui) -> tuple[Any, ...]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in webui.unet.modules())
    numpy_state = np.random.get_state()[1].tolist()
    return dict(webui.shared.opts.data), hooks, torch.get_rng_state().tolist(), random.getstate(), numpy_state


@pytest.mark.parametrize("ending", ["normal", "failing", "interrupted", "cancelled"])
def test_rendering_leaves_no_trace(webui: Webui, ending: str) -> None:
    host, before = host_of(webui), state_of(webui)

    def on_step(done: int, total: int) -> None:
        if ending == "failing":
            raise ZeroDivisionError
        webui.shared.state.interrupted = ending == "interrupted"

    expected = {"failing": ZeroDivisionError, "interrupted": Interrupted, "cancelled": Interrupted}.get(ending)
    if expected is None:
        host.render(request(), on_step=on_step)
    else:
        with pytest.raises(expected):
            host.render(request(), on_step=on_step, cancelled=lambda: ending == "cancelled")
    webui.shared.state.interrupted = False
    assert state_of(webui) == before
    assert len(webui.calls) == {"normal": 5, "cancelled": 0}.get(ending, 1)
    assert webui.told_the_end == 1
    assert host._template.__dict__.get("sample") is None


def test_options_have_their_values_during_the_rendering_only(webui: Webui) -> None:
    webui.shared.opts.data["hypertile_enable_unet"] = True
    host_of(webui).render(request(clip_skip=2))
    seen = webui.options_seen[0]
    assert (seen["hypertile_enable_unet"], seen["img2img_color_correction"]) == (False, False)
    assert seen["CLIP_stop_at_last_layers"] == 2
    assert webui.shared.opts.data == {"img2img_color_correction": True, "hypertile_enable_unet": True}


def test_change_of_an_option_meanwhile_is_kept(webui: Webui) -> None:
    from rerender.hosts.webui.options import pinned_options

    opts = webui.shared.opts
    with pinned_options(opts, {"img2img_extra_noise": 0.0, "unknown_here": 1}):
        assert "unknown_here" not in opts.data
        opts.data["img2img_extra_noise"] = 0.5
    assert opts.data["img2img_extra_noise"] == 0.5


def test_equal_requests_give_equal_latents_whatever_was_drawn_before(webui: Webui) -> None:
    host = host_of(webui)
    first = host.render(request()).latent
    torch.rand(7)
    assert torch.equal(first, host.render(request()).latent)
    assert not torch.equal(first, host.render(request(seed=6)).latent)


def test_initial_latent_takes_the_place_of_the_picture(webui: Webui) -> None:
    host = host_of(webui)
    shifted = host.render(request(initial_latent=torch.full((1, 4, 2, 2), 3.0))).latent
    assert not torch.equal(shifted, host.render(request()).latent)


def test_steps_are_reported_in_order(webui: Webui) -> None:
    steps: list[tuple[int, int]] = []
    host_of(webui).render(request(sampler="heun"), on_step=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 5) for done in range(1, 6)]


@pytest.mark.parametrize("change", ["sd3", "no unet", "none", "sd_unet"])
def test_models_without_the_unet_are_refused(webui: Webui, change: str) -> None:
    model = webui.shared.sd_model
    if change == "sd3":
        model.is_sd3 = True
    elif change == "no unet":
        model.model.diffusion_model = torch.nn.Linear(1, 1)
    elif change == "none":
        webui.shared.sd_model = None
    else:
        webui.modules["sd_unet"].get_unet_option = lambda: SimpleNamespace(label="[TRT] x")
    with pytest.raises(UserError) as caught:
        host_of(webui)
    assert caught.value.http_status == 501  # type: ignore[attr-defined]


def test_lora_files_are_part_of_the_identity(webui: Webui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_of(webui)
    plain = host.identity()
    assert host.identity(["<lora:ink:1>"]) == plain  # without the extension nothing is applied
    (tmp_path / "ink.safetensors").write_text("123")
    file = SimpleNamespace(filename=str(tmp_path / "ink.safetensors"), name="ink", is_safetensors=True)
    networks = SimpleNamespace(available_networks={"ink": file}, available_network_aliases={"Tusche": file})
    monkeypatch.setitem(sys.modules, "networks", networks)
    named = host.identity(["a <lora:ink:0.5> <lora:unknown:1>", "b <lyco:Tusche:1:2> <hypernet:ink:1>"])
    assert named == {**plain, "lora:ink": "lora/ink 123", "lora:Tusche": "lora/ink 123"}
    (tmp_path / "ink.safetensors").write_text("456")
    assert host.identity(["<lora:ink:1>"])["lora:ink"] == "lora/ink 456"
    webui.modules["hashes"].sha256 = lambda *_, **__: None
    assert host.identity(["<lora:ink:1>"])["lora:ink"].startswith("3-")


def test_template_is_left_as_it_is_and_a_refiner_refused(webui: Webui) -> None:
    from rerender.hosts.webui.processing import make_processing, new_template

    template = new_template(styles=["a"])
    before = dict(template.__dict__)
    p = make_processing(template, request(prompt="other"))
    p.extra_generation_params["x"] = 1
    assert template.__dict__ == before
    assert (p.prompt, p.styles, p.width, p.do_not_save_samples) == ("other", ["a"], 16, True)
    template.refiner_checkpoint = "refine.safetensors"
    with pytest.raises(UserError, match=r"refine\.safetensors"):
        make_processing(template, request())


def test_arguments_of_always_on_scripts(webui: Webui) -> None:
    from rerender.hosts.webui.processing import script_arguments

    controls = [None, *(SimpleNamespace(value=value) for value in (1, 2, 3))]
    script = SimpleNamespace(title=lambda: "Some Script", args_from=2, args_to=4)
    runner = SimpleNamespace(inputs=controls, alwayson_scripts=[script])
    assert script_arguments(runner, {}) == [0, 1, 2, 3]
    assert script_arguments(runner, {"some script": {"args": [7]}}) == [0, 1, 7, 3]
    assert script_arguments(runner, {"SOME SCRIPT": {"args": [7, 8, 9]}}) == [0, 1, 7, 8]
    with pytest.raises(UserError, match="no always-on script named 'other'"):
        script_arguments(runner, {"other": {}})


@pytest.mark.parametrize("as_dict", [False, True])
def test_reference_only_is_refused_by_name(webui: Webui, as_dict: bool) -> None:
    from rerender.hosts.webui.controlnet import check_units

    def unit(**values: Any) -> Any:
        return values if as_dict else SimpleNamespace(**values)

    script = SimpleNamespace(title=lambda: "ControlNet", args_from=1, args_to=3)
    runner = SimpleNamespace(alwayson_scripts=[script])
    harmless = [unit(enabled=True, module="canny"), unit(enabled=False, module="reference_only")]
    check_units(SimpleNamespace(scripts=runner, script_args=[0, *harmless]))
    harmful = [unit(enabled=True, module="reference_only"), unit(enabled=False, module="canny")]
    with pytest.raises(UserError, match="reference_only"):
        check_units(SimpleNamespace(scripts=runner, script_args=[0, *harmful]))
    check_units(SimpleNamespace(scripts=None, script_args=[]))
