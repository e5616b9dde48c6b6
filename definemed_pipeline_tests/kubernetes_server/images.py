"""Container images, of which this server has none: a name is right or wrong, and can be pulled, cannot be, or takes its time."""

import re

# distribution/reference: [host[:port]/]path[:tag][@digest]
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
HOST = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*(?::\d+)?"
NAME = re.compile(rf"(?:{HOST}/)?{PART}(?:/{PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)


class Registry:
    """What happens to whoever pulls an image now."""

    def __init__(self) -> None:
        self.is_slow = False
        self.is_missing = False

    def objection(self, image: str) -> tuple[str, str] | None:
        """Return reason and message of a container that waits for its image, or None where it is there."""
        if not NAME.fullmatch(image):
            return (
                "InvalidImageName",
                f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": invalid reference format',
            )
        if self.is_missing:
            return (
                "ErrImagePull",
                f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": {image}: not found',
            )
        return ("ContainerCreating", "") if self.is_slow else None
