"""Checkpoint files: what is recognised, what is used, what is refused and with which words."""

from __future__ import annotations

import hashlib
import logging
import pickle
import shutil
import sys
import types
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rerender.errors import UserError
from rerender.host import RenderRequest
from rerender.hosts.standalone import choose_device, choose_dtype, load_host
from rerender.hosts.standalone.architecture import find_config
from rerender.hosts.standalone.config import config_from_yaml, sd1_config, sd2_config
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.model import Model, predicts_v
from rerender.hosts.standalone.weights import Weights, read_weights, short_hash

CPU = torch.device("cpu")
SCHEDULE = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "posterior_variance", "logvar")

# As in v1-inference.yaml of the original repository.
SD1_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 768,
    "legacy": False,
}
SD_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def _shapes(prefix: str, module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(value.shape) for name, value in module.state_dict().items()}


def _of_shapes(shapes: dict[str, tuple[int, ...]], path: str = "model.safetensors") -> Weights:
    return Weights(Path(path), shapes, {})


def _ldm_shapes(unet: dict[str, object]) -> dict[str, tuple[int, ...]]:
    ldm = load_ldm()
    with torch.device("meta"):
        model = ldm.openaimodel.UNetModel(**unet)
        vae = ldm.autoencoder.AutoencoderKL(SD_VAE, {"target": "torch.nn.Identity"}, 4)
    return {**_shapes("model.diffusion_model.", model), **_shapes("first_stage_model.", vae)}


@pytest.fixture(scope="module")
def sd15_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a full SD1.5 checkpoint, from ldm and transformers themselves."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    with torch.device("meta"):
        text = transformers.CLIPTextModel(config)
    return {**_ldm_shapes(SD1_UNET), **_shapes("cond_stage_model.transformer.", text)}


def _sd2_text_shapes() -> dict[str, tuple[int, ...]]:
    """OpenCLIP ViT-H/14's text part as SD2 checkpoints hold it."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (49408, 1024),
        "positional_embedding": (77, 1024),
        "ln_final.weight": (1024,),
        "ln_final.bias": (1024,),
        "text_projection": (1024, 1024),
        "logit_scale": (),
    }
    block = {
        "ln_1.weight": (1024,),
        "ln_1.bias": (1024,),
        "attn.in_proj_weight": (3072, 1024),
        "attn.in_proj_bias": (3072,),
        "attn.out_proj.weight": (1024, 1024),
        "attn.out_proj.bias": (1024,),
        "ln_2.weight": (1024,),
        "ln_2.bias": (1024,),
        "mlp.c_fc.weight": (4096, 1024),
        "mlp.c_fc.bias": (4096,),
        "mlp.c_proj.weight": (1024, 4096),
        "mlp.c_proj.bias": (1024,),
    }
    for n in range(24):
        shapes |= {f"transformer.resblocks.{n}.{name}": shape for name, shape in block.items()}
    return {f"cond_stage_model.model.{name}": shape for name, shape in shapes.items()}


def test_every_sd15_key_is_used(sd15_shapes: dict[str, tuple[int, ...]]) -> None:
    assert len(sd15_shapes) == 686 + 248 + 196
    extra = {"cond_stage_model.transformer.text_model.embeddings.position_ids": (1, 77), "model_ema.decay": ()}
    extra |= dict.fromkeys(SCHEDULE, (1000,))
    model = Model(_of_shapes({**sd15_shapes, **extra}), None, CPU, torch.float32)
    assert model.config == sd1_config()
    assert model.report.used == len(sd15_shapes)
    assert model.report.unused == model.report.missing == ()
    assert model.report.ignored == len(extra)


def test_every_sd2_key_is_used() -> None:
    unet = {**SD1_UNET, "num_head_channels": 64, "use_linear_in_transformer": True, "context_dim": 1024}
    del unet["num_heads"]
    shapes = {**_ldm_shapes(unet), **_sd2_text_shapes()}
    model = Model(_of_shapes(shapes), None, CPU, torch.float32)
    assert model.report.used == len(shapes)
    assert model.report.unused == model.report.missing == ()
    assert model.config.penultimate
    assert model.config.detect_v


def test_keys_of_early_sd1_checkpoints_are_used(sd15_shapes: dict[str, tuple[int, ...]]) -> None:
    old = {key.replace("transformer.text_model.", "transformer."): shape for key, shape in sd15_shapes.items()}
    assert old.keys() != sd15_shapes.keys()
    assert Model(_of_shapes(old), None, CPU, torch.float32).report.used == len(old)


def test_unused_and_missing_keys_are_reported(
    sd15_shapes: dict[str, tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = Model(_of_shapes({**sd15_shapes, "stray.weight": (3,)}), None, CPU, torch.float32)
    assert model.report.unused == ("stray.weight",)
    assert "stray.weight" in caplog.text
    shapes = {key: shape for key, shape in sd15_shapes.items() if not key.startswith("first_stage_model.decoder.up.")}
    with pytest.raises(UserError, match=r"not a complete checkpoint: \d+ of 248 tensors of the VAE are missing"):
        Model(_of_shapes(shapes), None, CPU, torch.float32)


def test_only_sd2_projections_may_be_missing() -> None:
    unet = {**SD1_UNET, "num_head_channels": 64, "use_linear_in_transformer": True, "context_dim": 1024}
    del unet["num_heads"]
    shapes = {**_ldm_shapes(unet), **_sd2_text_shapes()}
    del shapes["cond_stage_model.model.text_projection"], shapes["cond_stage_model.model.logit_scale"]
    assert len(Model(_of_shapes(shapes), None, CPU, torch.float32).report.missing) == 2


def test_noise_schedule_is_stable_diffusions() -> None:
    """β from 0.00085 to 0.012, linear in the square root; its known ends as signal-to-noise levels."""
    alphas = sd1_config().alphas_cumprod()
    product = 1.0
    for t in range(1000):
        beta = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999) ** 2
        product *= 1 - beta
        assert float(alphas[t]) == pytest.approx(product, rel=1e-5)
    sigmas = ((1 - alphas) / alphas) ** 0.5
    assert float(sigmas[0]) == pytest.approx(0.0292, abs=1e-4)
    assert float(sigmas[-1]) == pytest.approx(14.6146, abs=1e-3)


_UNET = "model.diffusion_model."
FOREIGN: list[tuple[str, Iterable[tuple[str, tuple[int, ...]]]]] = [
    ("LoRA", [("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", (4, 4))]),
    ("LoRA", [("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", ())]),
    ("LoRA", [("unet.down_blocks.0.attentions.0.to_q.lora_A.weight", (4, 4))]),
    ("SDXL", [("conditioner.embedders.1.model.ln_final.weight", (1280,)), (_UNET + "label_emb.0.0.weight", (1,))]),
    ("unCLIP", [("embedder.model.ln_final.weight", (768,)), (_UNET + "label_emb.0.0.weight", (1,))]),
    ("SDXL refiner", [("conditioner.embedders.0.model.ln_final.weight", (1280,))]),
    ("SD3", [(_UNET + "x_embedder.proj.weight", (1536, 16, 2, 2))]),
    ("SD3", [(_UNET + "joint_blocks.0.context_block.attn.qkv.weight", (1, 1))]),
    ("Flux", [("double_blocks.0.img_attn.qkv.weight", (1, 1))]),
    ("ControlNet", [("control_model.zero_convs.0.0.weight", (1, 1))]),
    ("diffusers layout", [("down_blocks.0.resnets.0.conv1.weight", (1, 1))]),
    ("a VAE file", [("first_stage_model.decoder.conv_in.weight", (1,)), ("first_stage_model.encoder.a", (1,))]),
    ("a VAE file", [("decoder.conv_in.weight", (1,))]),
    ("inpainting", [(_UNET + "input_blocks.0.0.weight", (320, 9, 3, 3))]),
    ("InstructPix2Pix", [(_UNET + "input_blocks.0.0.weight", (320, 8, 3, 3))]),
    ("depth", [(_UNET + "input_blocks.0.0.weight", (320, 5, 3, 3))]),
    ("textual inversion", [("emb_params", (1, 768))]),
    ("not a complete checkpoint", [("something.else", (1,))]),
]


@pytest.mark.parametrize(("word", "keys"), FOREIGN)
def test_files_of_another_kind_are_refused_by_name(
    word: str, keys: Iterable[tuple[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    path = tmp_path / "given as checkpoint.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in keys}, path)
    with pytest.raises(UserError, match=word) as caught:
        load_host(path, device="cpu")
    assert path.name in caught.value.message
    assert caught.value.exit_status == 2


def test_a_model_of_unknown_size_asks_for_its_yaml(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = shutil.copy(tiny_checkpoint, tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match="neither SD1 nor SD2") as caught:
        load_host(path, device="cpu")
    assert "alone.yaml" in caught.value.hint


def test_no_such_file_and_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_host(tmp_path / "nothing.safetensors")
    other = tmp_path / "model.onnx"
    other.touch()
    with pytest.raises(UserError, match="onnx"):
        load_host(other)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1000])
def test_a_truncated_safetensors_file(tiny_checkpoint: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes()[:keep])
    with pytest.raises(UserError, match="truncated or not a safetensors file"):
        load_host(path)


def test_a_page_of_html_named_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "page.safetensors"
    path.write_text("<!DOCTYPE html><html>Please log in</html>")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_host(path)


def _beside(checkpoint: Path, tmp_path: Path, name: str) -> Path:
    """A path for a copy of the checkpoint, with the .yaml and the text encoder's folder beside it."""
    path = tmp_path / name
    shutil.copy(checkpoint.with_suffix(".yaml"), path.with_suffix(".yaml"))
    shutil.copytree(checkpoint.with_name("tiny-clip"), tmp_path / "tiny-clip", dirs_exist_ok=True)
    return path


@pytest.mark.parametrize("nested", [True, False])
def test_ckpt_gives_the_same_picture_as_safetensors(
    tiny_checkpoint: Path, tmp_path: Path, request_of, nested: bool
) -> None:
    path = _beside(tiny_checkpoint, tmp_path, "model.ckpt")
    state = load_file(tiny_checkpoint)
    torch.save({"state_dict": state, "global_step": 7} if nested else state, path)
    expected = load_host(tiny_checkpoint, device="cpu").render(request_of(steps=1)).picture
    assert (load_host(path, device="cpu").render(request_of(steps=1)).picture == expected).all()


def _with_the_trainers_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = types.ModuleType(name)
    callback = type("ModelCheckpoint", (), {"__module__": name})
    monkeypatch.setattr(module, "ModelCheckpoint", callback, raising=False)
    for place in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, place, module)
    path = tmp_path / "first.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": {callback: {"best": torch.ones(())}}}, path)
    monkeypatch.undo()
    return path


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="needs torch 2.5")
def test_ckpt_with_the_trainers_callback_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd-v1-4.ckpt and its like hold the class of a pytorch_lightning callback as a key; it is never needed."""
    assert read_weights(_with_the_trainers_callback(tmp_path, monkeypatch))["a"].tolist() == [1, 1]


def test_ckpt_with_torch_before_2_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That torch is the webui's: tensors are read, the trainer's callback is refused."""
    special, plain = _with_the_trainers_callback(tmp_path, monkeypatch), tmp_path / "plain.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}}, plain)
    monkeypatch.delattr(torch.serialization, "safe_globals", raising=False)
    assert read_weights(plain)["a"].tolist() == [1, 1]
    with pytest.raises(UserError, match="holds more than tensors"):
        read_weights(special)


class _Harmful:
    ran = False

    def __reduce__(self):
        return (setattr, (_Harmful, "ran", True))


def test_a_pickle_that_runs_code_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "harmful.ckpt"
    torch.save({"state_dict": {}, "x": _Harmful()}, path)
    with pytest.raises(UserError, match="could run code") as caught:
        load_host(path)
    assert "safetensors" in caught.value.hint
    assert not _Harmful.ran


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": 1}, 2)[:5]])
def test_broken_ckpt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.ckpt"):
        load_host(path)


def _edited_yaml(tiny_checkpoint: Path, tmp_path: Path, edit) -> Path:
    path = _beside(tiny_checkpoint, tmp_path, "model.safetensors")
    shutil.copy(tiny_checkpoint, path)
    content = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))
    edit(content["model"]["params"])
    path.with_suffix(".yaml").write_text(yaml.safe_dump(content))
    return path


YAML_MISTAKES = [
    (lambda p: p["unet_config"].update(target="os.system"), "unet_config.target is 'os.system'"),
    (lambda p: p["cond_stage_config"].update(target="ldm.modules.encoders.modules.FrozenT5Embedder"), "FrozenT5"),
    (lambda p: p.pop("first_stage_config"), "first_stage_config is missing"),
    (lambda p: p.update(parameterization="x0"), "parameterization is 'x0'"),
    (lambda p: p["cond_stage_config"]["params"].update(version="nowhere"), "no such folder"),
    (lambda p: p["unet_config"]["params"].update(model_channels=64), "does not fit its configuration"),
    (lambda p: p["unet_config"]["params"].update(num_res_blocks=2), "not a complete checkpoint"),
    (lambda p: p["unet_config"]["params"].update(colour="red"), "UNetModel cannot be built"),
]


@pytest.mark.parametrize(("edit", "message"), YAML_MISTAKES)
def test_mistakes_in_the_yaml(tiny_checkpoint: Path, tmp_path: Path, edit, message: str) -> None:
    path = _edited_yaml(tiny_checkpoint, tmp_path, edit)
    with pytest.raises(UserError, match=message):
        load_host(path, device="cpu")


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("a: [unclosed")
    with pytest.raises(UserError, match="cannot be read as yaml"):
        config_from_yaml(path)


def test_external_vae_with_and_without_prefix(tiny_checkpoint: Path, tmp_path: Path) -> None:
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    own = load_host(tiny_checkpoint, device="cpu")
    state = load_file(tiny_checkpoint)
    prefix = "first_stage_model."
    vae = {key: value for key, value in state.items() if key.startswith(prefix)}
    vae[prefix + "quant_conv.bias"] = vae[prefix + "quant_conv.bias"] + 1
    save_file(vae, tmp_path / "prefixed.safetensors")
    torch.save({"state_dict": {k.removeprefix(prefix): v for k, v in vae.items()}}, tmp_path / "bare.vae.pt")
    for name in ("prefixed.safetensors", "bare.vae.pt"):
        other = load_host(tiny_checkpoint, vae=tmp_path / name, device="cpu")
        torch.testing.assert_close(other.encode(image), own.encode(image) + 0.18215)
        assert other.load_report.unused == ()
        assert other.identity()["vae_hash"] == short_hash(tmp_path / name)


def test_something_else_given_as_vae(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    save_file({"lora_unet_conv_in.alpha": torch.ones(())}, path)
    with pytest.raises(UserError, match="a LoRA file, and was given as the VAE"):
        load_host(tiny_checkpoint, vae=path, device="cpu")


def test_vae_attention_may_be_stored_as_linear_layers(sd15_shapes: dict[str, tuple[int, ...]]) -> None:
    key = "first_stage_model.decoder.mid.attn_1.q.weight"
    assert sd15_shapes[key] == (512, 512, 1, 1)
    model = Model(_of_shapes({**sd15_shapes, key: (512, 512)}), None, CPU, torch.float32)
    assert model.report.missing == ()


def test_hash_is_the_start_of_sha256_and_follows_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two two"):
        path.write_bytes(content)
        assert short_hash(path) == hashlib.sha256(content).hexdigest()[:10]


def test_identity_names_what_makes_the_result(tiny_checkpoint: Path) -> None:
    identity = load_host(tiny_checkpoint, device="cpu").identity()
    assert identity["checkpoint"] == "tiny.safetensors"
    assert identity["checkpoint_hash"] == hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()[:10]


def test_opening_reads_no_weights(tiny_checkpoint: Path) -> None:
    host = load_host(tiny_checkpoint, device="cpu")
    assert not {"unet", "vae", "text"} & vars(host._model).keys()
    host.encode(torch.zeros(1, 3, 32, 32))
    assert {"unet", "vae", "text"} & vars(host._model).keys() == {"vae"}


def test_loaded_weights_are_those_of_the_file(tiny_checkpoint: Path) -> None:
    unet = load_host(tiny_checkpoint, device="cpu").unet
    state = load_file(tiny_checkpoint)
    for name, value in unet.state_dict().items():
        assert torch.equal(value, state["model.diffusion_model." + name])
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_half_precision_files_run_in_full_precision_on_the_cpu(tmp_path: Path) -> None:
    from tools.make_tiny_checkpoint import make_tiny_checkpoint

    host = load_host(make_tiny_checkpoint(tmp_path, half=True), device="cpu")
    assert host.dtype == torch.float32
    assert {parameter.dtype for parameter in host.unet.parameters()} == {torch.float32}


def test_device_and_precision_names(tiny_checkpoint: Path) -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == choose_dtype("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(UserError, match="Half precision needs a CUDA device"):
        load_host(tiny_checkpoint, device="cpu", precision="fp16")
    with pytest.raises(UserError, match="precision is 'fp8'"):
        choose_dtype("fp8", CPU)
    with pytest.raises(UserError, match="device 'toaster'"):
        choose_device("toaster")


class _FakeUNet(torch.nn.Module):
    """At pure noise an ideal noise predictor returns its input, an ideal v predictor about -x0."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0 if kind == "eps" else -4.0))

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def test_v_prediction_of_sd2_is_recognised_as_in_the_webui() -> None:
    assert predicts_v(_FakeUNet("v"))
    assert not predicts_v(_FakeUNet("eps"))
    assert sd2_config("v").parameterization == "v"


def test_yaml_decides_v_prediction(tmp_path: Path) -> None:
    from tools.make_tiny_checkpoint import make_tiny_checkpoint

    path = make_tiny_checkpoint(tmp_path, v_prediction=True)
    assert find_config(read_weights(path)).parameterization == "v"
    picture = torch.zeros(32, 32, 3, dtype=torch.uint8).numpy()
    for sampler in ("Euler", "DDIM"):
        rendered = load_host(path, device="cpu").render(RenderRequest(picture, "a", sampler=sampler, steps=3))
        assert torch.isfinite(rendered.latent).all()
