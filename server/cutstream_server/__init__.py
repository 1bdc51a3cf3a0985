"""Cutstream's service: images in, object-centred RGBA cutouts and quality metrics out, with the network on Triton."""

from importlib.metadata import version

__version__ = version("cutstream-server")
