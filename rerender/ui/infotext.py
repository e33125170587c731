"""A key frame's generation parameters as the webui writes them, so that img2img can take them up."""

from __future__ import annotations

from collections.abc import Callable

from rerender.settings import Settings, frame_seed

Style = Callable[[str, str], tuple[str, str]]
"""What styles make of a prompt and a negative prompt."""


def infotext(settings: Settings, frame: int, seed: int | None = None, style: Style | None = None) -> str:
    """Prompts, then one line of parameters, in the webui's order and names.

    Size is not among them: that of the picture itself is sent with it.

    Args:
        seed: that the key frame was rendered with, where that is known: one that was redone or brought back had another
            than the run.
        style: puts the texts of the chosen styles into the prompts, as the webui's own infotext has them: who reads it
            finds the styles in there again.
    """
    from rerender.translate.timeline import parse_timeline, prompt_at

    prompt = prompt_at(parse_timeline(settings.prompt_timeline), frame, settings.prompt)
    negative_prompt = settings.negative_prompt
    if style is not None:
        prompt, negative_prompt = style(prompt, negative_prompt)
    parameters = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "Schedule type": settings.scheduler,
        "CFG scale": f"{settings.cfg_scale:g}",
        "Seed": frame_seed(settings, frame) if seed is None else seed,
        "Denoising strength": f"{settings.denoising_strength:g}",
        **({"Clip skip": settings.clip_skip} if settings.clip_skip > 1 else {}),
    }
    negative = [f"Negative prompt: {negative_prompt}"] if negative_prompt.strip() else []
    return "\n".join([prompt, *negative, ", ".join(f"{name}: {value}" for name, value in parameters.items())])
