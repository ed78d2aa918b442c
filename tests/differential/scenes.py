# SPDX-License-Identifier: MIT
"""The kinds of scenes that there are."""

from callbacks import Callbacks
from datagrams import Datagrams
from sockets import Sockets, Watches
from streams import Servers, Streams
from tls import TLS

SCENES = {
    "callbacks": Callbacks,
    "streams": Streams,
    "servers": Servers,
    "datagrams": Datagrams,
    "sockets": Sockets,
    "watches": Watches,
    "tls": TLS,
}
