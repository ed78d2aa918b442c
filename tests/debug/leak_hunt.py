# SPDX-License-Identifier: MIT
"""A pytest plugin for tools/debug: run each test again and again, and fail it if references or blocks grow each time.

Caches, interned strings and specialized code take some the first times; what a run leaks, every run leaks.  So a test
fails when each of the counted runs after the warm-up has grown, as in CPython's own -R.
"""

import gc
import sys

import pytest
from _pytest.runner import runtestprotocol

WARM_UP = 3
COUNTED = 3


def counts():
    gc.collect()
    gc.collect()
    sys._clear_internal_caches() if hasattr(sys, "_clear_internal_caches") else sys._clear_type_cache()
    return sys.gettotalrefcount(), sys.getallocatedblocks()


def run_once(item):
    """The reports of a run that did not pass, or nothing; no report is kept, nor what was logged: both hold objects."""
    reports = runtestprotocol(item, log=False, nextitem=None)
    item._report_sections.clear()
    return [] if all(report.passed for report in reports) else reports


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    grown = []
    before = 0, 0
    for number in range(WARM_UP + COUNTED):
        reports = run_once(item)
        if reports:
            break
        after = counts()
        if number >= WARM_UP:
            grown.append((after[0] - before[0], after[1] - before[1]))
        before = after
    else:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for name, growth in zip(("references", "blocks"), zip(*grown)):
            if min(growth) > 0:
                reports[1].outcome = "failed"
                reports[1].longrepr = f"{item.nodeid} leaked {name}: {list(growth)}"
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
