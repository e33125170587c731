"""Text encoders against transformers and torch's own formulas, and the weights of words."""

from __future__ import annotations

import pytest
import torch

from rerender.hosts.standalone import StandaloneHost
from rerender.hosts.standalone.clip_text import ClipText
from rerender.hosts.standalone.open_clip_text import OpenClipText
from rerender.hosts.standalone.text import TextConditioner, apply_weights
from rerender.hosts.standalone.tokenizer import clip_tokenizer

CLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}


def _tokens() -> torch.Tensor:
    return torch.randint(0, 100, (2, 77), generator=torch.Generator().manual_seed(3))


def test_clip_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(vocab_size=100, max_position_embeddings=77, eos_token_id=99, **CLIP)
    reference = transformers.CLIPTextModel(config).eval()
    ours = ClipText(vocab_size=100, **CLIP)
    missing, unexpected = ours.load_state_dict(reference.state_dict(), strict=False)
    assert not missing
    assert not unexpected
    with torch.no_grad():
        expected = reference(_tokens(), output_hidden_states=True)
        torch.testing.assert_close(ours(_tokens()), expected.last_hidden_state, atol=1e-5, rtol=1e-5)
        # Clip skip 2 in the webui: the last but one hidden state, through the final norm.
        skipped = reference.text_model.final_layer_norm(expected.hidden_states[-2])
        torch.testing.assert_close(ours(_tokens(), skip=1), skipped, atol=1e-5, rtol=1e-5)


def _open_clip_formula(weights: dict[str, torch.Tensor], tokens: torch.Tensor, layers: int, heads: int) -> torch.Tensor:
    """OpenCLIP's text transformer written out with einsum: pre-norm blocks, causal attention, exact GELU."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[name + ".weight"] + weights[name + ".bias"]

    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"]
    width = x.shape[-1]
    causal = torch.ones(77, 77).tril().bool()
    for n in range(layers):
        p = f"transformer.resblocks.{n}."
        h = norm(x, p + "ln_1") @ weights[p + "attn.in_proj_weight"].T + weights[p + "attn.in_proj_bias"]
        q, k, v = (part.unflatten(-1, (heads, -1)) for part in h.chunk(3, dim=-1))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / (width // heads) ** 0.5
        attention = scores.masked_fill(~causal, float("-inf")).softmax(-1)
        h = torch.einsum("bhij,bjhd->bihd", attention, v).flatten(-2)
        x = x + h @ weights[p + "attn.out_proj.weight"].T + weights[p + "attn.out_proj.bias"]
        h = norm(x, p + "ln_2") @ weights[p + "mlp.c_fc.weight"].T + weights[p + "mlp.c_fc.bias"]
        h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
        x = x + h @ weights[p + "mlp.c_proj.weight"].T + weights[p + "mlp.c_proj.bias"]
    return norm(x, "ln_final")


@pytest.mark.parametrize("skip", [0, 1])
def test_open_clip_equals_its_formula(skip: int) -> None:
    torch.manual_seed(1)
    model = OpenClipText(width=16, layers=3, heads=2, vocab_size=100, context_length=77).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        expected = _open_clip_formula(model.state_dict(), _tokens(), 3 - skip, 2)
        torch.testing.assert_close(model(_tokens(), skip=skip), expected, atol=1e-4, rtol=1e-4)


def test_weights_scale_words_and_restore_the_mean() -> None:
    z = torch.rand(1, 3, 4) + 0.5
    weights = torch.tensor([[1.0, 1.3, 0.7]])
    result = apply_weights(z, weights)
    assert result.mean() == pytest.approx(float(z.mean()), rel=1e-5)
    scaled = torch.stack([z[0, 0], 1.3 * z[0, 1], 0.7 * z[0, 2]])[None]
    torch.testing.assert_close(result, scaled * (z.mean() / scaled.mean()))


def test_weights_of_one_change_nothing() -> None:
    z = torch.randn(1, 3, 4)
    assert torch.equal(apply_weights(z, torch.ones(1, 3)), z)


def test_a_mean_of_zero_does_not_become_nan() -> None:
    z = torch.tensor([[[1.0, -1.0], [2.0, -2.0]]])
    assert torch.equal(apply_weights(z, torch.tensor([[1.0, 1.5]])), z * torch.tensor([[[1.0], [1.5]]]))


def test_conditioning_joins_chunks(host: StandaloneHost) -> None:
    text = TextConditioner(host._model)
    one, two = text.encode("a cat"), text.encode("a cat BREAK a dog")
    assert one.shape == (1, 77, 32)
    assert two.shape == (1, 154, 32)
    torch.testing.assert_close(two[:, :77], one)
    torch.testing.assert_close(two[:, 77:], text.encode("a dog"))
    assert not torch.equal(text.encode("a cat", 2), one)


def test_sd2_pads_with_zero_after_the_end(host: StandaloneHost) -> None:
    text = TextConditioner(host._model)
    end = clip_tokenizer().end
    padded = text._pad(torch.tensor([[49406, 5, 6, end, end, end]]))
    assert padded.tolist() == [[49406, 5, 6, end, 0, 0]]
