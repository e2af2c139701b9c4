"""Images in messages: what their URLs hold, and their size in pixels where a data URL holds the image."""

import base64
import binascii
import re
from io import BytesIO
from typing import Any

DATA_URL = re.compile(r"data:image/(jpeg|jpg|png|webp);base64,", re.IGNORECASE)
IMAGE = "image_url"  # the type of a part, and its key


def images_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the images of a message that are objects."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return [part[IMAGE] for part in parts if part.get("type") == IMAGE and isinstance(part.get(IMAGE), dict)]


def image_bytes(url: Any) -> bytes | None:
    """Return the image that a data URL holds; None for another URL, and for broken base64."""
    head = DATA_URL.match(url) if isinstance(url, str) else None
    if head is None:
        return None
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None


def format_of(image: bytes) -> str | None:
    """Return the format of an image by its first bytes, None for one that training does not take."""
    if image.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else None


def size_of(image: bytes | None) -> tuple[int, int] | None:
    """Return the width and the height of an image in pixels, None where they cannot be read."""
    import imagesize

    if image is None or format_of(image) is None:
        return None
    width, height = imagesize.get(BytesIO(image))
    return (width, height) if width > 0 and height > 0 else None
