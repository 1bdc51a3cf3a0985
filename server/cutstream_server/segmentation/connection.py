"""One connection to one Triton: arrays in, arrays out, its failures as this service's errors.

The generated stubs of `tritonclient` are used, and not its own async client: that turns status codes into strings, and
its channel's options are all or nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.segmentation.failures import RegionLostError, translate
from cutstream_server.segmentation.model_rules import ModelRules, rules_of
from cutstream_server.segmentation.shared_memory import Region, SharedMemory
from cutstream_server.segmentation.tensors import inference_request, mask_size, read_mask

logger = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    # gRPC's own 4 MiB hold no 1024 x 1024 float mask with its frame; this is Triton's limit too.
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # Several addresses behind one name share the load.
    ("grpc.lb_policy_name", "round_robin"),
    # A Triton that came back is found at once: gRPC's own pause grows to two minutes, and a connection shared with an
    # earlier channel to the same address would be in the middle of its pause.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The embedded Triton is on this machine, whatever the environment says of proxies.
    ("grpc.enable_http_proxy", 0),
]

_UNTOUCHED = b"\xff"
"""No network answers a black image with nothing but this: NaN, and as integers a mask of ones."""


@dataclass(frozen=True)
class Prediction:
    """A network's answer.

    Attributes:
        alpha: float32 [1, 1, H, W], finite.
        version: the version of the model that answered.
    """

    alpha: NDArray[np.float32]
    version: str


class ModelLoadError(Exception):
    """Triton cannot load a model; the text is its reason."""


class TritonConnection:
    """A connection to the Triton at one address; it is made when first used and comes back by itself.

    Tensors go over the wire until `share_memory` has found a shorter way.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._channel = grpc.aio.insecure_channel(url, CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._memory: SharedMemory | None = None
        self._memory_lost = math.inf

    @property
    def seconds_without_memory(self) -> float:
        """Since Triton was found not to know the shared memory any more; 0 unless that happened."""
        return max(0.0, time.monotonic() - self._memory_lost)

    @property
    def transport(self) -> str:
        """How tensors go to Triton now: "shared_memory", or "grpc" for the wire."""
        return "shared_memory" if self._memory else "grpc"

    async def close(self, grace: float | None = None) -> None:
        """Closes it; calls under way have `grace` seconds to end."""
        await self._stop_sharing()
        await self._channel.close(grace)

    async def share_memory(self, model: str, *, headers: Mapping[str, str], timeout: float) -> None:  # noqa: ASYNC109
        """Has the model answer a small image through memory shared with it, and uses such memory from then on.

        Args:
            model: one that is served.
            headers: what Triton asks of those who register memory.
            timeout: seconds for the model's answer.

        Raises:
            CutstreamError, OSError, grpc.aio.AioRpcError: that does not work here; the wire is used.
        """
        memory = SharedMemory(self._stub, headers)
        lost, self._memory_lost = self._memory_lost, math.inf
        try:
            await memory.open()
            await self._probe(memory, model, timeout)
        except BaseException:
            self._memory_lost = lost if math.isinf(lost) else time.monotonic()
            await memory.close()
            raise
        self._memory = memory

    async def _probe(self, memory: SharedMemory, model: str, timeout: float) -> None:  # noqa: ASYNC109
        side = (await self.model_rules(model, timeout=timeout) or ModelRules()).probe_side
        image = np.zeros((1, 3, side, side), np.uint8)
        region = await memory.take(mask_size(image) + image.nbytes)
        if region is None:
            raise OSError("this machine's shared memory is short, or not Triton's")
        region.memory[:] = _UNTOUCHED * region.size
        await self._infer_shared(inference_request(model, image, timeout, ""), image, memory, region, timeout, {})
        if region.memory[: image[0, 0].size] == _UNTOUCHED * image[0, 0].size:
            raise OSError("Triton answered, and not into the shared memory")

    async def infer(
        self,
        model: str,
        image: NDArray[np.uint8],
        *,
        timeout: float,  # noqa: ASYNC109 - Triton must know it too
        version: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """Runs the network on one image. A cancelled call is cancelled in Triton's queue too.

        Args:
            model: its name.
            image: uint8 [1, 3, H, W], RGB.
            timeout: seconds, waiting in Triton's queue included.
            version: empty takes the newest.
            headers: sent along, such as `traceparent`.

        Raises:
            ModelBusyError: Triton's queue or memory is full.
            BackendLostError: Triton has lost the model's backend process.
            ModelUnavailableError: Triton does not answer.
            DeadlineError: the time ran out.
            UnknownModelError: Triton has no such model or version.
            InternalFaultError: Triton refused the request or answered with what is no mask of this image.
        """
        memory, headers = self._memory, headers or {}
        request = inference_request(model, image, timeout, version)
        region = await memory.take(mask_size(image) + image.nbytes) if memory else None
        if memory and region:
            try:
                return await self._infer_shared(request, image, memory, region, timeout, headers)
            except RegionLostError:
                logger.warning("the Triton at %s does not know the shared memory any more: taking the wire", self.url)
                self._memory_lost = time.monotonic()
                await self._stop_sharing()
                request = inference_request(model, image, timeout, version)
        request.raw_input_contents.append(image.tobytes())
        answer = await self._call(request, timeout, headers)
        return Prediction(read_mask(answer, answer.raw_output_contents[0], image), answer.model_version)

    async def _infer_shared(
        self,
        request: Any,
        image: NDArray[np.uint8],
        memory: SharedMemory,
        region: Region,
        timeout: float,  # noqa: ASYNC109 - see `infer`
        headers: Mapping[str, str],
    ) -> Prediction:
        """Runs the network on an image in a region, behind the room for the mask, and gives the region back."""
        start = mask_size(image)
        region.write(image, start)
        region.lend_to(request.inputs[0], start, image.nbytes)
        region.lend_to(request.outputs[0], 0, start)
        try:
            answer = await self._call(request, timeout, headers)
        except BaseException:
            # Triton may be at it still, whatever became of the call.
            memory.abandon(region)
            raise
        try:
            return Prediction(read_mask(answer, memoryview(region.memory), image), answer.model_version)
        finally:
            memory.give_back(region)

    async def _call(self, request: Any, timeout: float, headers: Mapping[str, str]) -> Any:  # noqa: ASYNC109
        began = time.monotonic()
        try:
            return await self._stub.ModelInfer(request, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.aio.AioRpcError as error:
            raise translate(error, request.model_name, timeout, time.monotonic() - began) from error

    async def _stop_sharing(self) -> None:
        memory, self._memory = self._memory, None
        if memory:
            await memory.close()

    async def model_rules(self, model: str, *, timeout: float) -> ModelRules | None:  # noqa: ASYNC109
        """Gives how a model may be used, None for one of another interface than the one that is served here.

        Raises:
            UnknownModelError: Triton does not serve it.
            ModelUnavailableError: Triton does not answer.
        """
        request = service_pb2.ModelConfigRequest(name=model)
        try:
            answer = await self._stub.ModelConfig(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(error, model, timeout, timeout) from error
        return rules_of(answer.config)

    async def load_model(self, model: str, *, headers: Mapping[str, str], timeout: float) -> None:  # noqa: ASYNC109
        """Has Triton load a model from its repository; `headers` are sent along.

        Raises:
            ModelLoadError: it cannot be loaded.
            ModelUnavailableError: Triton does not answer.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        try:
            await self._stub.RepositoryModelLoad(request, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise translate(error, model, timeout, timeout) from error
            raise ModelLoadError(error.details() or error.code().name) from error

    async def unload_model(self, model: str, *, headers: Mapping[str, str], timeout: float) -> None:  # noqa: ASYNC109
        """Has Triton unload a model; it answers what it has accepted for it first. `headers` are sent along.

        Raises:
            CutstreamError: Triton does not answer, or not in time.
        """
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        try:
            await self._stub.RepositoryModelUnload(request, timeout=timeout, metadata=tuple(headers.items()))
        except grpc.aio.AioRpcError as error:
            raise translate(error, model, timeout, timeout) from error

    async def ready_models(
        self,
        *,
        timeout: float,  # noqa: ASYNC109 - it is gRPC's own
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Gives the newest ready version of each model that is loaded, by name; `headers` are sent along.

        Raises:
            ModelUnavailableError: Triton does not answer.
            DeadlineError: not in time.
        """
        request = service_pb2.RepositoryIndexRequest(ready=True)
        try:
            index = await self._stub.RepositoryIndex(request, timeout=timeout, metadata=tuple((headers or {}).items()))
        except grpc.aio.AioRpcError as error:
            raise translate(error, "", timeout, timeout) from error
        versions: dict[str, str] = {}
        for entry in index.models:
            versions[entry.name] = max(versions.get(entry.name, ""), entry.version, key=lambda text: int(text or 0))
        return versions
