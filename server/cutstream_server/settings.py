"""The settings of the service, read from the environment. Nobody else reads it."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cutstream_server.errors import InvalidOptionsError
from cutstream_server.imaging.decode import MAX_PIXELS_CEILING
from cutstream_server.options import Options, parse_options

MIB = 1024 * 1024
SettingsKind = TypeVar("SettingsKind", bound=BaseModel)

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

OPTION_ENVIRONMENT = (
    "mask_threshold",
    "mask_threshold_min",
    "mask_threshold_max",
    "use_adaptive_threshold",
    "mask_quantization_bits",
    "enable_antialiasing",
    "interpolation_mode",
    "padding_percentage",
    "use_smart_padding",
    "adaptive_padding_factor",
    "enable_edge_refinement",
    "edge_refinement_radius",
    "edge_refinement_eps",
    "min_object_coverage",
    "max_object_coverage",
    "enable_quality_metrics",
    "enable_multi_scale",
    "multi_scale_factors",
    "object_validation",
    "alpha_floor",
)
"""Options with an environment variable, their name in upper case; OUTPUT_SIZE, which sets two of them, comes on top."""


class SettingsError(Exception):
    """A setting is wrong; the text is one line that names the environment variable."""


class OptionDefaults(BaseSettings):
    """The options that the environment sets; a field that is not set stays None. Fields: `OPTION_ENVIRONMENT`."""

    model_config = SettingsConfigDict(env_ignore_empty=True, case_sensitive=False, extra="ignore")

    output_size: Annotated[int | None, Field(ge=1, le=4096)] = None

    @field_validator("multi_scale_factors", mode="before", check_fields=False)
    @classmethod
    def _split_list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else value.split(",")

    @field_validator("mask_quantization_bits", mode="before", check_fields=False)
    @classmethod
    def _read_number(cls, value: object) -> object:
        # One of a few numbers: pydantic does not look for them in a text by itself.
        return int(value) if isinstance(value, str) and value.strip().isdigit() else value

    def option_values(self) -> dict[str, Any]:
        """Gives the options that are set in the environment, by name."""
        values = self.model_dump(exclude_none=True)
        side = values.pop("output_size", None)
        if side is not None:
            values |= {"output_width_px": side, "output_height_px": side}
        return values


def _option_fields() -> dict[str, Any]:
    """Makes each of `OPTION_ENVIRONMENT` an optional setting with the type and the range of its option."""
    fields: dict[str, Any] = {}
    for name in OPTION_ENVIRONMENT:
        info = Options.model_fields[name]
        checked = Annotated[info.annotation, *info.metadata, NoDecode]  # type: ignore[name-defined]
        fields[name] = (checked | None, None)
    return fields


_EnvironmentOptions = create_model("_EnvironmentOptions", __base__=OptionDefaults, **_option_fields())


class Settings(BaseSettings):
    """Operation of the service: environment variables with the prefix `CUTSTREAM_`."""

    model_config = SettingsConfigDict(env_prefix="CUTSTREAM_", env_ignore_empty=True, extra="ignore", frozen=True)

    listen: str = Field("127.0.0.1:50051", description="Address of the gRPC service; port 0 takes a free one.")
    triton: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="host:port of Triton's gRPC endpoint; empty starts the embedded Triton."
    )
    model_repository: Annotated[tuple[Path, ...], NoDecode] = Field(
        (Path("model_repository"),), description="Folders of models for the embedded Triton, comma-separated."
    )
    model: str = Field("isnet", description="Model used where a request names none.")
    profile: Literal["fast", "balanced", "quality"] = Field("balanced", description="Profile where none is named.")
    max_image_bytes: int = Field(32 * MIB, ge=1024, le=1024 * MIB, description="Largest encoded image.")
    max_image_pixels: int = Field(
        64_000_000, ge=1, le=MAX_PIXELS_CEILING, description="Most pixels of one image, read before decoding."
    )
    max_in_flight: int = Field(16, ge=1, le=4096, description="Most images in work at once, over all calls.")
    max_in_flight_per_stream: int = Field(8, ge=1, le=4096, description="Most images in work at once on one stream.")
    max_bytes_in_flight: int = Field(256 * MIB, ge=MIB, description="Most bytes of encoded images held at once.")
    image_timeout_seconds: float = Field(60, gt=0, le=3600, description="Most time for one image.")
    drain_seconds: float = Field(30, ge=0, le=3600, description="Time for accepted images after SIGTERM.")
    reflection: bool = Field(True, description="Serve gRPC reflection, which grpcurl needs.")
    allow_insecure: bool = Field(False, description="Allow plain text on an address that is not loopback.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    triton_environment: Path = Field(
        Path(sys.prefix) / "triton", description="Folder that `cutstream-server triton setup` makes."
    )

    metrics_listen: str = Field("", description="Reserved for the Prometheus endpoint; not in this version.")
    tls_cert: str = Field("", description="Reserved for TLS; not in this version.")
    tls_key: str = Field("", description="Reserved for TLS; not in this version.")
    tls_client_ca: str = Field("", description="Reserved for TLS; not in this version.")
    tokens_file: str = Field("", description="Reserved for bearer tokens; not in this version.")

    NOT_IN_THIS_VERSION: ClassVar = ("metrics_listen", "tls_cert", "tls_key", "tls_client_ca", "tokens_file")

    @field_validator("triton", "model_repository", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest port
            raise ValueError("is not HOST:PORT")
        return value

    @field_validator(*NOT_IN_THIS_VERSION)
    @classmethod
    def _is_unset(cls, value: str) -> str:
        # A security setting that is accepted and ignored would be worse than none.
        if value:
            raise ValueError("is not supported by this version; unset it")
        return value

    @model_validator(mode="after")
    def _plain_text_stays_here(self) -> Settings:
        if self.listen.rpartition(":")[0] not in LOOPBACK_HOSTS and not self.allow_insecure:
            raise ValueError(
                f"CUTSTREAM_LISTEN={self.listen} is not a loopback address and this version has no TLS; "
                "set CUTSTREAM_ALLOW_INSECURE=true on a network that you trust"
            )
        return self

    @model_validator(mode="after")
    def _largest_image_fits(self) -> Settings:
        if self.max_image_bytes > self.max_bytes_in_flight:
            raise ValueError(
                f"CUTSTREAM_MAX_IMAGE_BYTES={self.max_image_bytes} is above "
                f"CUTSTREAM_MAX_BYTES_IN_FLIGHT={self.max_bytes_in_flight}: such an image would never be admitted"
            )
        return self

    @cached_property
    def option_values(self) -> dict[str, Any]:
        """Options that the environment sets, by name: the level of the precedence above the server's defaults."""
        values = _read(_EnvironmentOptions).option_values()
        values |= {name: getattr(self, name) for name in ("model", "profile") if name in self.model_fields_set}
        try:
            parse_options(values)
        except InvalidOptionsError as error:
            lines = "; ".join(f"{v.field.upper()}: {v.description}" for v in error.violations)
            raise SettingsError(lines) from error
        return values


def load_settings() -> Settings:
    """Reads and checks the whole environment.

    Raises:
        SettingsError: with one line that names each wrong variable.
    """
    settings = _read(Settings)
    settings.option_values  # noqa: B018 - wrong options must stop the start too
    return settings


def _read(kind: type[SettingsKind]) -> SettingsKind:
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = [
            f"{(prefix + str(finding['loc'][0])).upper()}: {finding['msg']} (got {finding['input']!r})"
            if finding["loc"]
            else str(finding["msg"])
            for finding in error.errors(include_url=False)
        ]
        raise SettingsError("; ".join(lines)) from error
