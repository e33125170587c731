"""A key frame's generation parameters as the webui writes them, so that img2img can take them up."""

from __future__ import annotations

from rerender.settings import Settings


def infotext(settings: Settings, frame: int) -> str:
    """Prompts, then one line of parameters, in the webui's order and names.

    Size is not among them: that of the picture itself is sent with it. A key frame that was redone had another seed
    than the run, which is not told here.
    """
    from rerender.translate.timeline import parse_timeline, prompt_at

    prompt = prompt_at(parse_timeline(settings.prompt_timeline), frame, settings.prompt)
    seed = settings.seed + (frame if settings.seed_mode == "per_frame" else 0)
    parameters = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "Schedule type": settings.scheduler,
        "CFG scale": f"{settings.cfg_scale:g}",
        "Seed": seed % 2**32,
        "Denoising strength": f"{settings.denoising_strength:g}",
        **({"Clip skip": settings.clip_skip} if settings.clip_skip > 1 else {}),
    }
    negative = [f"Negative prompt: {settings.negative_prompt}"] if settings.negative_prompt.strip() else []
    return "\n".join([prompt, *negative, ", ".join(f"{name}: {value}" for name, value in parameters.items())])
