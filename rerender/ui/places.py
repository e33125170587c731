"""Which files a request from outside may name."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from rerender.errors import UserError
from rerender.files import replacing


class Forbidden(UserError):  # noqa: N818
    """A path outside the allowed folders (HTTP 403)."""

    http_status = 403


class Missing(UserError):  # noqa: N818
    """Something that does not exist (HTTP 404)."""

    http_status = 404


class TooLarge(UserError):  # noqa: N818
    """An upload over the limit (HTTP 413)."""

    http_status = 413


class Busy(UserError):  # noqa: N818
    """More than this server takes at once (HTTP 429)."""

    http_status = 429


def confined(name: str, folders: Iterable[Path]) -> Path:
    """The existing file or folder `name`, which must lie in one of `folders` also after following links.

    Args:
        name: a path relative to the first folder that holds it, or an absolute one.

    Raises:
        Forbidden: it lies elsewhere, whether or not it exists there.
        Missing: it does not exist.
    """
    roots = [folder.resolve() for folder in folders]
    if not name or "\0" in name:
        raise Forbidden("The path is empty or not a path.")
    candidates = [(root / name).resolve() for root in roots]
    inside = [path for path, root in zip(candidates, roots, strict=True) if path.is_relative_to(root)]
    if Path(name).is_absolute():
        inside = [path for path in candidates[:1] if any(path.is_relative_to(root) for root in roots)]
    leads_out = any((root / name).exists() and path not in inside for path, root in zip(candidates, roots, strict=True))
    if not inside or leads_out:
        raise Forbidden(f"{name!r} lies outside the folders that are open to requests.")
    for path in inside:
        if path.exists():
            return path
    raise Missing(f"{name!r} does not exist.")


def safe_name(name: str) -> str:
    """A file name without folders and without characters that some file system refuses; never empty.

    >>> safe_name("../my clip?.mp4")
    'my clip_.mp4'
    """
    last = re.split(r"[\\/]", name)[-1]
    cleaned = re.sub(r'[<>:"|?*\x00-\x1f]', "_", last).strip(" .")
    return cleaned[-120:] or "video"


def kept_upload(uploaded: Path, uploads: Path) -> Path:
    """A copy of gradio's temporary file: a job must survive a restart. Its folder's name is the content's hash."""
    kept = uploads / uploaded.parent.name[:16] / safe_name(uploaded.name)
    if not kept.exists():
        with replacing(kept) as temporary:
            shutil.copyfile(uploaded, temporary)
    return kept


def without_folders(message: str, *files: Path | str | None) -> str:
    """A message that names files by their names alone: where uploads lie is of no use to whoever uploaded them."""
    for file in files:
        if file:
            message = message.replace(str(file), Path(file).name)
    return message
