"""What one caller, and all of them together, may take: settings, `CUTSTREAM_` and their names in upper case."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from cutstream_server.imaging.decode import MAX_PIXELS_CEILING
from cutstream_server.imaging.header import ImageLimits

MIB = 1024 * 1024


class Limits(BaseSettings):
    """The part of the settings that bounds memory, time and work."""

    max_image_bytes: int = Field(32 * MIB, ge=1024, le=1024 * MIB, description="Largest encoded image.")
    max_image_pixels: int = Field(
        64_000_000, ge=1, le=MAX_PIXELS_CEILING, description="Most pixels of one image, read before decoding."
    )
    # A picture of one row and millions of columns costs resampling far more than its pixels do.
    max_image_side: int = Field(32_768, ge=1, le=65_535, description="Longest side of one image in pixels.")
    max_image_frames: int = Field(
        1000, ge=1, description="Most frames or pages in one file, of which the first is used."
    )
    max_image_chunks: int = Field(4096, ge=1, description="Most messages that one image of a stream comes in.")
    max_in_flight: int = Field(16, ge=1, le=4096, description="Most images in work at once, over all calls.")
    max_in_flight_per_stream: int = Field(8, ge=1, le=4096, description="Most images in work at once on one stream.")
    max_bytes_in_flight: int = Field(
        256 * MIB, ge=MIB, description="Most bytes held at once: encoded images, and cutouts that are not sent yet."
    )
    # 11 to 19 bytes a pixel (docs/performance.md): two of the largest images, or ten photos of 12 megapixels.
    max_pixels_in_flight: int = Field(128_000_000, ge=1, description="Most decoded pixels held at once.")
    max_streams: int = Field(64, ge=1, description="Most streams open at once.")
    max_calls_per_connection: int = Field(
        128, ge=1, description="Most calls and streams at once on one connection; a client's gRPC makes others wait."
    )
    image_timeout_seconds: float = Field(60, gt=0, le=3600, description="Most time for one image.")
    # The slowest that is read, 64 megapixels of AVIF, takes 3 s on one core that it has for itself.
    decode_seconds: float = Field(20, gt=0, le=3600, description="Most time for decoding one image.")
    pause_seconds: float = Field(
        30, gt=0, le=3600, description="Longest silence of a client in the middle of an image, sending or receiving."
    )
    upload_seconds: float = Field(120, gt=0, le=3600, description="Most time for the upload of one image.")
    drain_seconds: float = Field(30, ge=0, le=3600, description="Time for accepted images after SIGTERM.")

    @property
    def image(self) -> ImageLimits:
        """The limits that an image's header must keep."""
        return ImageLimits(self.max_image_pixels, self.max_image_side, self.max_image_frames)

    @model_validator(mode="after")
    def _largest_image_fits(self) -> Self:
        for of_one, of_all in (
            ("max_image_bytes", "max_bytes_in_flight"),
            ("max_image_pixels", "max_pixels_in_flight"),
        ):
            if getattr(self, of_one) > getattr(self, of_all):
                raise ValueError(
                    f"CUTSTREAM_{of_one.upper()}={getattr(self, of_one)} is above "
                    f"CUTSTREAM_{of_all.upper()}={getattr(self, of_all)}: such an image would never be admitted"
                )
        return self
