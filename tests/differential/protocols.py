# SPDX-License-Identifier: MIT
"""Protocols that tell the scene what they are told, and do something about it."""

import asyncio

from hypothesis import strategies as st

HABITS = st.sampled_from(
    [
        *["note"] * 4,
        "echo",
        "raise on data",
        "close on data",
        "abort on data",
        "pause on data",
        "keep open on eof",
        "answer on eof",
        "raise on eof",
        "raise when made",
        "raise when lost",
        "close when made",
        "write when made",
        "raise on pause",
        "buffered",
        "buffered",
        "buffered, no buffer",
        "buffered, raises",
        "raise on resume",
    ]
)


class Told(asyncio.Protocol):
    def __init__(self, scene, name, habit):
        self.scene, self.name, self.habit = scene, name, habit
        self.transport = None

    def note(self, *what):
        self.scene.note(self.name, *what)

    def check(self, habit):
        if self.habit == habit:
            raise ValueError(habit)

    def connection_made(self, transport):
        self.note("made")
        self.transport = transport
        self.check("raise when made")
        if self.habit == "close when made":
            transport.close()
        elif self.habit == "write when made":
            transport.write(b"welcome")

    def data_received(self, data):
        self.scene.note_data(self.name, data)
        self.check("raise on data")
        if self.habit == "echo":
            self.transport.write(data)
        elif self.habit == "close on data":
            self.transport.close()
        elif self.habit == "abort on data":
            self.transport.abort()
        elif self.habit == "pause on data":
            self.transport.pause_reading()

    def eof_received(self):
        self.note("eof")
        self.check("raise on eof")
        if self.habit == "answer on eof":
            self.transport.write(b"the end")
        return self.habit == "keep open on eof"

    def pause_writing(self):
        self.note("pause_writing")
        self.check("raise on pause")

    def resume_writing(self):
        self.note("resume_writing")
        self.check("raise on resume")

    def connection_lost(self, exc):
        self.note("lost", exc)
        self.check("raise when lost")


class ToldInBuffers(Told, asyncio.BufferedProtocol):
    data_received = None

    def __init__(self, scene, name, habit):
        super().__init__(scene, name, habit)
        self.buffer = bytearray(65536)

    def get_buffer(self, sizehint):
        if self.habit == "buffered, raises":
            raise ValueError("no buffer")
        # a view: of a bytearray, asyncio's TLS writes into a copy
        return bytearray() if self.habit == "buffered, no buffer" else memoryview(self.buffer)

    def buffer_updated(self, count):
        self.scene.note_data(self.name, self.buffer[:count])


def told(scene, name, habit):
    return (ToldInBuffers if habit.startswith("buffered") else Told)(scene, name, habit)
