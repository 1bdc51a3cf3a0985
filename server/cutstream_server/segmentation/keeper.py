"""Keeps the models that callers may ask for in step with what Triton can serve, without a restart of anything."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from cutstream_server.errors import CutstreamError, ModelUnavailableError
from cutstream_server.segmentation.catalog import ModelCatalog, ModelState
from cutstream_server.segmentation.connection import ModelLoadError
from cutstream_server.segmentation.embedded.supervisor import EmbeddedTriton
from cutstream_server.segmentation.model_files import ModelFileError, models_in, verify_models
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.triton import TritonClient

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks. A model that is put into a repository answers this much and its loading time later, twice over:
what has changed is left alone until it has stopped changing."""

Signature = tuple[tuple[object, ...], ...]
"""Tells one state of a model's files from another."""


class ModelKeeper(ABC):
    """Looks again and again; one for the whole service."""

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                logger.exception("looking for changed models failed; the models stay as they are")

    @abstractmethod
    async def look(self) -> None:
        """Looks once, and does what is to be done."""


class RepositoryKeeper(ModelKeeper):
    """Loads what is put into the folders of the embedded Triton, and unloads what is taken away from them.

    Args:
        triton: has the models loaded that are there now.
        catalog: is told.
        repositories: the folders.
        default: the model that stays loaded, whatever becomes of its files.
    """

    def __init__(
        self, triton: EmbeddedTriton, catalog: ModelCatalog, repositories: tuple[Path, ...], default: str
    ) -> None:
        self._triton = triton
        self._catalog = catalog
        self._repositories = repositories
        self._default = default
        self._dealt_with = signatures(repositories)
        self._seen = self._dealt_with

    async def look(self) -> None:
        """Compares the folders with what was loaded."""
        found = await asyncio.to_thread(signatures, self._repositories)
        # Those too that Triton was never there to load; the default only once, since it stays in the catalog.
        known = [*self._dealt_with, *(name for name in self._catalog.states() if name != self._default)]
        for model in dict.fromkeys(known):
            if model not in found:
                await self._unload(model)
        steady = [model for model, signature in found.items() if self._seen.get(model) == signature]
        self._seen = found
        for model in steady:
            if self._dealt_with.get(model) != found[model]:
                await self._load(model, found[model])

    async def _load(self, model: str, signature: Signature) -> None:
        """Loads a model, or its changed files; what it served before goes on until then, and when that fails."""
        serves = self._catalog.states().get(model) is ModelState.READY
        if not serves:
            self._catalog.offer(model, ModelRules(), ModelState.LOADING)
        logger.info("loading model %r", model)
        try:
            await asyncio.to_thread(verify_models, self._repositories, (model,))
            await self._triton.load(model)
        except ModelUnavailableError as error:
            logger.info("model %r cannot be loaded now: %s", model, error)  # the next look tries it again
            return
        except (ModelFileError, ModelLoadError, CutstreamError) as error:
            logger.error("model %r cannot be loaded: %s", model, error)  # noqa: TRY400 - the line says it all
            if not serves:
                self._catalog.offer(model, ModelRules(), ModelState.FAILED)
        else:
            self._catalog.offer(model, self._triton.rules[model])
            logger.info("model %r is loaded", model)
        self._dealt_with = {**self._dealt_with, model: signature}

    async def _unload(self, model: str) -> None:
        self._dealt_with = {name: signature for name, signature in self._dealt_with.items() if name != model}
        if model == self._default:
            logger.error("the files of model %r are gone; it stays loaded, since it is CUTSTREAM_MODEL", model)
            return
        logger.info("unloading model %r when its images are done", model)
        await self._catalog.withdraw(model)
        try:
            await self._triton.unload(model)
        except CutstreamError as error:
            logger.info("Triton did not unload model %r: %s", model, error)
        self._catalog.forget(model)
        logger.info("model %r is unloaded", model)


class IndexKeeper(ModelKeeper):
    """Offers what Tritons that somebody else runs have loaded. All of them are taken to serve the same models.

    Args:
        triton: asks them.
        catalog: is told.
        default: the model that is offered always.
    """

    def __init__(self, triton: TritonClient, catalog: ModelCatalog, default: str) -> None:
        self._triton = triton
        self._catalog = catalog
        self._default = default
        self._others: set[str] = set()

    async def look(self) -> None:
        """Asks a Triton for its models. One that does not answer changes nothing, one that may not be asked neither."""
        try:
            loaded = await self._triton.ready_models()
            if not loaded:
                return
            for model in loaded:
                if model not in self._others and self._catalog.states().get(model) is not ModelState.UNLOADING:
                    await self._offer(model)
        except CutstreamError as error:
            logger.debug("Triton did not list its models: %s", error)
            return
        for model in self._others - set(loaded) - {self._default}:
            logger.info("Triton has unloaded model %r", model)
            self._others.discard(model)
            if model in self._catalog.states():
                await self._catalog.withdraw(model)
                self._catalog.forget(model)

    async def _offer(self, model: str) -> None:
        rules = await self._triton.model_rules(model)
        self._others.add(model)
        if rules is not None:
            self._catalog.offer(model, rules)


def signatures(repositories: tuple[Path, ...]) -> Mapping[str, Signature]:
    """Gives, for each model that is built in the folders, what its files look like now."""
    return {model: _signature(repositories, model) for model in models_in(repositories)}


def _signature(repositories: tuple[Path, ...], model: str) -> Signature:
    files = [
        file
        for repository in repositories
        for pattern in ("config.pbtxt", "[0-9]*/*")
        for file in sorted((repository / model).glob(pattern))
    ]
    return tuple(_file_signature(file) for file in files)


def _file_signature(file: Path) -> tuple[object, ...]:
    try:
        found = file.stat()
    except OSError:
        return (str(file),)
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns
