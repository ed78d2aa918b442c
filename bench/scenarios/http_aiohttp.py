# SPDX-License-Identifier: MIT
"""HTTP GET answered by aiohttp, with connections that stay."""

from aiohttp import web

from scenario import Case, pattern

CASES = [Case("1 KiB, 50 connections", size=1024, connections=50, goal=1.4, quick=True)]


async def serve(loop, case):
    body = pattern(case.size)

    async def answer(request):
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    return ["--tcp", str(runner.addresses[0][1])], runner


def client(case):
    return ["http", "--size", case.size, "--connections", case.connections]
