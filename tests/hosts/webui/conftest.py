"""A webui made of stand-ins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.webui.standins import Webui, installed


@pytest.fixture
def webui() -> Iterator[Webui]:
    with installed() as stand_in:
        yield stand_in
