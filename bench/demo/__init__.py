# SPDX-License-Identifier: MIT
"""The demo: asyncio programs on asyncio, RLoop and TokioLoop side by side (`make demo`, or `python -m demo` here)."""
