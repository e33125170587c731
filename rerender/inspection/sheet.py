"""The views of a key frame under captions: one file each, and one sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rerender.errors import UserError
from rerender.files import write_png
from rerender.inspection.views import DIFFERENCE_RANGE
from rerender.motion.flow import UInt8Array
from rerender.video.compose import contact_sheet

_CAPTIONS = {
    "source": "source",
    "result": "result",
    "mask": "mask: the style goes where there is colour",
    "flow": "flow to {}: where it shows each pixel",
    "hidden": "vermillion: {} does not show it",
    "latent": "blue: latent cells hidden in {}",
    "warped": "{}, warped onto this frame",
    "target": "fusion target, as it was used",
    "target_estimate": "fusion target without its holes' filling",
    "difference": f"result - target, 0 to {DIFFERENCE_RANGE:g} levels",
}
_COLUMNS = 4
_REFERENCES = ("previous", "anchor")


def caption(name: str) -> str:
    """What the view `name` of `inspect_key_frame` shows, in a few words.

    >>> caption("warped_anchor")
    'anchor, warped onto this frame'
    """
    if name in _CAPTIONS:
        return _CAPTIONS[name]
    kind, _, reference = name.partition("_")
    return _CAPTIONS[kind].format(reference)


def inspection_sheet(views: dict[str, UInt8Array], *, cell_width: int = 304) -> UInt8Array:
    """All views under their captions, four in a row, uint8 RGB: the frame itself, then each reference."""
    own = [name for name in views if not name.endswith(tuple(f"_{r}" for r in _REFERENCES))]
    rows = [own[place : place + _COLUMNS] for place in range(0, len(own), _COLUMNS)]
    rows += [[n for n in views if n.endswith(f"_{reference}")] for reference in _REFERENCES]
    sheets = [_row(views, names, cell_width) for names in rows if names]
    return np.concatenate(sheets)


def write_inspection(views: dict[str, UInt8Array], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write every view as NAME.png, and sheet.png; returns the paths, the sheet last.

    Raises:
        UserError: see `check_folder`; or the folder cannot be written to.
    """
    check_folder(folder, overwrite=overwrite)
    pictures = {**views, "sheet": inspection_sheet(views)}
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture)
    return [folder / f"{name}.png" for name in pictures]


def check_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds files named as views are, also those of views that this key frame may not have.

    Args:
        overwrite: they may be replaced.

    Raises:
        UserError: there are some, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file.", hint="Name a folder for the pictures with --output.")
    kinds = [(kind, _REFERENCES if "{}" in words else ("",)) for kind, words in _CAPTIONS.items()]
    names = ["sheet", *(f"{kind}_{each}".rstrip("_") for kind, references in kinds for each in references)]
    there = [f"{name}.png" for name in names if (folder / f"{name}.png").exists()]
    if there and not overwrite:
        raise UserError(
            f"The output folder {folder} has {there[0]} already.",
            hint="Choose another folder, or allow its pictures to be replaced (--overwrite).",
        )


def _row(views: dict[str, UInt8Array], names: list[str], cell_width: int) -> UInt8Array:
    blank = np.full_like(next(iter(views.values())), 250)
    pictures = [views[name] for name in names] + [blank] * (_COLUMNS - len(names))
    captions = [caption(name) for name in names] + [""] * (_COLUMNS - len(names))
    return contact_sheet([pictures], [""], captions, cell_width=cell_width)
