"""LoRA files: where their layers are, what they add, and that nothing of them stays."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from rerender.errors import UserError
from rerender.hosts.standalone import StandaloneHost, load_host
from rerender.hosts.standalone.config import sd1_config
from rerender.hosts.standalone.ldm_import import load_ldm
from rerender.hosts.standalone.lora import LoraFolder, lora_delta
from rerender.hosts.standalone.lora_names import diffusers_name, lora_targets, text_targets
from rerender.hosts.standalone.open_clip_text import OpenClipText
from rerender.hosts.standalone.prompt import LoraTag
from rerender.hosts.standalone.weights import short_hash

UP_Q = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT_FC1 = "lora_te_text_model_encoder_layers_1_mlp_fc1"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
WEIGHT_Q = "unet.output_blocks.2.1.transformer_blocks.0.attn1.to_q.weight"
WEIGHT_FC1 = "text.text_model.encoder.layers.1.mlp.fc1.weight"

BLOCK = "transformer_blocks.0."
# Pairs that are written down in kohya's and diffusers' conversion tables for SD1.
KNOWN_NAMES = [
    ("input_blocks.0.0", "conv_in"),
    ("input_blocks.1.1." + BLOCK + "attn1.to_q", "down_blocks.0.attentions.0." + BLOCK + "attn1.to_q"),
    ("input_blocks.2.1.proj_in", "down_blocks.0.attentions.1.proj_in"),
    ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
    ("input_blocks.4.0.skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
    ("input_blocks.8.1." + BLOCK + "ff.net.0.proj", "down_blocks.2.attentions.1." + BLOCK + "ff.net.0.proj"),
    ("input_blocks.11.0.in_layers.2", "down_blocks.3.resnets.1.conv1"),
    ("middle_block.0.emb_layers.1", "mid_block.resnets.0.time_emb_proj"),
    ("middle_block.1.proj_out", "mid_block.attentions.0.proj_out"),
    ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
    ("output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv"),
    ("output_blocks.3.1.proj_in", "up_blocks.1.attentions.0.proj_in"),
    ("output_blocks.5.2.conv", "up_blocks.1.upsamplers.0.conv"),
    ("output_blocks.11.1." + BLOCK + "attn2.to_out.0", "up_blocks.3.attentions.2." + BLOCK + "attn2.to_out.0"),
    ("out.2", "conv_out"),
    ("time_embed.0", "time_embedding_linear_1"),
]


@pytest.mark.parametrize(("path", "name"), KNOWN_NAMES)
def test_layer_names(path: str, name: str) -> None:
    assert diffusers_name(path, 2) == name


def test_every_layer_of_sd15_has_a_name_of_its_own() -> None:
    with torch.device("meta"):
        unet = load_ldm().openaimodel.UNetModel(**sd1_config().unet)
    layers = [path for path, module in unet.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    names = [diffusers_name(path, 2) for path in layers]
    assert None not in names
    assert len(set(names)) == len(layers)
    # 16 transformers: 8 attention projections, 2 feed-forward layers, proj_in and proj_out each.
    assert sum("attentions" in str(name) for name in names) == 16 * 12


def _pair(out: int, inside: int, rank: int, kernel: tuple[int, ...] = (), seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ones = (1,) * len(kernel)
    return {
        "lora_up.weight": torch.randn(out, rank, *ones, generator=generator),
        "lora_down.weight": torch.randn(rank, inside, *kernel, generator=generator),
        "alpha": torch.tensor(2.0),
    }


def _save(path: Path, modules: dict[str, dict[str, torch.Tensor]]) -> None:
    save_file({f"{name}.{part}": value for name, parts in modules.items() for part, value in parts.items()}, path)


def test_delta_of_a_linear_layer() -> None:
    parts = _pair(6, 5, 4)
    expected = (2.0 / 4) * parts["lora_up.weight"] @ parts["lora_down.weight"]
    torch.testing.assert_close(lora_delta(parts, torch.Size((6, 5))), expected)
    del parts["alpha"]
    torch.testing.assert_close(lora_delta(parts, torch.Size((6, 5))), 2 * expected)


def test_delta_of_a_convolution_is_one_convolution_after_another() -> None:
    parts = _pair(6, 5, 4, (3, 3))
    x = torch.randn(1, 5, 8, 8)
    low = torch.nn.functional.conv2d(x, parts["lora_down.weight"], padding=1)
    expected = 0.5 * torch.nn.functional.conv2d(low, parts["lora_up.weight"])
    found = torch.nn.functional.conv2d(x, lora_delta(parts, torch.Size((6, 5, 3, 3))), padding=1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_delta_with_a_middle_convolution() -> None:
    parts = _pair(6, 5, 4, (1, 1))
    parts["lora_mid.weight"] = torch.randn(4, 4, 3, 3)
    x = torch.randn(1, 5, 8, 8)
    low = torch.nn.functional.conv2d(x, parts["lora_down.weight"])
    middle = torch.nn.functional.conv2d(low, parts["lora_mid.weight"], padding=1)
    expected = 0.5 * torch.nn.functional.conv2d(middle, parts["lora_up.weight"])
    found = torch.nn.functional.conv2d(x, lora_delta(parts, torch.Size((6, 5, 3, 3))), padding=1)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.fixture
def lora_dir(tmp_path: Path, host: StandaloneHost) -> Path:
    """A folder with a LoRA for an attention layer, a convolution and a layer of the text encoder."""
    targets = lora_targets(host.unet, host._model.text)
    modules = {}
    for name in (UP_Q, CONV, TEXT_FC1):
        shape = targets[name].shape
        modules[name] = _pair(shape[0], shape[1], 4, tuple(shape[2:]), seed=len(name))
    (tmp_path / "sub").mkdir()
    _save(tmp_path / "sub" / "ink.safetensors", modules)
    return tmp_path


def _state(host: StandaloneHost) -> dict[str, torch.Tensor]:
    model = host._model
    return {**model.unet.state_dict(prefix="unet."), **model.text.state_dict(prefix="text.")}


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def test_weights_are_added_and_removed_bit_by_bit(host: StandaloneHost, lora_dir: Path) -> None:
    folder = LoraFolder(lora_dir)
    before = _copy(_state(host))
    weight = WEIGHT_Q
    pair = _pair(*before[weight].shape, 4, seed=len(UP_Q))
    with folder.applied([LoraTag("ink", unet=0.8, text=0.3)], host._model):
        inside = _copy(_state(host))
        changed = {name for name in before if not torch.equal(before[name], inside[name])}
    expected = before[weight] + 0.8 * (2.0 / 4) * pair["lora_up.weight"] @ pair["lora_down.weight"]
    torch.testing.assert_close(inside[weight], expected)
    pair = _pair(*before[WEIGHT_FC1].shape, 4, seed=len(TEXT_FC1))
    expected = before[WEIGHT_FC1] + 0.3 * (2.0 / 4) * pair["lora_up.weight"] @ pair["lora_down.weight"]
    torch.testing.assert_close(inside[WEIGHT_FC1], expected)
    assert changed == {
        weight,
        "unet.input_blocks.1.0.in_layers.2.weight",
        WEIGHT_FC1,
    }
    after = _state(host)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_are_removed_after_an_exception_too(host: StandaloneHost, lora_dir: Path) -> None:
    folder = LoraFolder(lora_dir)
    pointers = {name: value.data_ptr() for name, value in _state(host).items()}

    def fail() -> None:
        with folder.applied([LoraTag("ink", 1, 1)], host._model):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert {name: value.data_ptr() for name, value in _state(host).items()} == pointers


def test_two_tags_add_up(host: StandaloneHost, lora_dir: Path) -> None:
    folder = LoraFolder(lora_dir)
    with folder.applied([LoraTag("ink", 0.25, 0.25), LoraTag("ink", 0.5, 0.5)], host._model):
        twice = _copy(_state(host))
    with folder.applied([LoraTag("ink", 0.75, 0.75)], host._model):
        once = _copy(_state(host))
    torch.testing.assert_close(twice, once)


def test_a_prompt_with_a_lora_changes_its_picture_only(
    tiny_checkpoint: Path, lora_dir: Path, request_of, host: StandaloneHost
) -> None:
    with_folder = load_host(tiny_checkpoint, device="cpu", lora_dir=lora_dir)
    plain = host.render(request_of()).picture
    assert (with_folder.render(request_of(prompt="a cat<lora:ink:0>")).picture == plain).all()
    changed = with_folder.render(request_of(prompt="a cat<lora:ink:1>")).picture
    assert (changed != plain).any()
    assert (with_folder.render(request_of()).picture == plain).all()
    assert (with_folder.render(request_of(prompt="a cat<lora:ink:1>")).picture == changed).all()


def test_parts_of_open_clips_joint_projection() -> None:
    text = OpenClipText(width=8, layers=2, heads=2, vocab_size=10, context_length=77)
    targets = text_targets(text)
    joint = text.transformer.resblocks[1].attn.in_proj_weight
    for index, letter in enumerate("qkv"):
        target = targets[f"lora_te_text_model_encoder_layers_1_self_attn_{letter}_proj"]
        assert torch.equal(target.part_of(joint), joint[8 * index : 8 * index + 8])
        assert target.shape == (8, 8)


def test_a_lora_of_open_clips_keys_changes_their_rows_alone(tmp_path: Path) -> None:
    model = SimpleNamespace(
        unet=_no_layers(), text=OpenClipText(8, layers=2, heads=2, vocab_size=10, context_length=77)
    )
    joint = model.text.transformer.resblocks[1].attn.in_proj_weight
    pair = _pair(8, 8, 4)
    _save(tmp_path / "ink.safetensors", {"lora_te_text_model_encoder_layers_1_self_attn_k_proj": pair})
    before = joint.detach().clone()
    with LoraFolder(tmp_path).applied([LoraTag("ink", unet=0.0, text=0.5)], model):  # type: ignore[arg-type]
        change = joint.detach() - before
    expected = torch.zeros(24, 8)
    expected[8:16] = 0.5 * (2.0 / 4) * pair["lora_up.weight"] @ pair["lora_down.weight"]
    torch.testing.assert_close(change, expected)
    assert torch.equal(joint, before)


def _no_layers() -> torch.nn.Module:
    unet = torch.nn.Module()
    unet.num_res_blocks = 2  # type: ignore[assignment]
    return unet


def test_mistakes_are_named(host: StandaloneHost, lora_dir: Path) -> None:
    def use(name: str, folder: Path | None = lora_dir) -> None:
        with LoraFolder(folder).applied([LoraTag(name, 1, 1)], host._model):
            pass

    with pytest.raises(UserError, match="<lora:inc>: there is no such file") as caught:
        use("inc")
    assert "'ink'" in caught.value.hint
    with pytest.raises(UserError, match="no LoRA folder is set"):
        use("ink", None)
    _save(lora_dir / "sdxl.safetensors", {"lora_unet_input_blocks_77_1_proj_in": _pair(4, 4, 2)})
    with pytest.raises(UserError, match="does not fit this model"):
        use("sdxl")
    _save(lora_dir / "wide.safetensors", {UP_Q: _pair(99, 64, 2)})
    with pytest.raises(UserError, match=f"does not fit this model .*{UP_Q}"):
        use("wide")
    save_file({UP_Q + ".hada_w1_a": torch.ones(2)}, lora_dir / "loha.safetensors")
    with pytest.raises(UserError, match="LoHa"):
        use("loha")
    (lora_dir / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(UserError, match="truncated"):
        use("cut")


def test_a_file_that_was_replaced_under_its_name_is_read_again(host: StandaloneHost, lora_dir: Path) -> None:
    folder = LoraFolder(lora_dir)
    tag = LoraTag("ink", unet=1.0, text=1.0)
    file = lora_dir / "sub" / "ink.safetensors"

    def changed() -> torch.Tensor:
        with folder.applied([tag], host._model):
            return _state(host)[WEIGHT_Q].clone()

    shape = _state(host)[WEIGHT_Q].shape
    first, mark = changed(), folder.hash_of("ink")
    _save(file, {UP_Q: _pair(*shape, 4, seed=99)})
    assert folder.hash_of("ink") != mark
    assert not torch.equal(changed(), first)


def test_identity_names_the_lora_files_of_the_prompts(tiny_checkpoint: Path, lora_dir: Path) -> None:
    host = load_host(tiny_checkpoint, device="cpu", lora_dir=lora_dir)
    plain = host.identity(["a"])
    assert host.identity(["a <lora:ink:0.5>", "b <lora:ink:1>"]) == {
        **plain,
        "lora:ink": short_hash(lora_dir / "sub" / "ink.safetensors"),
    }
    with pytest.raises(UserError, match="there is no such file"):
        host.identity(["<lora:unknown:1>"])
