"""From the settings to a running server: which Triton, which models."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings

import cv2

from cutstream_server.memory import limit_heaps
from cutstream_server.rpc.server import Server, StartError, run_server
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.embedded.environment import TritonEnvironmentError, open_environment
from cutstream_server.segmentation.embedded.process import Launch, TritonStartError
from cutstream_server.segmentation.embedded.runs import RunError
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.external import ExternalTriton
from cutstream_server.segmentation.model_files import ModelFileError, models_in, verify_models
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.model_server import ModelServer
from cutstream_server.settings import Settings
from cutstream_server.telemetry.environment import load_variables
from cutstream_server.telemetry.start import start_telemetry
from cutstream_server.telemetry.triton_tracing import triton_trace_arguments
from cutstream_server.workers import limit_library_threads

logger = logging.getLogger(__name__)


async def serve(settings: Settings) -> None:
    """Runs the service until it is told to stop.

    Raises:
        StartError, SettingsError: with what to do about it.
    """
    limit_heaps()
    limit_library_threads()
    # Damaged images are the caller's to know, by their typed errors; the libraries would tell standard error of each.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    models = (settings.model,) if settings.triton else models_in(settings.model_repository)
    if settings.model not in models:
        places = ", ".join(str(folder) for folder in settings.model_repository)
        raise StartError(f"no model {settings.model!r} in {places}: `cutstream-server model build` makes isnet")
    variables = load_variables()
    running = start_telemetry(settings, variables)
    try:
        if not settings.triton:
            verify_models(settings.model_repository, models)
        triton = model_server(settings, models, triton_trace_arguments(variables))
        catalog = ModelCatalog({name: triton.rules.get(name, ModelRules()) for name in models})
        server = Server(settings, triton, catalog, running.telemetry)
        await run_server(server)
    except (ModelFileError, TritonStartError, TritonEnvironmentError, RunError) as error:
        raise StartError(str(error)) from error
    finally:
        await asyncio.to_thread(running.close)
    if server.busy:
        # A function that computes cannot be ended, and Python would wait for it: an encoder may need a minute more.
        logger.warning("ending without the images that were not finished in CUTSTREAM_DRAIN_SECONDS")
        os._exit(0)


def model_server(settings: Settings, models: tuple[str, ...], extra_arguments: tuple[str, ...]) -> ModelServer:
    """Chooses between the Triton at the addresses given and one of our own, with further arguments.

    Raises:
        TritonEnvironmentError: the embedded Triton's environment is not there.
    """
    if settings.triton:
        return ExternalTriton(settings.triton, models)
    environment = open_environment(settings.triton_environment)
    return EmbeddedTriton(Launch(environment, settings.model_repository, models, extra_arguments=extra_arguments))
