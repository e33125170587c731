"""Earlier versions of key frames on the command line: --versions lists them, --bring-back chooses some."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

from rerender.errors import UserError
from rerender.history import Version
from rerender.project import Project
from rerender.recipes import differences_in_words


def list_versions(options: argparse.Namespace, folder: Path) -> None:
    """Print the earlier versions of a key frame, the newest first; a run may be at work on the project.

    Raises:
        UserError: there is no project, or the key frame has no earlier versions.
    """
    history = Project.as_it_is(folder).history
    known = history.versions(options.versions) or [history.find(options.versions, "")]
    for version in known:
        print(_as_json(version) if options.json else _in_words(version))  # noqa: T201


def wanted_versions(options: argparse.Namespace, project: Project) -> list[Version]:
    """The versions that --bring-back names.

    Raises:
        UserError: one is unknown, or its key frame is to be another one, too.
    """
    wanted = [project.history.find(_frame(name), name) for name in options.bring_back]
    frames = [version.frame for version in wanted]
    for version in wanted:
        if frames.count(version.frame) > 1 or version.frame in options.redo:
            raise UserError(
                f"Key frame {version.frame} cannot be {version.name} and another picture, too.",
                hint="Name it once, by --bring-back or by --redo.",
            )
    return wanted


def _frame(name: str) -> int:
    number = re.match(r"(\d+)\.", name)
    if number is None:
        hint = "Versions are named like 000040.1a2b3c4d.png; --versions 40 lists those of key frame 40."
        raise UserError(f"--bring-back {name!r} names no version.", hint=hint)
    return int(number[1])


def _in_words(version: Version) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(version.time))
    edited, differs = "edited by hand" if version.edited else "", differences_in_words(version.differs)
    return "  ".join(filter(None, [version.name, when, version.seed_in_words, edited, differs]))


def _as_json(version: Version) -> str:
    facts: dict[str, Any] = {"frame": version.frame, "version": version.name, "path": str(version.path)}
    facts |= {"seed": version.seed, "time": round(version.time, 3), "edited": version.edited}
    return json.dumps({**facts, "differs": version.differs}, ensure_ascii=False)
