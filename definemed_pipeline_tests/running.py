"""Whether a process that is no child of the test is still alive."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Tell whether a process is alive; one that ended and was not waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
