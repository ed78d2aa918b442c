# SPDX-License-Identifier: MIT
"""Connect, one echo, close: what a short connection costs."""

from scenario import Case, echo_arguments
from scenarios.echo_protocol import limit, serve  # noqa: F401

CASES = [Case("64 B, 10 at a time", size=64, connections=10, goal=1.0, quick=True)]


def client(case):
    return ["connect", *echo_arguments(case)[1:]]
