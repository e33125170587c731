"""The one settings schema: names, types, defaults, bounds, labels, help texts, and what each setting invalidates.

The command line, the project manifest, the UI, the API, the infotext and the table in the docs are generated from
`Settings`. Every field names the earliest stage whose results depend on it; `rerender.project` derives from that which
results stay valid when a setting changes.
"""

from __future__ import annotations

import difflib
import functools
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from rerender._pydantic import BaseModel, Extra, Field, ValidationError
from rerender.errors import UserError

Stage = Literal["selection", "source", "first", "keys", "propagate", "output", "runtime"]
STAGES: tuple[Stage, ...] = get_args(Stage)


def _setting(default: Any, stage: Stage, help_text: str, **bounds: Any) -> Any:
    """A field. stage: the earliest stage whose results depend on the value.

    "selection": decides which frames are used, are key frames, or are masked how; results depend on those frames and
    masks, not on the value.
    "runtime": no result depends on it.
    """
    return Field(default, description=help_text, stage=stage, **bounds)


class _Section(BaseModel):
    class Config:
        extra = Extra.forbid
        allow_mutation = False
        validate_all = True


class SourceSettings(_Section):
    """Which frames of the video are used, and at what size."""

    start_frame: int = _setting(0, "selection", "First frame of the video that is used.", ge=0)
    end_frame: int = _setting(0, "selection", "Frame at which to stop (not included); 0 is the end.", ge=0)
    frame_rate: float = _setting(
        0.0,
        "selection",
        "Frames per second to use; 0 keeps each frame and its timestamp. A folder of pictures is played at this rate, "
        "0 is 25, and keeps all of them.",
        ge=0.0,
        le=240.0,
    )
    short_side: int = _setting(
        512,
        "source",
        "Short side of the rendered frames in pixels; 0 keeps the source's size.",
        ge=0,
        le=4096,
    )
    crop_left: int = _setting(0, "source", "Pixels cut off at the left of the source.", ge=0)
    crop_top: int = _setting(0, "source", "Pixels cut off at the top of the source.", ge=0)
    crop_right: int = _setting(0, "source", "Pixels cut off at the right of the source.", ge=0)
    crop_bottom: int = _setting(0, "source", "Pixels cut off at the bottom of the source.", ge=0)
    limit_frames: int = _setting(
        5000, "runtime", "Guard: refuse a selection of more frames than this; 0 is no limit.", ge=0
    )
    limit_key_frames: int = _setting(
        500, "runtime", "Guard: refuse a run with more key frames than this; 0 is no limit.", ge=0
    )
    limit_long_side: int = _setting(
        2048, "runtime", "Guard: refuse frames whose long side is larger; 0 is no limit.", ge=0
    )


class KeyFrameSettings(_Section):
    """Which frames the diffusion model renders; the rest is propagated from them."""

    key_mode: Literal["uniform", "adaptive", "listed"] = _setting(
        "uniform", "selection", "uniform: every key_interval frames. adaptive: by motion. listed: key_frames."
    )
    key_interval: int = _setting(10, "selection", "Distance between key frames; 1 renders each frame.", ge=1, le=1000)
    key_frames: str = _setting(
        "", "selection", 'Frame numbers of the key frames for key_mode "listed", such as "0, 12, 40-60:5".'
    )
    key_min_gap: int = _setting(3, "selection", "Smallest distance of adaptive key frames.", ge=1, le=1000)
    key_max_gap: int = _setting(20, "selection", "Largest distance of adaptive key frames.", ge=1, le=1000)
    key_motion: float = _setting(
        4.0,
        "selection",
        "Mean motion after which an adaptive key frame is taken, in percent of the picture's diagonal.",
        ge=0.1,
        le=100.0,
    )
    scene_cuts: bool = _setting(
        True, "selection", "Find scene cuts; every shot then has key frames and an anchor of its own."
    )


class GenerationSettings(_Section):
    """The picture, as in the webui's img2img."""

    prompt: str = _setting("", "first", "What the result should look like.")
    negative_prompt: str = _setting("", "first", "What to keep out of the picture.")
    prompt_timeline: str = _setting(
        "",
        "first",
        'Prompts from given frames on, such as "0: a meadow; 40: the meadow in snow"; before the first, prompt holds.',
    )
    sampler: str = _setting("DPM++ 2M", "first", "Sampler, by the webui's name.")
    scheduler: str = _setting("Automatic", "first", "Noise schedule, by the webui's name.")
    steps: int = _setting(20, "first", "Sampling steps.", ge=1, le=150)
    cfg_scale: float = _setting(7.5, "first", "Classifier-free guidance scale.", ge=1.0, le=30.0)
    denoising_strength: float = _setting(
        0.75, "first", "How far a key frame may leave its source: 0 keeps it, 1 forgets it.", ge=0.0, le=1.0
    )
    seed: int = _setting(0, "first", "Seed of the noise; -1 draws one for the run.", ge=-1, le=2**32 - 1)
    seed_mode: Literal["fixed", "per_frame"] = _setting(
        "fixed", "keys", "fixed: one noise for all key frames (steadier). per_frame: seed + frame number."
    )
    keep_state: bool = _setting(
        True,
        "runtime",
        "Store the reference features on disk, so that a stopped run goes on from there: the anchor's once, the others "
        "as often as that costs no more than a twentieth of the rendering. Key frames since then, or without them all "
        "of the shot, are rendered again first. Also the fusion targets, for inspect.",
    )
    clip_skip: int = _setting(1, "first", "Which layer of the text encoder counts from the end.", ge=1, le=12)
    freeu: bool = _setting(False, "first", "FreeU: stronger shapes and finer texture, without more steps.")
    freeu_b1: float = _setting(1.5, "first", "FreeU, backbone of the innermost stage; 1 changes nothing.", ge=0, le=3)
    freeu_b2: float = _setting(1.6, "first", "FreeU, backbone of the stage after it.", ge=0, le=3)
    freeu_s1: float = _setting(0.9, "first", "FreeU, skip connections of the innermost stage.", ge=0, le=3)
    freeu_s2: float = _setting(0.2, "first", "FreeU, skip connections of the stage after it.", ge=0, le=3)


class MaskSettings(_Section):
    """Where in the frame the style goes; the rest stays as it is in the source."""

    mask: str = _setting(
        "",
        "selection",
        "A mask: a video or folder of frames as long as the source, or one picture for all frames; white is inside.",
    )
    mask_side: Literal["inside", "outside"] = _setting("inside", "selection", "Which side of the mask is restyled.")
    mask_feather: int = _setting(
        4, "selection", "How far the mask's edges are softened to each side, in pixels.", ge=0, le=128
    )
    mask_background: Literal["keep", "render"] = _setting(
        "keep",
        "selection",
        "The other side of the mask. keep: exactly the source. render: restyled as well, as without a mask.",
    )


class ReferenceSettings(_Section):
    """What holds for all constraints: the anchor, and how their periods are counted."""

    reanchor_below: float = _setting(
        0.3,
        "keys",
        "A key frame that shows less than this share of the anchor becomes the new anchor; 0 keeps the first one.",
        ge=0.0,
        le=1.0,
    )
    period_unit: Literal["steps", "noise"] = _setting(
        "steps",
        "keys",
        "What starts and ends are fractions of. steps: the steps that run. noise: the noise that is taken away, "
        "which keeps its meaning for few-step models.",
    )


class AttentionSettings(_Section):
    """Cross-frame attention: the style of the references, in every step (paper, section 4.1)."""

    attention: bool = _setting(True, "keys", "Take keys and values of self-attention from the reference frames.")
    attention_start: float = _setting(0.0, "keys", "Start, as a fraction of the steps that run.", ge=0.0, le=1.0)
    attention_end: float = _setting(1.0, "keys", "End, as a fraction of the steps that run.", ge=0.0, le=1.0)
    attention_layers: Literal["all", "loose"] = _setting(
        "all", "keys", "all: every decoder layer. loose: not the innermost, for large or quick motion."
    )
    attention_references: Literal["both", "anchor", "previous"] = _setting(
        "both", "keys", "Frames that keys and values come from."
    )
    attention_tokens: Literal["all", "checkerboard"] = _setting(
        "all",
        "keys",
        "What two references give as keys and values. all: every token, which is twice as many. checkerboard: in the "
        "finest layers every other one each; hardly dearer than plain img2img and less memory, a little less effect.",
    )
    attention_own_tokens: bool = _setting(
        False, "keys", "Add the frame's own tokens to keys and values: more freedom, less consistency."
    )
    attention_update_every: int = _setting(
        1, "keys", "The previous frame's features are renewed every N key frames.", ge=1, le=1000
    )
    attention_memory: Literal["auto", "device", "host"] = _setting(
        "auto",
        "runtime",
        "Where the references' features are kept: device is quickest, host spares GPU memory, auto looks what is free.",
    )


class ShapeFusionSettings(_Section):
    """Shape-aware latent fusion: the anchor's coarse shapes, in the early steps (section 4.2)."""

    shape_fusion: bool = _setting(True, "keys", "Pull the early estimate of the picture to the warped anchor's.")
    shape_start: float = _setting(0.0, "keys", "Start, as a fraction of the steps that run.", ge=0.0, le=1.0)
    shape_end: float = _setting(0.1, "keys", "End, as a fraction of the steps that run.", ge=0.0, le=1.0)


class PixelFusionSettings(_Section):
    """Pixel-aware latent fusion: texture of what was already rendered, in the middle steps (section 4.2)."""

    pixel_fusion: bool = _setting(True, "keys", "Pull visible areas to the warped previous and first key frame.")
    pixel_start: float = _setting(0.5, "keys", "Start, as a fraction of the steps that run.", ge=0.0, le=1.0)
    pixel_end: float = _setting(0.8, "keys", "End, as a fraction of the steps that run.", ge=0.0, le=1.0)
    pixel_strength: float = _setting(0.5, "keys", "Weight of the warped picture where it is visible.", ge=0.0, le=1.0)
    pixel_inner_strength: float = _setting(
        0.9,
        "keys",
        "How much of the noise level is kept inside visible areas (1: all of it).",
        ge=0.0,
        le=1.0,
    )
    pixel_smooth_edges: bool = _setting(True, "keys", "Less noise at the edges of visible areas: no seams.")
    fidelity_encoding: bool = _setting(
        True, "keys", "Encode the warped picture without the autoencoder's loss, so that no blur builds up."
    )
    fidelity_check: bool = _setting(
        False, "keys", "Check the encoding by decoding it, and keep the plain one where it is worse; one decoding more."
    )
    passes: Literal["one_pass", "shared", "two_pass"] = _setting(
        "one_pass",
        "keys",
        "How areas that no reference shows are filled. one_pass: from the estimate at the first masked step. "
        "shared: from a direct result that shares its first steps. two_pass: from a direct result of its own, "
        "as the reference implementation does.",
    )


class DetailFusionSettings(_Section):
    """Detail fusion: the pixels of what was already rendered, after the last step (our own extension)."""

    detail_fusion: bool = _setting(
        True,
        "keys",
        "Give visible areas the pixels of the warped previous and first key frame where the new picture agrees with "
        "them: sharp and steady, without the autoencoder's loss. Costs no model call.",
    )
    detail_strength: float = _setting(1.0, "keys", "Weight of the warped picture where both agree.", ge=0.0, le=1.0)
    detail_tolerance: float = _setting(
        32.0,
        "keys",
        "Difference of the smoothed pictures, in 8-bit levels, up to which they count as agreeing; "
        "more is steadier, less keeps more of what changes.",
        ge=1.0,
        le=255.0,
    )


class ColorSettings(_Section):
    """Colour-aware adaptive instance normalisation (AdaIN), in the late steps (section 4.2)."""

    color_adain: bool = _setting(True, "keys", "Match the colour statistics of the anchor.")
    color_start: float = _setting(0.8, "keys", "Start, as a fraction of the steps that run.", ge=0.0, le=1.0)
    color_end: float = _setting(1.0, "keys", "End, as a fraction of the steps that run.", ge=0.0, le=1.0)
    color_match: bool = _setting(
        False, "keys", "Also match the finished picture's colour histogram to the anchor's, where both show the same."
    )


class PropagationSection(_Section):
    """From key frames to the full video: patch matching guided by the source, and blending (section 5)."""

    propagation_preset: Literal["fast", "default", "quality"] = _setting(
        "default", "propagate", "Speed against quality of the patch synthesis."
    )
    propagation_flow: Literal["same", "dis", "dis_fast", "dis_guided"] = _setting(
        "dis",
        "propagate",
        "Optical flow estimator between neighbouring frames; same is that of the key frames (flow).",
    )
    guide_color: float = _setting(6.0, "propagate", "Weight of the source's colours as a guide.", ge=0.0, le=100.0)
    guide_position: float = _setting(2.0, "propagate", "Weight of the position carried by flow.", ge=0.0, le=100.0)
    guide_edge: float = _setting(0.5, "propagate", "Weight of the source's edges.", ge=0.0, le=100.0)
    guide_outline: float = _setting(
        2.0,
        "propagate",
        "Weight of where outlines may be drawn: they move with what they surround. 0: they may stay behind.",
        ge=0.0,
        le=100.0,
    )
    guide_temporal: float = _setting(
        0.6, "propagate", "Weight of the frame before, carried by flow: steadier texture.", ge=0.0, le=100.0
    )
    poisson: bool = _setting(True, "propagate", "Blend in the gradient domain, so that no seams show.")
    workers: int = _setting(
        0, "runtime", "Processes for propagation on the CPU; 0 decides by cores and memory.", ge=0, le=256
    )


class OutputSettings(_Section):
    """The file that comes out."""

    quality: int = _setting(16, "output", "Constant rate factor of the video: lower is better and larger.", ge=0, le=51)
    audio: bool = _setting(True, "output", "Carry over the source's audio.")
    flow: str = _setting(
        "dis_guided",
        "keys",
        "Optical flow estimator of the key frames: dis_guided, or dis and dis_fast, which are quicker and less exact.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = _setting("auto", "runtime", "Where the computation runs.")


class Settings(
    OutputSettings,
    PropagationSection,
    DetailFusionSettings,
    ColorSettings,
    PixelFusionSettings,
    ShapeFusionSettings,
    AttentionSettings,
    ReferenceSettings,
    MaskSettings,
    GenerationSettings,
    KeyFrameSettings,
    SourceSettings,
):
    """All settings of a run. Flat: a name is unique across sections."""


SECTIONS: dict[str, type[_Section]] = {
    "Source": SourceSettings,
    "Key frames": KeyFrameSettings,
    "Generation": GenerationSettings,
    "Mask": MaskSettings,
    "References": ReferenceSettings,
    "Cross-frame attention": AttentionSettings,
    "Shape-aware fusion": ShapeFusionSettings,
    "Pixel-aware fusion": PixelFusionSettings,
    "Colour": ColorSettings,
    "Detail fusion": DetailFusionSettings,
    "Propagation": PropagationSection,
    "Output": OutputSettings,
}


@dataclass(frozen=True)
class SettingInfo:
    """One setting as a UI, a table or a parser needs it."""

    name: str
    section: str
    type: type
    default: Any
    help: str
    stage: Stage
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]

    @property
    def label(self) -> str:
        """Words for a UI: "key_interval" → "Key interval"."""
        return self.name.replace("_", " ").capitalize()

    @property
    def bounds(self) -> str:
        """The values allowed, in words: "1 to 150", "at least 0", "one of a, b"."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.type is bool:
            return "true or false"
        low, high = self.minimum, self.maximum
        if low is not None and high is not None:
            return f"{low:g} to {high:g}" if high < 1e6 else f"{low:g} to {int(high)}"
        return f"at least {low:g}" if low is not None else "any text" if self.type is str else "any number"


def _plain_type(annotation: type) -> type:
    """Pydantic turns `int` with bounds into a subclass of `int`; this is the way back."""
    return next(plain for plain in (bool, int, float, str) if issubclass(annotation, plain))


def _info(section: str, field: Any) -> SettingInfo:
    choices = get_args(field.outer_type_) if get_origin(field.outer_type_) is Literal else ()
    info = field.field_info
    return SettingInfo(
        name=field.name,
        section=section,
        type=str if choices else _plain_type(field.outer_type_),
        default=field.default,
        help=info.description,
        stage=info.extra["stage"],
        minimum=info.ge,
        maximum=info.le,
        choices=choices,
    )


def schema() -> dict[str, SettingInfo]:
    """All settings by name, in the order of their sections."""
    return {info.name: info for info in _infos()}


@functools.cache  # a panel asks hundreds of times while it is built
def _infos() -> tuple[SettingInfo, ...]:
    return tuple(_info(section, field) for section, model in SECTIONS.items() for field in model.__fields__.values())


def json_schema() -> dict[str, Any]:
    """The schema as JSON Schema (draft 7), with `stage` and `section` beside the standard keywords."""
    document = dict(Settings.schema())  # pydantic keeps its own
    infos = schema()
    document["properties"] = {
        name: {**document["properties"][name], "section": info.section} for name, info in infos.items()
    }
    document["additionalProperties"] = False
    return document


def nearest_name(name: str, names: Iterable[str]) -> str:
    """' Did you mean X?' for the most similar name, or ''."""
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else ""


def make_settings(values: Mapping[str, Any], *, base: Settings | None = None) -> Settings:
    """Check `values` (typed, or text from a command line) and lay them over `base` (default: the defaults).

    Raises:
        UserError: a name that does not exist, a value of the wrong type or out of bounds; the message names the
            setting, the value and what is allowed.
    """
    infos = schema()
    merged: dict[str, Any] = dict(base.dict()) if base is not None else {}
    for name, value in values.items():
        if name not in infos:
            hint = nearest_name(name, infos) or "`python -m rerender settings` lists all names."
            raise UserError(f"There is no setting named {name!r}.", hint=hint)
        merged[name] = _typed(infos[name], value)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise _refusal(infos[name], merged[name]) from error
    _check_together(settings)
    return settings


def _refusal(info: SettingInfo, value: Any) -> UserError:
    return UserError(f"The setting {info.name} cannot be {value!r}.", hint=f"Allowed: {info.bounds}.")


def _typed(info: SettingInfo, value: Any) -> Any:
    """Convert text to the setting's type, and refuse what pydantic would bend to fit (1.7 → 1, "no" → True)."""
    try:
        if info.type is bool:
            return _as_bool(value)
        if isinstance(value, bool):
            raise ValueError("a switch where a number or text is wanted")
        if info.type is int:
            number = float(value)
            if not number.is_integer():
                raise ValueError("not a whole number")
            return int(number)  # exact: all bounds are far below 2^53
        if info.type is float:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError("not a finite number")
            return number
        return _as_text(info, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise _refusal(info, value) from error


def _as_bool(value: Any) -> bool:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int)) and str(value).strip().lower() in words:
        return words[str(value).strip().lower()]
    raise ValueError("neither true nor false")


def _as_text(info: SettingInfo, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    if not info.choices:
        return value
    matches = [choice for choice in info.choices if choice.lower() == value.strip().lower()]
    if not matches:
        raise ValueError("not among the choices")
    return matches[0]


def _check_together(settings: Settings) -> None:
    for prefix in ("attention", "shape", "pixel", "color"):
        start, end = getattr(settings, f"{prefix}_start"), getattr(settings, f"{prefix}_end")
        if start > end:
            raise UserError(
                f"The setting {prefix}_start ({start:g}) is after {prefix}_end ({end:g}).",
                hint="Both are fractions of the steps that run; the start must not be larger.",
            )
    if settings.end_frame and settings.end_frame <= settings.start_frame:
        raise UserError(
            f"The setting end_frame ({settings.end_frame}) leaves no frame after start_frame ({settings.start_frame}).",
            hint="end_frame is not included; 0 is the end of the video.",
        )
    if settings.key_min_gap > settings.key_max_gap:
        raise UserError(
            f"The setting key_min_gap ({settings.key_min_gap}) is larger than key_max_gap ({settings.key_max_gap})."
        )


def draw_seed(settings: Settings) -> Settings:
    """The same settings with seed -1 replaced by a random one."""
    return settings if settings.seed >= 0 else settings.copy(update={"seed": secrets.randbelow(2**32)})


def flow_of_propagation(settings: Settings) -> str:
    """The name of the estimator that propagation follows."""
    return settings.flow if settings.propagation_flow == "same" else settings.propagation_flow


def values_up_to(settings: Settings, stage: Stage) -> dict[str, Any]:
    """The settings that results of `stage` depend on: those of that stage and of the stages before it."""
    last = STAGES.index(stage)
    return {
        name: getattr(settings, name)
        for name, info in schema().items()
        if info.stage not in ("selection", "runtime") and STAGES.index(info.stage) <= last
    }


def settings_table(names: Iterable[str] | None = None) -> str:
    """The schema, or the settings of these names, as a Markdown table."""
    infos = schema()
    lines = ["| setting | default | allowed | what it does |", "|---|---|---|---|"]
    for info in infos.values() if names is None else [infos[name] for name in names]:
        default = f'"{info.default}"' if info.type is str else str(info.default).lower()
        lines.append(f"| {info.name} | {default} | {info.bounds} | {info.help} |")
    return "\n".join(lines)


def frame_seed(settings: Settings, frame: int, revision: int = 0) -> int:
    """Seed of one key frame. Seed mode per_frame adds the frame number; each redo (revision) adds one."""
    return (settings.seed + revision + (frame if settings.seed_mode == "per_frame" else 0)) % 2**32
