"""The settings of the service, read from the environment. Nobody else reads it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cutstream_server.errors import InvalidOptionsError
from cutstream_server.limits import Limits
from cutstream_server.options import Options, parse_options

SettingsKind = TypeVar("SettingsKind", bound=BaseModel)

SECRET = re.compile(r"-----BEGIN|\n|cst_[\w-]{43}")
"""What a key or a token has and the name of a file has not."""

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


class Settings(Limits):
    """Operation of the service: environment variables with the prefix `CUTSTREAM_`."""

    model_config = SettingsConfigDict(env_prefix="CUTSTREAM_", env_ignore_empty=True, extra="ignore", frozen=True)

    listen: str = Field("127.0.0.1:50051", description="Address of the gRPC service; port 0 takes a free one.")
    triton: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="host:port of each Triton's gRPC endpoint, comma-separated; empty starts the embedded Triton."
    )
    model_repository: Annotated[tuple[Path, ...], NoDecode] = Field(
        (Path("model_repository"),), description="Folders of models for the embedded Triton, comma-separated."
    )
    model: str = Field("isnet", description="Model used where a request names none.")
    profile: Literal["fast", "balanced", "quality"] = Field("balanced", description="Profile where none is named.")
    reflection: bool = Field(True, description="Serve gRPC reflection, which grpcurl needs.")
    allow_insecure: bool = Field(False, description="Allow plain text on an address that is not loopback.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="Lines for people or one JSON object a line.")
    log_images: bool = Field(False, description="Log a line at level info for every image, not only at debug.")
    triton_environment: Path = Field(
        Path(sys.prefix) / "triton", description="Folder that `cutstream-server triton setup` makes."
    )

    metrics_listen: str | None = Field(
        None, description="Address of the Prometheus endpoint, HOST:PORT; port 0 takes a free one. Unset: none."
    )
    tls_cert: Path | None = Field(None, description="PEM file with the service's certificate chain: turns TLS on.")
    tls_key: Path | None = Field(None, description="PEM file with its private key.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with the authorities of client certificates: asks every client for one."
    )
    tokens_file: Path | None = Field(
        None, description="File of `cutstream-server token new`: asks every call for a bearer token."
    )

    FILES: ClassVar = ("tls_cert", "tls_key", "tls_client_ca", "tokens_file")

    @field_validator("triton", "model_repository", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest port
            raise ValueError("is not HOST:PORT")
        return value

    @field_validator(*FILES, mode="before")
    @classmethod
    def _names_a_file(cls, value: object) -> object:
        if isinstance(value, str) and SECRET.search(value):
            raise ValueError("holds a secret; put that into a file and name the file here")
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("CUTSTREAM_TLS_CERT and CUTSTREAM_TLS_KEY must both be set")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("CUTSTREAM_TLS_CLIENT_CA needs CUTSTREAM_TLS_CERT and CUTSTREAM_TLS_KEY")
        return self

    @model_validator(mode="after")
    def _plain_text_stays_here(self) -> Settings:
        if self.leaves_the_machine_in_plain_text and not self.allow_insecure:
            raise ValueError(
                f"CUTSTREAM_LISTEN={self.listen} is not a loopback address: set CUTSTREAM_TLS_CERT and "
                "CUTSTREAM_TLS_KEY, or CUTSTREAM_ALLOW_INSECURE=true on a network that you trust"
            )
        return self

    @property
    def leaves_the_machine_in_plain_text(self) -> bool:
        """Whether others could read along: no TLS, and an address that is not loopback."""
        return self.tls_cert is None and self.listen.rpartition(":")[0] not in LOOPBACK_HOSTS

    @cached_property
    def option_values(self) -> dict[str, Any]:
        """Options that the environment sets, by name: the level of the precedence above the server's defaults."""
        values = read_environment(_EnvironmentOptions).option_values()
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
    settings = read_environment(Settings)
    settings.option_values  # noqa: B018 - wrong options must stop the start too
    return settings


def read_environment(kind: type[SettingsKind]) -> SettingsKind:
    """Reads one kind of settings.

    Raises:
        SettingsError: with one line that names each wrong variable.
    """
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = [_wrong(prefix, finding) for finding in error.errors(include_url=False)]
        raise SettingsError("; ".join(lines)) from error


def _wrong(prefix: str, finding: Mapping[str, Any]) -> str:
    """Says what is wrong with a variable; a value that may be a secret is not shown, for this goes to logs."""
    if not finding["loc"]:
        return str(finding["msg"])
    name = str(finding["loc"][0])
    value = "" if name in Settings.FILES else f" (got {finding['input']!r})"
    return f"{(prefix + name).upper()}: {finding['msg']}{value}"
