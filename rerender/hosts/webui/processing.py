"""The webui's processing object for one key frame."""

from __future__ import annotations

import copy
from typing import Any

from modules import scripts, shared
from modules.processing import StableDiffusionProcessingImg2Img
from PIL import Image

from rerender.errors import UserError
from rerender.host import RenderRequest

# Filled by one `process_images` call and wrong for the next one.
_OF_ONE_CALL = (
    *("sampler", "rng", "c", "uc", "all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"),
    *("main_prompt", "main_negative_prompt", "prompts", "negative_prompts", "seeds", "subseeds", "extra_network_data"),
    *("color_corrections", "overlay_images", "mask", "nmask", "image_mask", "latent_mask", "mask_for_overlay"),
    *("init_latent", "image_conditioning", "init_img_hash", "paste_to"),
)


def new_template(alwayson_scripts: dict[str, dict[str, Any]] | None = None, **fields: Any) -> Any:
    """A processing object as the webui's API makes it, for runs that do not start in the img2img tab.

    Args:
        alwayson_scripts: title → {"args": [...]}, as in the webui's API; all others get the defaults of their UI.
        fields: further fields of `StableDiffusionProcessingImg2Img`, such as styles.

    Raises:
        UserError: no always-on script of that title.
    """
    p = StableDiffusionProcessingImg2Img(
        sd_model=shared.sd_model,
        outpath_samples=shared.opts.outdir_img2img_samples,
        outpath_grids=shared.opts.outdir_img2img_grids,
        **fields,
    )
    p.is_api = True  # before the scripts: in the UI's mode some of them overwrite steps, sampler and seed
    p.scripts = scripts.scripts_img2img
    p.script_args = tuple(script_arguments(p.scripts, alwayson_scripts or {}))
    return p


def script_arguments(runner: Any, alwayson_scripts: dict[str, dict[str, Any]]) -> list[Any]:
    """The flat argument list of a script runner: each script's defaults, then the values that were given."""
    arguments = [0, *(getattr(control, "value", None) for control in runner.inputs[1:])]
    by_title = {script.title().lower(): script for script in runner.alwayson_scripts}
    for title, given in alwayson_scripts.items():
        script = by_title.get(title.lower())
        if script is None:
            raise UserError(
                f"There is no always-on script named {title!r}.", hint=f"Known: {', '.join(sorted(by_title))}."
            )
        values = list(given.get("args", []))[: script.args_to - script.args_from]
        arguments[script.args_from : script.args_from + len(values)] = values
    return arguments


def make_processing(template: Any, request: RenderRequest) -> Any:
    """A processing object that renders `request` with everything else as in `template`, which is left as it is.

    Raises:
        UserError: the template asks for a refiner.
    """
    if getattr(template, "refiner_checkpoint", None) not in (None, "", "None", "none"):
        raise UserError(
            f"The refiner {template.refiner_checkpoint!r} cannot be used: it exchanges the U-Net during a sampling.",
            hint="Switch off Refiner.",
        )
    p = copy.copy(template)
    height, width = request.picture.shape[:2]
    p.__dict__.update(
        dict.fromkeys(_OF_ONE_CALL),
        extra_generation_params=dict(template.extra_generation_params),
        override_settings=dict(template.override_settings),
        comments={},
        init_images=[Image.fromarray(request.picture)],
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        sampler_name=request.sampler,
        scheduler=request.scheduler,
        steps=request.steps,
        cfg_scale=request.cfg_scale,
        denoising_strength=request.denoising_strength,
        seed=request.seed,
        subseed=template.subseed if template.subseed_strength else 0,
        width=width,
        height=height,
        resize_mode=0,
        batch_size=1,
        n_iter=1,
        restore_faces=False,
        initial_noise_multiplier=1.0,
        do_not_save_samples=True,
        do_not_save_grid=True,
        is_hr_pass=False,
        iteration=0,
    )
    return p
