# SPDX-License-Identifier: MIT
"""Benchmarks of asyncio event loops: `python -m rloop.bench`, or in a source tree `python bench`."""
