"""Rules on images. Source: OpenAI's guide to fine-tuning with images."""

from finetune.core.records.prepared import Example
from finetune.data.checks.rule import Found, rule
from finetune.data.examples import messages_of
from finetune.data.images import format_of, image_bytes, images_of, size_of

MOST_IMAGES = 10  # of an example
MOST_MEGABYTES = 10  # of an image


@rule("content_parts", simple_chat_passes=True)
def has_few_images(example: Example) -> Found:
    count = sum(len(images_of(message)) for _, message in messages_of(example))
    if count > MOST_IMAGES:
        yield f"{count} images, but an example may have {MOST_IMAGES}", "Remove some, or divide the example."


@rule("skipped_image", "warning", simple_chat_passes=True)
def images_can_be_read(example: Example) -> Found:
    """Find images that the server leaves out without an error, and then trains on the rest."""
    for path, message in messages_of(example):
        for number, image in enumerate(images_of(message), 1):
            content = image_bytes(image.get("url"))
            if not content:
                continue
            if len(content) > MOST_MEGABYTES * 1024**2:
                yield f"{path}: image {number} has more than {MOST_MEGABYTES} MB", "Make it smaller."
            elif size_of(content) is None:
                yield f"{path}: image {number} is not a readable JPEG, PNG or WebP file", "Encode the image again."
            elif (kind := format_of(content)) and not named_as(image["url"], kind):
                yield f"{path}: image {number} is a {kind} file, but its URL says otherwise", f"Write image/{kind}."


def named_as(url: str, kind: str) -> bool:
    """Return whether a data URL says that it holds an image of a kind."""
    said = url[len("data:image/") :].partition(";")[0].lower()
    return said == kind or (said, kind) == ("jpg", "jpeg")
