"""What a pipeline does when its process ends normally without having stopped it."""

from __future__ import annotations

import sys
import weakref
from typing import Protocol

from hireliab.exchange._pipeline_settings import PipelineConfig


class Stoppable(Protocol):
    """A pipeline."""

    config: PipelineConfig

    def stop(self, timeout: float) -> tuple[str, ...]:
        """End, and say what is undecided."""


def stop_at_exit(reference: weakref.ref[Stoppable]) -> None:
    """Wait a bounded time, and name what is still in flight."""
    pipeline = reference()
    if pipeline is None:
        return
    undecided = pipeline.stop(timeout=5.0)
    if undecided and sys.stderr is not None:
        print(  # noqa: T201 - logging may be shut down already, and a person must see this
            f"hireliab: pipeline {pipeline.config.name}: {len(undecided)} undecided: {', '.join(undecided)};"
            " the next start goes on with them",
            file=sys.stderr,
        )
