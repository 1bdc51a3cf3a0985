"""One run of the embedded Triton: its start, its readiness, its end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from cutstream_server.memory import MOST_HEAPS
from cutstream_server.segmentation.embedded.environment import TritonEnvironment
from cutstream_server.segmentation.embedded.runs import RUN_VARIABLE, Run, open_run, scratch_folders
from cutstream_server.segmentation.embedded.watchdog import Watchdog

LOOPBACK = "127.0.0.1"
BACKENDS = Path(__file__).parent / "backend"

READY_SECONDS = 180.0
"""Time for a start. IS-Net takes 4 to 14 s, its warm-up included; a slow disk or shared cores take far longer."""

STOP_SECONDS = 10.0
"""Time for a clean end, which takes 3 to 5 s; afterwards it is killed."""

_PORT_ATTEMPTS = 3
_PORT_TAKEN = "already in use"
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 1.0
_REASON_LINES = 8
_CONTROL_HEADER = "cutstream-control"
_CONTROL_PROTOCOLS = "model-repository,shared-memory,trace,logging"
"""What does more than ask. A model can be loaded with a Python program that the call brings along, so that whoever
reaches these endpoints runs programs as this user."""

_ERROR_SIGNS = ("E", "error:")
"""How Triton begins the line of an error; the rest of a failed start is tables and the story of its shutdown."""


class TritonStartError(Exception):
    """Triton ended, or did not answer in time; the text has the reason that it gave and names its log.

    Attributes:
        log: Triton's output.
    """

    def __init__(self, problem: str, log: Path) -> None:
        self.log = log
        super().__init__(f"{problem}; its log {log} says:\n{_last_words(log)}")


@dataclass(frozen=True)
class Launch:
    """What is started.

    Attributes:
        environment: the programs.
        repositories: folders of models.
        models: the models to load, by name.
        config_name: a model takes configs/NAME.pbtxt where it has that.
        extra_arguments: further arguments of tritonserver, such as `--trace-config`.
    """

    environment: TritonEnvironment
    repositories: tuple[Path, ...]
    models: tuple[str, ...]
    config_name: str = ""
    extra_arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ports:
    """Two loopback ports. HTTP is off: any page in a browser on this machine may post to a loopback port."""

    grpc: int
    metrics: int


class TritonProcess:
    """A tritonserver with its backend processes, its run and its watchdog. Made by `start_triton`."""

    def __init__(
        self, run: Run, watchdog: Watchdog, process: asyncio.subprocess.Process, ports: Ports, control_key: str
    ) -> None:
        self.run = run
        self.ports = ports
        self.control_headers: Mapping[str, str] = {f"triton-grpc-protocol-{_CONTROL_HEADER}": control_key}
        self._watchdog = watchdog
        self._process = process

    @property
    def url(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    async def wait(self) -> int:
        """Waits for tritonserver's end and gives its exit status."""
        return await self._process.wait()

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """Ends it and removes all that it leaves.

        Args:
            grace: seconds for a clean end before it is killed; 0 kills at once.

        Raises:
            RunError: a process does not die.
        """
        if grace and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._process.wait()
        await asyncio.to_thread(self.run.remove)
        await self._process.wait()
        await asyncio.to_thread(self._watchdog.dismiss)

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109 - the error must say what was waited for
        """Waits until it answers with its models loaded.

        Raises:
            TritonStartError: it ended, or the time ran out.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._poll()
        except TimeoutError as error:
            raise TritonStartError(f"Triton was not ready after {timeout:g} s", self.run.log) from error

    async def _poll(self) -> None:
        while not await self._answers():
            if self._process.returncode is not None:
                text = f"Triton did not start (exit status {self._process.returncode})"
                raise TritonStartError(text, self.run.log)
            await asyncio.sleep(_POLL_SECONDS)

    async def _answers(self) -> bool:
        """Asks for its name: another program may have been given the port in the meantime."""
        # A channel of its own for each try, and no shared connection: a refused one would wait before the next try.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.url, options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                answer = await stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=_ANSWER_SECONDS)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.name == self.run.name)


async def start_triton(launch: Launch, ready_seconds: float = READY_SECONDS) -> TritonProcess:
    """Starts a Triton and waits until it is ready.

    Raises:
        TritonStartError: it did not become ready.
        RunError: there is no place for the run.
    """
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        scratch = scratch_folders()
        process = await _spawn(launch)
        try:
            await process.wait_ready(ready_seconds)
            process.run.note_scratch(scratch)
        except BaseException as error:
            process.run.note_scratch(scratch)
            await process.stop(grace=0)
            if isinstance(error, TritonStartError) and _PORT_TAKEN in str(error) and attempt < _PORT_ATTEMPTS:
                continue
            raise
        return process
    raise AssertionError("the last attempt returns or raises")


async def _spawn(launch: Launch) -> TritonProcess:
    """Starts the programs, the watchdog first: from here on something outlives whatever happens."""
    run = await asyncio.to_thread(open_run)
    watchdog = Watchdog(run)
    try:
        backends = _lay_out_backends(launch.environment, run)
        ports, control_key = _free_ports(), secrets.token_urlsafe()
        with run.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *_command(launch, run, ports, backends, control_key),
                env=_variables(launch.environment, run),
                cwd=run.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except BaseException:
        run.remove()
        watchdog.dismiss()
        raise
    return TritonProcess(run, watchdog, process, ports, control_key)


def _lay_out_backends(environment: TritonEnvironment, run: Run) -> Path:
    """Makes the run's backend directory of links, so that a new version of our backend is used without a new setup."""
    backends = run.folder / "backends"
    backends.mkdir()
    for backend in (environment.python_backend, *BACKENDS.iterdir()):
        (backends / backend.name).symlink_to(backend)
    return backends


def _free_ports() -> Ports:
    """Finds two ports that are free now; Triton takes no port 0. Another program may be faster: see `_PORT_TAKEN`."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return Ports(*(one.getsockname()[1] for one in sockets))


def _command(launch: Launch, run: Run, ports: Ports, backends: Path, control_key: str) -> list[str]:
    options = {
        "--id": run.name,
        "--backend-directory": str(backends),
        "--backend-config": f"python,shm-region-prefix-name={run.region_prefix}",
        # Explicit: models are loaded when asked, and one can be loaded again without a restart.
        "--model-control-mode": "explicit",
        "--grpc-address": LOOPBACK,
        "--grpc-port": str(ports.grpc),
        "--allow-http": "false",
        # Users of this machine may find the key in the list of processes; the other containers of a pod cannot.
        "--grpc-restricted-protocol": f"{_CONTROL_PROTOCOLS}:{_CONTROL_HEADER}={control_key}",
        "--metrics-address": LOOPBACK,
        "--metrics-port": str(ports.metrics),
        "--allow-gpu-metrics": "false",
    }
    if launch.config_name:
        options["--model-config-name"] = launch.config_name
    # Our backend completes no configuration, and asking it costs the start of one more Python.
    command = [str(launch.environment.tritonserver), "--disable-auto-complete-config"]
    command += [f"{name}={value}" for name, value in options.items()]
    command += [f"--model-repository={folder.absolute()}" for folder in launch.repositories]
    command += [f"--load-model={model}" for model in launch.models]
    return [*command, *launch.extra_arguments]


def _variables(environment: TritonEnvironment, run: Run) -> dict[str, str]:
    """Nothing of the service's own environment: it may hold secrets, and it would change what the stub imports."""
    return {
        RUN_VARIABLE: run.name,
        "PATH": f"{environment.python_folder}:/usr/bin:/bin",
        "LD_LIBRARY_PATH": environment.library_path,
        "TMPDIR": str(run.folder),
        "MALLOC_ARENA_MAX": str(MOST_HEAPS),
    }


def _last_words(log: Path) -> str:
    """The errors in Triton's log; its last lines when it names none, as after a crash."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith(_ERROR_SIGNS)]
    return "\n".join((errors or lines)[-_REASON_LINES:])
