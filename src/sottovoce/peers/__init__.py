"""The network of a packed file in other engines, to be measured beside ours: only for benchmarks.

Each peer holds the decoded weights, quantizes them in its own way, and speaks the protocol of ``NativeRnnt`` for one
stream, one encoder frame at a time.
"""

from sottovoce.peers.beside import PeerSpeed, bench_against
from sottovoce.peers.engines import INT8_PEERS, PEERS, Peer, check_peers, make_peer, signal_to_noise

__all__ = ["INT8_PEERS", "PEERS", "Peer", "PeerSpeed", "bench_against", "check_peers", "make_peer", "signal_to_noise"]
