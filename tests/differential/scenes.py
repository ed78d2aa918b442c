# SPDX-License-Identifier: MIT
"""The kinds of scenes that there are."""

import importlib.util

from callbacks import Callbacks
from datagrams import Datagrams
from sockets import Sockets, Watches
from streams import Servers, Streams

SCENES = {
    "callbacks": Callbacks,
    "streams": Streams,
    "servers": Servers,
    "datagrams": Datagrams,
    "sockets": Sockets,
    "watches": Watches,
}
if importlib.util.find_spec("trustme"):  # not to be had without a GIL
    from tls import TLS

    SCENES["tls"] = TLS
