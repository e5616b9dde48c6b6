"""The errors a user can cure. Everything else is a bug and keeps its traceback."""


class UserError(Exception):
    """Say in one or two lines which thing is wrong, which value was found, and what cures it."""
