"""One key frame: which constraints hold, in which passes it is sampled, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch

from rerender.diffusion.attention import cross_frame_attention
from rerender.diffusion.bank import FeatureSlot, choose_location, estimate_bytes
from rerender.diffusion.color import ColorAdaIN
from rerender.diffusion.edits import Constraint, Estimates, edits
from rerender.diffusion.freeu import FreeU, free_u
from rerender.diffusion.keep import KeepSource
from rerender.diffusion.lab import match_histograms
from rerender.diffusion.layers import AttentionLayer, decoder_layers
from rerender.diffusion.pixel import PixelFusion
from rerender.diffusion.replay import UNetTape, record_unet, replay_unet
from rerender.diffusion.shape import ShapeFusion
from rerender.diffusion.window import Window
from rerender.errors import RerenderError
from rerender.host import Host, OnStep, Rendered, RenderRequest, Sampling
from rerender.motion.occlusion import latent_mask
from rerender.motion.warp import warp
from rerender.settings import Settings
from rerender.translate.detail import fuse_detail
from rerender.translate.frames import (
    Cost,
    KeyFrame,
    Link,
    Reference,
    hidden_in_all,
    joint_cells,
    joint_estimates,
    joint_mask,
    to_image,
    to_unit,
)
from rerender.translate.target import CountedVae, FusionTarget
from rerender.video.mask import composite

Direct = Callable[[torch.Tensor], torch.Tensor]
Extra = Callable[[Sampling], AbstractContextManager[None]]


class Rendering:
    """One key frame on its way.

    Args:
        links: previous and anchor, or the anchor alone, or nothing for the first frame of a shot.
        record: gets the attention inputs; None keeps none.
        is_anchor: whether the frame is to be an anchor, whose attention inputs are kept whole.
        mask: float32 (H, W) in [0, 1], 1 where the style goes; elsewhere the source stays. None is everywhere.
    """

    def __init__(
        self,
        host: Host,
        settings: Settings,
        index: int,
        request: RenderRequest,
        links: list[Link],
        record: FeatureSlot | None,
        mask: np.ndarray | None = None,
        *,
        is_anchor: bool = False,
    ) -> None:
        self.mask, self.is_anchor = mask, is_anchor
        self.host, self.settings, self.index, self.request = host, settings, index, request
        self.links, self.record = links, record
        self.cost = Cost()
        self.vae = CountedVae(host, self.cost)
        self.estimates = Estimates()
        self.target: FusionTarget | None = None
        self.picture: np.ndarray | None = None
        self._source_latent: torch.Tensor | None = None
        self.model_calls = 0
        self.bank_size = 0
        """Bytes that the reference bank of the shot takes at most; 0 where there is none, and behind its anchor."""

    def run(self, on_step: OnStep | None, cancelled: Callable[[], bool] | None) -> None:
        """Sample the picture; in one pass, or in a direct one and a fused one.

        Raises:
            Interrupted: `cancelled` said yes.
        """
        if not self._fuses_pixels() or self.settings.passes == "one_pass":
            rendered = self._sample(self._constraints(self.vae.decode), on_step, cancelled)
        else:
            rendered = self._two_passes(on_step, cancelled)
        self.picture = np.ascontiguousarray(self._masked(self._with_detail(self._matched(rendered.picture))))

    def _masked(self, picture: np.ndarray) -> np.ndarray:
        """The finished picture, with the source outside the mask."""
        return picture if self.mask is None else composite(picture, self.request.picture, self.mask)

    def _matched(self, picture: np.ndarray) -> np.ndarray:
        """The finished picture with the anchor's colours, if that is asked for."""
        if not self.links or not self.settings.color_match:
            return picture
        anchor = self.links[-1]
        reference = warp(anchor.reference.picture, anchor.correspondence.flow)
        return match_histograms(picture, reference, 1.0 - anchor.correspondence.occlusion, self.mask)

    def _with_detail(self, picture: np.ndarray) -> np.ndarray:
        """The finished picture with the detail of what the references show, if that is asked for."""
        settings = self.settings
        if not self.links or not settings.detail_fusion:
            return picture
        return fuse_detail(
            picture,
            self.request.picture,
            self.links,
            strength=settings.detail_strength,
            tolerance=settings.detail_tolerance,
        )

    def as_reference(self) -> Reference:
        """What later key frames need of this one."""
        if self.picture is None:
            raise RerenderError("The key frame was not rendered.")
        features = self.record if self.record is not None else FeatureSlot(self.host.device)
        return Reference(self.index, self.request.picture, self.picture, self.estimates.x0, features)

    def as_key_frame(self) -> KeyFrame:
        """The result."""
        assert self.picture is not None
        fused = self.target is not None and self.target.picture is not None
        return KeyFrame(
            index=self.index,
            picture=self.picture,
            is_anchor=False,
            target=self.target.picture if fused and self.target is not None else None,
            hidden=hidden_in_all(self.links) if fused else None,
            model_calls=self.model_calls,
            cost=self.cost,
        )

    # Constraints

    def _window(self, prefix: str) -> Window:
        start, end = getattr(self.settings, f"{prefix}_start"), getattr(self.settings, f"{prefix}_end")
        return Window(start, end, self.settings.period_unit)

    def _fuses_pixels(self) -> bool:
        return bool(self.links) and self.settings.pixel_fusion and self.settings.pixel_start < self.settings.pixel_end

    def _constraints(self, direct: Direct | None) -> list[Constraint]:
        """All that are switched on. direct: fills areas that no reference shows; None leaves out pixel fusion."""
        last = [*self._kept_source(), self.estimates]
        if not self.links:
            return last
        settings, anchor = self.settings, self.links[-1]
        constraints: list[Constraint] = []
        if settings.shape_fusion:
            constraints.append(ShapeFusion(self._window("shape"), anchor.warped_estimates, anchor.mask))
        if self._fuses_pixels() and direct is not None:
            constraints.append(self._pixel_fusion(direct))
        if settings.color_adain:
            mask, warped = joint_cells(self.links), joint_estimates(self.links)
            constraints.append(ColorAdaIN(self._window("color"), warped, mask, self._style))
        return [*constraints, *last]

    @cached_property
    def _style(self) -> torch.Tensor | None:
        """Cells of which any part is rendered, (h, w) in [0, 1]; the rest of such a cell is laid over at the end."""
        return None if self.mask is None else torch.from_numpy(1.0 - latent_mask(self.mask))

    def _kept_source(self) -> list[Constraint]:
        """Holds what lies outside the mask to the source."""
        if self._style is None or bool((self._style == 1).all()):
            return []
        if self._source_latent is None:
            self._source_latent = self.vae.encode(to_image(to_unit(self.request.picture)))
        return [KeepSource(self._source_latent, self._style)]

    def _pixel_fusion(self, direct: Direct) -> PixelFusion:
        self.target = FusionTarget(self.links, direct, self.vae, self.settings)
        return PixelFusion(
            self._window("pixel"),
            self.target,
            joint_mask(self.links),
            strength=self.settings.pixel_strength,
            inner=self.settings.pixel_inner_strength,
            smooth_edges=self.settings.pixel_smooth_edges,
            seed=self.request.seed,
        )

    def _free_u(self) -> FreeU:
        settings = self.settings
        return FreeU(settings.freeu_b1, settings.freeu_b2, settings.freeu_s1, settings.freeu_s2)

    # Passes

    def _two_passes(self, on_step: OnStep | None, cancelled: Callable[[], bool] | None) -> Rendered:
        """A direct result first, which fills what no reference shows; then the fused picture."""
        shared = self.settings.passes == "shared"
        tape = UNetTape()

        def keep(sampling: Sampling) -> AbstractContextManager[None]:
            return record_unet(sampling, tape, until=self._first_fused_call(sampling))

        direct = self._sample(
            self._constraints(None),
            _half(on_step, 0),
            cancelled,
            extra=keep if shared else None,
            recorded=(lambda call: call < tape.until) if shared else (lambda call: False),
        )
        image = to_image(to_unit(direct.picture))
        fused = self._sample(
            self._constraints(lambda x0: image.to(x0)),
            _half(on_step, 1),
            cancelled,
            extra=(lambda sampling: replay_unet(sampling, tape)) if shared else None,
            recorded=(lambda call: call >= tape.until) if shared else (lambda call: True),
            replayed=tape.until,
        )
        self.cost.unet -= tape.until
        return fused

    def _first_fused_call(self, sampling: Sampling) -> int:
        """Number of model calls that the direct and the fused pass have in common."""
        steps = self._window("pixel").steps(sampling)
        first = next(i for i, call in enumerate(sampling.calls) if call.first and call.step in steps)
        return max(first, 1)  # at the very first call the fusion comes after the U-Net's answer

    def _sample(
        self,
        constraints: Sequence[Constraint],
        on_step: OnStep | None,
        cancelled: Callable[[], bool] | None,
        *,
        extra: Extra | None = None,
        recorded: Callable[[int], bool] = lambda call: True,
        replayed: int = 0,
    ) -> Rendered:
        @contextmanager
        def attach(sampling: Sampling) -> Iterator[None]:
            self.model_calls = len(sampling.calls)
            if not sampling.calls:
                yield
                return
            with ExitStack() as stack:
                stack.enter_context(self._attention(sampling, recorded, replayed))
                stack.enter_context(edits(sampling, constraints))
                if self.settings.freeu:
                    stack.enter_context(free_u(sampling, self._free_u()))
                if extra is not None:
                    stack.enter_context(extra(sampling))
                yield

        with torch.no_grad():
            rendered = self.host.render(self.request, attach=attach, on_step=on_step, cancelled=cancelled)
        self.cost.unet += self.model_calls
        self.cost.encode += 1
        self.cost.decode += 1
        return rendered

    def _attention(
        self, sampling: Sampling, recorded: Callable[[int], bool], replayed: int
    ) -> AbstractContextManager[None]:
        settings = self.settings
        window = self._window("attention")
        steps = window.steps(sampling) if settings.attention else frozenset()
        layers = decoder_layers(sampling.unet, settings.attention_layers) if settings.attention else []
        if not self.links and self.record is not None and settings.attention:
            self._settle(self.record, self._bound(layers, _calls_in(sampling, steps), sampling.rows))
        return cross_frame_attention(
            sampling,
            layers,
            references=self._feature_slots(),
            record=self.record,
            recorded_calls=recorded,
            steps=steps,
            own_tokens=settings.attention_own_tokens,
            checkerboard=self._halves_tokens(),
            record_all=self.is_anchor or not self._halves_tokens(),
            replayed=replayed,
        )

    def _halves_tokens(self) -> bool:
        """Whether two references share the tokens of the finest layers. One alone always gives all of them."""
        return self.settings.attention_tokens == "checkerboard" and self.settings.attention_references == "both"

    def _bound(self, layers: Sequence[AttentionLayer], calls: int, rows: int) -> int:
        """Bytes that the bank of the shot takes at most, in `calls` model calls of `rows`."""
        references = 1 if self.settings.attention_references == "anchor" else 2
        return estimate_bytes(
            layers,
            self._latent_size(),
            calls=calls,
            rows=rows,
            references=references,
            checkerboard=self._halves_tokens(),
        )

    def _settle(self, slot: FeatureSlot, bound: int) -> None:
        """Choose where the clip's reference bank lies, before it is filled."""
        location = choose_location(self.settings.attention_memory, bound, self.host.device)
        slot.move(location)
        self.bank_size = bound

    def _feature_slots(self) -> list[FeatureSlot]:
        """Anchor and previous as the settings ask for, each once."""
        if not self.links:
            return []
        anchor, previous = self.links[-1].reference.features, self.links[0].reference.features
        wanted = {"both": [anchor, previous], "anchor": [anchor], "previous": [previous]}
        return list({id(slot): slot for slot in wanted[self.settings.attention_references]}.values())

    def _latent_size(self) -> tuple[int, int]:
        height, width = self.request.picture.shape[:2]
        return height // 8, width // 8


def _calls_in(sampling: Sampling, steps: frozenset[int]) -> int:
    return sum(call.step in steps for call in sampling.calls)


def _half(on_step: OnStep | None, number: int) -> OnStep | None:
    """Progress of pass `number` (0 or 1) of two."""
    if on_step is None:
        return None

    def report(done: int, total: int, *_: Any) -> None:
        on_step(number * total + done, 2 * total)

    return report
