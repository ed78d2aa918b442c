# SPDX-License-Identifier: MIT
"""Memory of the server for each connection that has had one echo and is idle: private memory, over 5000 connections."""

from scenario import Case, goals
from scenarios.echo_protocol import limit, serve  # noqa: F401

CASES = [Case("5000 connections", connections=5000, goal=goals(1211 / 800, 1211 / 1000))]


def client(case):
    return ["idle", "--connections", case.connections]
