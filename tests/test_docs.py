from __future__ import annotations

import re
from pathlib import Path

import pytest

from rerender.presets import BUILT_IN
from rerender.settings import schema, settings_table

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_table_of_settings_is_what_the_schema_gives() -> None:
    """After a change of the schema: python -m rerender settings --format table, into docs/settings.md."""
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_the_guide_names_settings_and_presets_that_exist() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    table = guide.split("| you see |")[1].split("\n\n")[0]
    named = {name.lower() for name in re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", table)}
    assert len(named) > 15
    assert named <= {info.label.lower() for info in schema().values()}
    presets = set(re.findall(r"\*\*([^*]+)\*\*", guide.split("choose a *Preset*")[1].split("*Save as*")[0]))
    assert {" ".join(name.split()) for name in presets} <= {preset.name for preset in BUILT_IN}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_settings_in_commands_exist(document: Path) -> None:
    named = re.findall(r"--set[ =]([a-z_0-9]+)=", document.read_text(encoding="utf-8"))
    assert set(named) <= {*schema(), "name"}


def test_python_in_the_guide_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "guide.md", "exec")
