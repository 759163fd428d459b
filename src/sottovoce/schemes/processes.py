"""What several processes share: rows of a parameter that each of them holds (FSDP2), and codebooks that are the same.

A sharded parameter is a DTensor. Its name, shape and row ranges are those of the whole; work in place is done on the
rows that are here, and whatever needs all rows (levels, codes) gathers them first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sottovoce.errors import PlanError
from sottovoce.quant.codebook import Codebook
from sottovoce.quant.weights import is_flattened


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor; asked so, because importing them takes seconds."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, sharing its memory; gradients go through."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return part


def gathered(tensor: Tensor) -> Tensor:
    """The whole tensor, in every process; all of them must call this."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return whole


def gathered_rows(rows: Tensor, start: int, like: Tensor) -> Tensor:
    """A whole tensor shaped as ``like`` as an (R, C) matrix, from the rows that each process has of it.

    rows: (R_here, C), which begin at row ``start`` of those that this process holds; rows that nobody gives are zero.
    """
    if not is_sharded(like):
        return rows
    part = torch.zeros_like(local(like))
    part.view(len(part), rows.shape[1])[start : start + len(rows)] = rows
    made: Any = type(like.data).from_local(  # type: ignore[attr-defined]
        part,
        like.device_mesh,  # type: ignore[attr-defined]
        like.placements,  # type: ignore[attr-defined]
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
    whole: Tensor = made.full_tensor()
    return whole.view(len(whole), -1)


def held_rows(name: str, parameter: Tensor) -> tuple[int, int]:
    """First row that this process holds of a parameter, and the row after its last.

    Raises PlanError, naming the parameter, where it is cut otherwise than along its rows.
    """
    start, stop = 0, int(parameter.shape[0])
    if not is_sharded(parameter):
        return start, stop
    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    cuts = [axis for axis, placement in enumerate(placements) if not placement.is_replicate()]
    plain = all(type(placements[axis]).__name__ == "Shard" and placements[axis].dim == 0 for axis in cuts)
    if not plain or len(cuts) > 1:
        raise PlanError(
            f"{name}: expected rows shared out over one axis of processes (Shard(0)), found placements {placements}"
        )
    for axis in cuts:
        piece = -(-stop // mesh.size(axis))  # as torch.chunk cuts: equal pieces, the last ones shorter or empty
        start = min(mesh.get_local_rank(axis) * piece, stop)
        stop = min(start + piece, stop)
    if local(parameter).shape[0] != stop - start:
        raise PlanError(
            f"{name}: expected {stop - start} rows in this process (pieces as torch.chunk cuts them), found "
            f"{local(parameter).shape[0]}"
        )
    return start, stop


def processes_of(model: nn.Module) -> dist.ProcessGroup | None:
    """The processes that hold a copy or a part of the model, where the model itself says so."""
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return processes_of(compiled)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        group: dist.ProcessGroup = model.process_group
        return group
    for parameter in model.parameters():
        if is_sharded(parameter):
            mesh = parameter.device_mesh  # type: ignore[attr-defined]
            inner: dist.ProcessGroup | None = mesh.get_group() if mesh.ndim == 1 else dist.group.WORLD
            return inner
    return None


def agreed(codebook: Codebook, group: dist.ProcessGroup | None) -> Codebook:
    """The codebook of the group's first process.

    Sums on an accelerator need not be the same to the bit everywhere, and copies of a model must not drift apart.
    """
    if group is None or dist.get_world_size(group) == 1:
        return codebook
    first = dist.get_global_rank(group, 0)
    levels, scale = codebook.levels.clone(), codebook.scale.clone()
    dist.broadcast(levels, first, group)
    dist.broadcast(scale, first, group)
    return replace(codebook, levels=levels, scale=scale)


def reshard(model: nn.Module) -> None:
    """Put FSDP2's shards back in their modules, which after a forward without backward hold whole copies.

    Raises PlanError for FSDP1, whose flat parameters have no rows.
    """
    for name, module in model.named_modules():
        if is_flattened(module):
            raise PlanError(
                f"{name or 'model'}: FullyShardedDataParallel flattens weights into vectors; shard with "
                "torch.distributed.fsdp.fully_shard, which keeps them"
            )
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):  # importing it takes seconds
            cast(Any, module).reshard()
