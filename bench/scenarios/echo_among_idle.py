# SPDX-License-Identifier: MIT
"""TCP echo of 1 KiB in ten connections, among more and more that are idle."""

from scenario import Case
from scenarios.echo_protocol import limit, serve  # noqa: F401

GROWS = "connections"
CASES = [
    Case(f"{count:,} connections", connections=count, growth=count) for count in (10, 30, 100, 300, 1000, 3000, 10000)
]


def client(case):
    return ["echo", "--size", 1024, "--connections", 10, "--idle", case.connections - 10]
