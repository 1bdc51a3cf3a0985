"""Background removal for 3D-generation pipelines: the client of a Cutstream server.

Example:
    >>> import cutstream
    >>> with cutstream.Client("localhost:50051") as client:
    ...     cutout = client.remove("photo.jpg", preset="trellis")
    ...     cutout.image.size
    (518, 518)
"""

from cutstream.aio import AsyncClient
from cutstream.client import Client
from cutstream.config import KeepAliveConfig, LoadBalancingConfig, RetryConfig, TLSConfig
from cutstream.errors import CutoutError, FieldViolation
from cutstream.geometry import Box, CropBox
from cutstream.images import StreamImage
from cutstream.options import Options
from cutstream.results import (
    Centering,
    Cutout,
    Metrics,
    ModelInfo,
    PresetInfo,
    ServerInfo,
    ServerLimits,
    StageDurations,
    TritonInfo,
)

__all__ = [
    "AsyncClient",
    "Box",
    "Centering",
    "Client",
    "CropBox",
    "Cutout",
    "CutoutError",
    "FieldViolation",
    "KeepAliveConfig",
    "LoadBalancingConfig",
    "Metrics",
    "ModelInfo",
    "Options",
    "PresetInfo",
    "RetryConfig",
    "ServerInfo",
    "ServerLimits",
    "StageDurations",
    "StreamImage",
    "TLSConfig",
    "TritonInfo",
]
