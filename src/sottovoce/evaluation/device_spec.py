"""The description of an accelerator: a YAML file, checked, and those that ship with the package."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sottovoce.errors import ConfigError, did_you_mean
from sottovoce.settings import first_invalid, read_settings


class DeviceSpec(BaseModel):
    """An accelerator whose products are of int8 activations and int8 weights, expanded from codes on the way in.

    Bandwidths are bytes a second, energies picojoules. ``on_chip_bytes`` is what it has for weights. Without
    ``on_chip_bytes_per_second`` memory on the chip delays nothing; without ``codes_per_cycle`` expansion keeps pace
    with whatever brings the codes. Overheads are for each layer that runs, and for each encoder frame.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    clock_hz: float = Field(ge=1)
    macs_per_cycle: float = Field(ge=0.001)
    off_chip_bytes_per_second: float = Field(ge=1)
    on_chip_bytes: int = Field(ge=0)
    on_chip_bytes_per_second: float | None = Field(default=None, ge=1)
    pj_per_mac: float = Field(ge=0)
    pj_per_off_chip_byte: float = Field(ge=0)
    pj_per_on_chip_byte: float = Field(ge=0)
    codes_per_cycle: float | None = Field(default=None, ge=0.001)
    pj_per_code: float = Field(default=0.0, ge=0)
    layer_overhead_us: float = Field(default=0.0, ge=0)
    frame_overhead_us: float = Field(default=0.0, ge=0)


def load_device(name: str | Path) -> DeviceSpec:
    """The spec of a file, or of a name that ships with the package. Raises ConfigError naming the file and the key."""
    return parse_device(read_settings(_find(str(name)), "device", name), str(name))


def parse_device(data: dict[str, Any], source: str) -> DeviceSpec:
    """Check a spec's values. Raises ConfigError naming the source, the key, and what was found there."""
    try:
        return DeviceSpec.model_validate(data)
    except ValidationError as error:
        first, (key, why) = error.errors()[0], first_invalid(error)
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: {key}: no such key{did_you_mean(key, DeviceSpec.model_fields)}") from error
        if first["type"] == "missing":
            raise ConfigError(f"{source}: {key}: expected a value, found none") from error
        raise ConfigError(f"{source}: {key}: {why}") from error


def shipped_devices() -> list[str]:
    """Names of the devices that come with the package."""
    return sorted(x.name.removesuffix(".yaml") for x in _folder().iterdir() if x.name.endswith(".yaml"))


def _folder() -> Traversable:
    return resources.files("sottovoce") / "devices"


def _find(name: str) -> Path | Traversable:
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{name}: expected the file of a device, found a folder")
    if name in shipped_devices():
        return _folder() / f"{name}.yaml"
    raise ConfigError(f"{name}: no such device; the package has {', '.join(shipped_devices())}")
