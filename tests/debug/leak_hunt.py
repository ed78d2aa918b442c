# SPDX-License-Identifier: MIT
"""A pytest plugin for tools/debug: run each test again and again, and fail it if references or blocks grow each time.

Caches, interned strings and specialized code take some the first times; what a run leaks, every run leaks.  So a test
fails when each of the counted runs after the warm-up has grown, as in CPython's own -R.
"""

import gc
import sys
from array import array
from itertools import pairwise

import pytest
from _pytest.runner import runtestprotocol

WARM_UP = 3
COUNTED = 3


def count(totals, number):
    gc.collect()
    gc.collect()
    if hasattr(sys, "_clear_internal_caches"):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()
    totals[2 * number] = sys.gettotalrefcount()
    totals[2 * number + 1] = sys.getallocatedblocks()


def run_once(item):
    """The reports of a run that did not pass, or nothing; no report is kept, nor what was logged: both hold objects."""
    reports = runtestprotocol(item, log=False, nextitem=None)
    item._report_sections.clear()
    return [] if all(report.passed for report in reports) else reports


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    totals = array("q", bytes(8 * 2 * (WARM_UP + COUNTED)))  # made before: what we keep is not to be counted
    for number in range(WARM_UP + COUNTED):
        reports = run_once(item)
        if reports:
            break
        count(totals, number)
    else:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for at, name in enumerate(["references", "blocks"]):
            counted = totals[at::2][WARM_UP - 1 :]
            growth = [after - before for before, after in pairwise(counted)]
            if min(growth) > 0:
                reports[1].outcome = "failed"
                reports[1].longrepr = f"{item.nodeid} leaked {name}: {growth}"
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
