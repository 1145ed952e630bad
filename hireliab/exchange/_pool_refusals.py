"""What a caller is told that gets no client, with the whole picture in its text."""

from __future__ import annotations

from hireliab.errors import (
    PoolDeadlockError,
    PoolDownError,
    PoolError,
    PoolFullError,
    PoolStoppedError,
    PoolTimeoutError,
)
from hireliab.exchange._pool_lease import Claim, Refusal


def refused(claim: Claim, waited: float) -> PoolError:
    """The error for a refused claim."""
    seen, refusal = claim.picture, claim.refusal
    if seen is None:
        raise AssertionError("bug: a claim without a refusal was refused")
    picture = (
        f"total {seen.size} of {seen.max_connections}, in use {seen.in_use}, idle {seen.idle}, "
        f"being made {seen.creating}, waiting {seen.waiting}"
    )
    where = f"connection pool {seen.name!r}"
    if refusal is Refusal.TIMEOUT:
        return PoolTimeoutError(
            f"{where}: no client became free within {waited:.1f} s ({picture}); raise max_connections or "
            "connection_timeout, or give clients back sooner",
            pool=seen.name,
        )
    if refusal is Refusal.FULL:
        return PoolFullError(
            f"{where}: {seen.waiting - 1} callers wait already ({picture}); try later, or raise max_waiting",
            pool=seen.name,
        )
    if refusal is Refusal.DOWN:
        return PoolDownError(
            f"{where}: create_client_func keeps failing ({claim.reason}) and no client can come back ({picture}); "
            f"try again in {claim.retry_after:.1f} s",
            pool=seen.name,
            retry_after=claim.retry_after,
        )
    if refusal is Refusal.DEADLOCK:
        return PoolDeadlockError(
            f"{where}: this thread holds every client itself and would wait for ever ({picture}); give one back "
            "first, or raise max_connections",
            pool=seen.name,
        )
    if refusal is Refusal.CROSSWISE:
        return PoolDeadlockError(
            f"{where}: the threads that hold every client all wait here for another one ({picture}); let each thread "
            "hold one at a time, or raise max_connections",
            pool=seen.name,
        )
    return PoolStoppedError(f"{where}: {seen.status}, the call was not made; initialize() starts it", pool=seen.name)
