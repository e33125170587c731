"""Who may use our routes: whoever may use the webui's."""

from __future__ import annotations

from collections.abc import Callable
from secrets import compare_digest
from typing import Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import initialize_util, shared

_ASK = {"WWW-Authenticate": "Basic"}


def credentials() -> dict[str, str]:
    """User → password of --api-auth, and of --gradio-auth where that is used."""
    pairs = [text.split(":", 1) for text in (shared.cmd_opts.api_auth or "").split(",") if ":" in text]
    found = {user.strip(): password.strip() for user, password in pairs}
    found.update(dict(initialize_util.get_gradio_auth_creds()))
    return found


def dependencies(app: Any) -> list[Any]:
    """The FastAPI dependencies of every route: none where the webui is open to everybody.

    The webui adds its own check to its own routes only; routes of extensions stay open unless they ask themselves.
    Basic credentials count, and so does the cookie of somebody who logged in to the page.
    """
    known = credentials()
    return [Depends(_check(app, known))] if known else []


def _check(app: Any, known: dict[str, str]) -> Callable[..., None]:
    basic = HTTPBasic(auto_error=False)

    def check(request: Request, given: HTTPBasicCredentials = Depends(basic)) -> None:  # noqa: B008
        if given is not None and _matches(known, given):
            return
        if _logged_in(app, request):
            return
        raise HTTPException(401, "Incorrect username or password", headers=_ASK)

    return check


def _matches(known: dict[str, str], given: HTTPBasicCredentials) -> bool:
    expected = known.get(given.username)
    return expected is not None and compare_digest(expected.encode(), given.password.encode())


def _logged_in(app: Any, request: Request) -> bool:
    token = request.cookies.get("access-token") or request.cookies.get("access-token-unsecure")
    return bool(token) and token in getattr(app, "tokens", {})
