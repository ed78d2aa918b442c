/* SPDX-License-Identifier: MIT
 *
 * The watch probe; see probes.h.
 */
#include "probes.h"

static void
watch_on_ready(void *owner, unsigned ready)
{
    struct watch_probe *probe = owner;
    fixture_callback();
    probes_check_paired();
    CHECK(probe->watch != NULL);
    CHECK(ready != 0);
    CHECK_EQ(ready & ~probe->interest, 0);
    if (probe->poll != fixture_hooks.polls) {
        probe->poll = fixture_hooks.polls;
        probe->in_poll = 0;
    }
    CHECK_EQ(probe->in_poll & ready, 0); /* a direction is reported once in a poll */
    probe->in_poll |= ready;
    probe->seen |= ready;
    probe->calls++;
    if (probe->in_ready != NULL) {
        probe->in_ready(probe, ready);
    }
}

void
watch_open(struct watch_probe *probe, int fd)
{
    probe->fd = fd;
    probe->interest = 0;
    probe->watch = NULL;
    CHECK_EQ(core->watch_open(loop, fd, watch_on_ready, probe, &probe->watch), 0);
    CHECK(probe->watch != NULL);
}

void
watch_set(struct watch_probe *probe, unsigned interest)
{
    probe->interest = interest;
    CHECK_EQ(core->watch_set(probe->watch, interest), 0);
}

void
watch_close(struct watch_probe *probe)
{
    core->watch_close(probe->watch);
    probe->watch = NULL;
}

unsigned
watch_poll(struct watch_probe *probe)
{
    poll_once(0);
    return probe->poll == fixture_hooks.polls ? probe->in_poll : 0;
}
