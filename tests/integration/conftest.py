"""Fixtures of the tests of `Session`."""

from tests.support.http_sessions import certificates, one_boundary, plain_environment, session, unverified

__all__ = ["certificates", "one_boundary", "plain_environment", "session", "unverified"]
