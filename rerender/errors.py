"""The errors that reach a user, and the exit status each of them stands for."""

from __future__ import annotations


class RerenderError(Exception):
    """A run failed for a reason that is not the user's mistake (exit status 1)."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UserError(RerenderError):
    """Bad input: names the value and the way out (exit status 2)."""

    exit_status = 2


class Interrupted(RerenderError):  # noqa: N818  (a request that was obeyed, not an error)
    """The user asked to stop; everything finished so far is kept (exit status 130)."""

    exit_status = 130

    def __init__(
        self,
        message: str = "Stopped.",
        *,
        hint: str = "Everything finished is kept; the same command goes on from here.",
    ) -> None:
        super().__init__(message, hint=hint)
