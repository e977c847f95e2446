"""Svix, Outpost, Convoy and Hook0 beside this service, in one sitting, given their programs.

Nothing of theirs is here: each module says how one of them is configured, asked and watched.
docs/benchmarks.md says what their programs need.
"""

from bench.peers.comparison import run

__all__ = ["run"]
