"""The errors a user can cure. Everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """Say in one or two lines which thing is wrong, which value was found, and what cures it."""


def one_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 200 characters of it, or its name."""
    said = str(error).strip()
    if not said:
        return type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in said.splitlines()[0][:200])


class StoppedError(Exception):
    """Work stopped because it was asked to, and has kept what it needs to go on; the next try does."""
