"""Many recordings at once: on the cores of one machine, or on a Ray cluster.

    recordings ... listing -> work (a recording -> bytes) -> driver -> place (a folder or fsspec address)
                              in workers: pool or cluster    ledger: what is done, to go on from

The driver alone writes outputs and the output manifest; workers compute. So a worker that dies costs the
recording that it was at, and a driver that dies costs what was under way.
"""

from __future__ import annotations

from facetalk.batch.generate import BatchReport, generate_batch

__all__ = ["BatchReport", "generate_batch"]
