"""A packed file and its network in the peers, timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sottovoce.errors import ConfigError
from sottovoce.evaluation.turns import CYCLE, Steps, interleaved
from sottovoce.packed import load_model
from sottovoce.peers.engines import check_peers, make_peer, signal_to_noise
from sottovoce.runtime import make_network

OURS = "sottovoce"
_PAUSE = 0.002  # seconds that a peer's idle threads need to fall asleep


@dataclass(frozen=True)
class PeerSpeed:
    """Milliseconds a step (an encoder frame, a joiner, a quarter of a predictor step); ratio: P50 of ours over this
    one's, below 1 where ours is faster. description and signal_to_noise_db, how near it comes to the float network,
    are a peer's only."""

    name: str
    p50_ms: float
    p90_ms: float
    ratio: float
    description: str
    signal_to_noise_db: float | None


def bench_against(path: Path, peers: Sequence[str], *, num_threads: int = 1, frames: int = 500) -> list[PeerSpeed]:
    """Ours first, then the peers as named: the same network, all taking turns step by step, on one stream of noise.

    Raises ConfigError for a peer that is unknown or not installed, FormatError for a file that cannot run.
    """
    check_peers(peers)
    if frames < 1:
        raise ConfigError(f"frames: expected 1 or more, found {frames}")
    model = load_model(path)
    made = {name: make_peer(name, model, num_threads=num_threads) for name in peers}
    systems = {OURS: Steps(make_network(model, num_threads=num_threads))}
    systems |= {name: Steps(peer) for name, peer in made.items()}
    pause = _PAUSE if num_threads > 1 else 0.0
    times = interleaved(systems, cycles=-(-frames // CYCLE), pause=pause)
    medians = {name: found.percentile(50) for name, found in times.items()}
    return [
        PeerSpeed(
            name=name,
            p50_ms=1e3 * medians[name],
            p90_ms=1e3 * found.percentile(90),
            ratio=medians[OURS] / medians[name],
            description=made[name].description if name in made else "",
            signal_to_noise_db=signal_to_noise(made[name], model) if name in made else None,
        )
        for name, found in times.items()
    ]
