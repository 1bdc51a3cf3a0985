"""From the settings to a running server: which Triton, which models."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2

from cutstream_server.rpc.server import Server, StartError, run_server
from cutstream_server.segmentation.embedded.environment import TritonEnvironmentError, open_environment
from cutstream_server.segmentation.embedded.process import Launch, TritonStartError
from cutstream_server.segmentation.embedded.runs import RunError
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.external import ExternalTriton
from cutstream_server.segmentation.model_server import ModelServer
from cutstream_server.settings import Settings
from cutstream_server.workers import limit_library_threads


async def serve(settings: Settings) -> None:
    """Runs the service until it is told to stop.

    Raises:
        StartError: with what to do about it.
    """
    limit_library_threads()
    # Damaged images are the caller's to know, by their typed errors; the libraries would tell standard error of each.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    models = (settings.model,) if settings.triton else models_in(settings.model_repository)
    if settings.model not in models:
        places = ", ".join(str(folder) for folder in settings.model_repository)
        raise StartError(f"no model {settings.model!r} in {places}: `cutstream-server model build` makes isnet")
    try:
        await run_server(Server(settings, model_server(settings, models), models))
    except (TritonStartError, TritonEnvironmentError, RunError) as error:
        raise StartError(str(error)) from error


def model_server(settings: Settings, models: tuple[str, ...]) -> ModelServer:
    """Chooses between the Triton at the addresses given and one of our own.

    Raises:
        TritonEnvironmentError: the embedded Triton's environment is not there.
    """
    if settings.triton:
        return ExternalTriton(settings.triton, models)
    return EmbeddedTriton(Launch(open_environment(settings.triton_environment), settings.model_repository, models))


def models_in(repositories: tuple[Path, ...]) -> tuple[str, ...]:
    """Finds the models that are built: folders with a configuration and a version."""
    return tuple(
        sorted(
            config.parent.name
            for repository in repositories
            for config in repository.glob("*/config.pbtxt")
            if any(config.parent.glob("[0-9]*/*"))
        )
    )
