"""Runs rembg for `peers`, in an environment of its own.

Reads lines of JSON, [image, cutout, options of rembg.remove], and answers each with {"seconds", "box"}: the cutout
written is cut to the box of what can be seen, since rembg's is as large as the image.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from rembg import new_session, remove
from rembg.sessions.base import BaseSession


class OncePerImage:
    """A session of rembg that answers for the same image again without the network; `seconds` is what that saved."""

    def __init__(self, session: BaseSession) -> None:
        self._session = session
        self._digest = ""
        self._masks: list[Image.Image] = []
        self._took = self.seconds = 0.0

    def begin(self, digest: str) -> None:
        """Tells which image comes next."""
        self.seconds = self._took if digest == self._digest else 0.0
        self._digest, self._masks = digest, self._masks if digest == self._digest else []

    def predict(self, image: Image.Image, *args: Any, **options: Any) -> list[Image.Image]:
        """Gives the masks of the image."""
        if not self._masks:
            began = time.perf_counter()
            self._masks = self._session.predict(image, *args, **options)
            self._took = time.perf_counter() - began
        return self._masks


session = OncePerImage(new_session("dis_custom", model_path=sys.argv[1]))
for line in sys.stdin:
    image, out, options = json.loads(line)
    session.begin(hashlib.sha256(Path(image).read_bytes()).hexdigest())
    with Image.open(image) as picture:
        picture.load()
    began = time.perf_counter()
    cutout = remove(picture, session=session, **options).convert("RGBA")
    seconds = time.perf_counter() - began + session.seconds
    left, top, right, bottom = cutout.getchannel("A").getbbox() or (0, 0, 1, 1)
    cutout.crop((left, top, right, bottom)).save(out, compress_level=1)
    sys.stdout.write(json.dumps({"seconds": seconds, "box": [left, top, right - left, bottom - top]}) + "\n")
    sys.stdout.flush()
