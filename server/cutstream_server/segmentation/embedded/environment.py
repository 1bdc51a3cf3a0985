"""Makes the folder that the embedded Triton runs from: a virtual environment of its own, as a container would be.

It is apart from the server's because its wheel and numpy 1.26 would hold the server back. Only its files are used: the
server never imports from it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PINS = (
    # The last release that carries tritonserver (2.51.0) with stubs of the Python backend for every Python.
    "nvidia-pytriton==0.7.0",
    "openvino==2026.4.1",
    # With numpy 2 the stub hands out empty tensors and calls that success.
    "numpy==1.26.4",
)
LOCK = Path(__file__).with_name("requirements.txt")
"""The same pins with the hashes of their files: what is installed here runs as native code. `make lock` writes it."""

SUPPORTED_PYTHONS = ((3, 11), (3, 12))
"""Those that have wheels of numpy 1.26 and can run this server."""

DEFAULT_FOLDER = Path(sys.prefix) / "triton"

_STAMP = "cutstream.json"
_SETUP_HINT = "run `cutstream-server triton setup`"
_OUTPUT_LINES_SHOWN = 12


class TritonEnvironmentError(Exception):
    """The environment of the embedded Triton is missing or cannot be made; the text says what to do."""


@dataclass(frozen=True)
class TritonEnvironment:
    """The paths inside a finished environment.

    Attributes:
        folder: its root, absolute.
    """

    folder: Path

    @property
    def python_folder(self) -> Path:
        """The folder that must come first in PATH: the stub takes its site-packages from the python found there."""
        return self.folder / "bin"

    @property
    def tritonserver(self) -> Path:
        """The server's program."""
        return self._wheel / "bin" / "tritonserver"

    @property
    def python_backend(self) -> Path:
        """The folder of Triton's Python backend with the stub of this Python."""
        return self.folder / "backends" / "python"

    @cached_property
    def library_path(self) -> str:
        """LD_LIBRARY_PATH: the wheel's libraries, and this Python's own before one that the system may have."""
        return f"{self._site_packages / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"

    @property
    def _site_packages(self) -> Path:
        return self.folder / "lib" / f"python{_python_version()}" / "site-packages"

    @property
    def _wheel(self) -> Path:
        return self._site_packages / "pytriton" / "tritonserver"

    def is_current(self) -> bool:
        """Tells whether it was made to the end, from these pins, for this Python."""
        try:
            return bool(json.loads((self.folder / _STAMP).read_text()) == _recipe())
        except (OSError, ValueError):
            return False

    def lay_out_python_backend(self) -> None:
        """Copies the Python backend together: Triton refuses a library that is a link out of its backend's folder."""
        self.python_backend.mkdir(parents=True)
        stub = self._wheel / "python_backend_stubs" / _python_version() / "triton_python_backend_stub"
        backend = self._wheel / "backends" / "python"
        for file in (stub, backend / "libtriton_python.so", backend / "triton_python_backend_utils.py"):
            shutil.copy2(file, self.python_backend)

    def write_stamp(self) -> None:
        """Marks the environment as finished."""
        (self.folder / _STAMP).write_text(json.dumps(_recipe(), indent=2) + "\n")


def open_environment(folder: Path = DEFAULT_FOLDER) -> TritonEnvironment:
    """Gives the environment in a folder.

    Raises:
        TritonEnvironmentError: it is missing, unfinished, or made for other versions.
    """
    environment = TritonEnvironment(folder.absolute())
    if not environment.is_current():
        state = "is out of date" if folder.exists() else "is missing"
        raise TritonEnvironmentError(f"the embedded Triton's environment {folder} {state}; {_SETUP_HINT}")
    return environment


def make_environment(
    folder: Path = DEFAULT_FOLDER, *, force: bool = False, say: Callable[[str], None]
) -> TritonEnvironment:
    """Makes the environment unless it is there and current; one that was left half made is made again.

    Args:
        folder: where it goes; a folder that holds anything else is refused.
        force: make it again in any case.
        say: is told each step.

    Raises:
        TritonEnvironmentError: with what stands in the way and what to do about it.
    """
    environment = TritonEnvironment(folder.absolute())
    with _only_one_maker(environment.folder):
        if environment.is_current() and not force:
            say(f"the embedded Triton is ready in {folder}")
            return environment
        _check_python()
        _clear(environment.folder)
        say(f"making the embedded Triton in {folder}: {', '.join(PINS)} (135 MB to download, 430 MB on disk)")
        _run([sys.executable, "-m", "venv", str(environment.folder)], "the virtual environment could not be made")
        _install(environment)
        environment.lay_out_python_backend()
        say("checking that it starts")
        _check_programs(environment)
        environment.write_stamp()
        say(f"the embedded Triton is ready in {folder}")
    return environment


def _recipe() -> dict[str, object]:
    """What an environment is made from; another recipe means another environment."""
    return {"pins": list(PINS), "python": sys.version.split()[0], "base": sys.base_prefix}


def _python_version() -> str:
    major, minor = sys.version_info[:2]
    return f"{major}.{minor}"


def _check_python() -> None:
    if sys.version_info[:2] not in SUPPORTED_PYTHONS:
        names = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED_PYTHONS)
        raise TritonEnvironmentError(f"the embedded Triton runs on Python {names}, and this is {_python_version()}")
    library = Path(sysconfig.get_config_var("LIBDIR"), f"libpython{_python_version()}.so.1.0")
    if not library.exists():
        raise TritonEnvironmentError(
            f"{library} is missing: the embedded Triton needs a Python with a shared library "
            f"(Debian: apt install libpython{_python_version()}; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared)"
        )


def _clear(folder: Path) -> None:
    """Removes what an earlier run left; only an environment or nothing at all may stand there."""
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise TritonEnvironmentError(f"{folder} holds something else; name an empty or a new folder")
    shutil.rmtree(folder)


@contextmanager
def _only_one_maker(folder: Path) -> Iterator[None]:
    """Lets a second maker wait for the first and find its work done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(environment: TritonEnvironment) -> None:
    """Installs the pins alone: what they would bring along (pytriton's Python half, usage statistics) is not used."""
    pip = [str(environment.python_folder / "python"), "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(LOCK)]
    problem = "the packages of the embedded Triton could not be installed (they are for Linux with glibc 2.35 or newer)"
    _run(command, problem, show=True)


def _check_programs(environment: TritonEnvironment) -> None:
    """Starts each program once: a library that is missing shows here, with its name, and not at the first image."""
    variables = {"LD_LIBRARY_PATH": environment.library_path}
    stub = str(environment.python_backend / "triton_python_backend_stub")
    for command in ([str(environment.tritonserver), "--help"], [stub]):
        # Both end with 1 here, the stub for want of arguments; the loader ends a program that lacks a library with 127.
        _run(command, f"{Path(command[0]).name} does not start", variables=variables, expected=1)
    python = str(environment.python_folder / "python")
    _run([python, "-c", "import numpy, openvino; openvino.Core()"], "OpenVINO does not start")


def _run(
    command: list[str],
    problem: str,
    *,
    show: bool = False,
    variables: dict[str, str] | None = None,
    expected: int = 0,
) -> None:
    """Runs a command; its output is shown while it comes, or kept for the error."""
    output = None if show else subprocess.PIPE
    errors = None if show else subprocess.STDOUT
    result = subprocess.run(  # noqa: S603 - our own commands
        command, env=os.environ | (variables or {}), stdout=output, stderr=errors, text=True, check=False
    )
    if result.returncode != expected:
        tail = "\n".join((result.stdout or "").splitlines()[-_OUTPUT_LINES_SHOWN:])
        raise TritonEnvironmentError(f"{problem} (exit status {result.returncode}){': ' if tail else ''}{tail}")
