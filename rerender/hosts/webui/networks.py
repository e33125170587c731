"""The LoRA files that prompts name, as the webui's own Lora extension finds them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modules import extra_networks, hashes


def lora_hashes(prompts: Iterable[str]) -> dict[str, str]:
    """ "lora:NAME" to a hash of the file, for every `<lora:NAME:…>` in the prompts.

    Names that the extension does not know are left out: it reports them itself when a picture is rendered. The hashes
    are those it computes and caches for infotexts; where the webui runs with --no-hashing, size and time of the file.
    """
    networks = sys.modules.get("networks")
    if networks is None:  # the extension is switched off
        return {}
    found = {}
    for name in sorted(set(_names(prompts))):
        file = networks.available_networks.get(name) or networks.available_network_aliases.get(name)
        if file is not None and Path(file.filename).is_file():
            found[f"lora:{name}"] = _hash(file)
    return found


def _names(prompts: Iterable[str]) -> Iterable[str]:
    for prompt in prompts:
        _, extra = extra_networks.parse_prompt(prompt)
        yield from (parameters.items[0] for kind in ("lora", "lyco") for parameters in extra[kind] if parameters.items)


def _hash(file: Any) -> str:
    known = hashes.sha256(file.filename, f"lora/{file.name}", use_addnet_hash=file.is_safetensors)
    if known:
        return str(known)[:12]
    status = Path(file.filename).stat()
    return f"{status.st_size}-{status.st_mtime_ns}"
