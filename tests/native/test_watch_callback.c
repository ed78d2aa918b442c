/* SPDX-License-Identifier: MIT
 *
 * Watches whose callbacks change things, and many watches at once (rules 1 and 5 of core.h).
 */
#include "probes.h"
#include "random.h"
#include "tests.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static const unsigned BOTH = CORE_READABLE | CORE_WRITABLE;

/* --- callbacks that change things */

static void
take_other_away(struct watch_probe *probe, unsigned ready)
{
    (void)ready;
    watch_set(probe->other, 0);
}

static void
close_other(struct watch_probe *probe, unsigned ready)
{
    (void)ready;
    watch_close(probe->other);
}

/* Two are ready; whichever comes first silences the other. */
static void
check_first_silences_other(void (*in_ready)(struct watch_probe *, unsigned))
{
    int fds[2][2];
    struct watch_probe *probes[2];
    for (int i = 0; i < 2; i++) {
        unix_pair(fds[i]);
        probes[i] = calloc(1, sizeof *probes[i]);
        CHECK(probes[i] != NULL);
        watch_open(probes[i], fds[i][0]);
        probes[i]->in_ready = in_ready;
        watch_set(probes[i], CORE_READABLE | CORE_WRITABLE);
        fd_put_byte(fds[i][1]);
    }
    probes[0]->other = probes[1];
    probes[1]->other = probes[0];
    poll_once(-1);
    CHECK_EQ(probes[0]->calls + probes[1]->calls, 1);
    for (int i = 0; i < 2; i++) {
        if (probes[i]->watch != NULL) {
            watch_close(probes[i]);
        }
        free(probes[i]);
        fd_close_pair(fds[i][0], fds[i][1]);
    }
    check_is_idle();
}

static void
test_callback_silences_another_watch(void)
{
    check_first_silences_other(take_other_away);
    check_first_silences_other(close_other);
}

static void
close_and_free(struct watch_probe *probe, unsigned ready)
{
    (void)ready;
    probe->other->budget++;
    watch_close(probe);
    free(probe);
}

static void
test_callback_closes_its_own_watch(void)
{
    int fds[2];
    struct watch_probe counter = {0};
    unix_pair(fds);
    for (int i = 1; i <= 3; i++) {
        struct watch_probe *probe = calloc(1, sizeof *probe);
        CHECK(probe != NULL);
        probe->in_ready = close_and_free;
        probe->other = &counter;
        watch_open(probe, fds[0]);
        watch_set(probe, CORE_WRITABLE);
        poll_once(-1);
        CHECK_EQ(counter.budget, i);
    }
    check_is_idle();
    fd_close_pair(fds[0], fds[1]);
}

static void
reopen_as_other(struct watch_probe *probe, unsigned ready)
{
    (void)ready;
    watch_close(probe);
    watch_open(probe->other, probe->fd);
    watch_set(probe->other, CORE_READABLE);
}

static void
test_callback_opens_another_watch_on_the_fd(void)
{
    int fds[2];
    struct watch_probe second = {0};
    struct watch_probe first = {.in_ready = reopen_as_other, .other = &second};
    unix_pair(fds);
    watch_open(&first, fds[0]);
    watch_set(&first, BOTH);
    poll_once(-1);
    CHECK_EQ(first.calls, 1);
    poll_once(0);
    CHECK_EQ(second.calls, 0); /* writable it is, but that was the first one's wish */
    fd_put_byte(fds[1]);
    CHECK_EQ(watch_poll(&second), CORE_READABLE);
    CHECK_EQ(first.calls, 1);
    watch_close(&second);
    fd_close_pair(fds[0], fds[1]);
}

/* --- many */

static void
test_many_watches_are_served(void)
{
    enum { PAIRS = 400 };
    static struct watch_probe probes[PAIRS];
    static int fds[PAIRS][2];
    for (int i = 0; i < PAIRS; i++) {
        unix_pair(fds[i]);
        watch_open(&probes[i], fds[i][0]);
        watch_set(&probes[i], CORE_READABLE);
        fd_put_byte(fds[i][1]);
    }
    for (int i = 0; i < 20; i++) {
        poll_once(0);
    }
    for (int i = 0; i < PAIRS; i++) {
        CHECK(probes[i].calls > 0);
        fd_drain(fds[i][0]);
    }
    unsigned calls = probes[7].calls;
    check_is_idle();
    CHECK_EQ(probes[7].calls, calls);
    for (int i = 0; i < PAIRS; i++) {
        watch_close(&probes[i]);
        fd_close_pair(fds[i][0], fds[i][1]);
    }
}

/* What poll(2) says about the fd and the watch's interest. */
static unsigned
ask_kernel(const struct watch_probe *probe)
{
    struct pollfd fd = {.fd = probe->fd, .events = POLLIN | POLLOUT};
    CHECK(poll(&fd, 1, 0) >= 0);
    unsigned ready = fd.revents & (POLLERR | POLLHUP) ? BOTH : 0;
    ready |= fd.revents & POLLIN ? CORE_READABLE : 0;
    ready |= fd.revents & POLLOUT ? CORE_WRITABLE : 0;
    return ready & probe->interest;
}

static void
random_step(struct random *random, struct watch_probe *probe, int peer)
{
    switch (random_below(random, 8)) {
    case 0:
        fd_drain(probe->fd);
        break;
    case 1:
        fd_drain(peer);
        break;
    case 2:
        fd_fill(probe->fd);
        break;
    case 3:
        fd_fill(peer);
        break;
    case 4:
        watch_close(probe);
        watch_open(probe, probe->fd);
        break;
    default:
        watch_set(probe, random_below(random, 4));
        break;
    }
}

/* Whatever was done before, each watch reports what poll(2) says, no less and no more. */
static void
test_random_interests_against_poll(void)
{
    enum { PAIRS = 6 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct watch_probe probes[PAIRS] = {0};
        int fds[PAIRS][2];
        struct random random = {seed};
        for (int i = 0; i < PAIRS; i++) {
            (i % 2 ? tcp_pair : unix_pair)(fds[i]);
            watch_open(&probes[i], fds[i][0]);
        }
        for (int step = 0; step < 150; step++) {
            unsigned chosen = random_below(&random, PAIRS);
            check_note("seed %llu, step %d", (unsigned long long)seed, step);
            random_step(&random, &probes[chosen], fds[chosen][1]);
            poll_once(0);
            for (int i = 0; i < PAIRS; i++) {
                unsigned reported = probes[i].poll == fixture_hooks.polls ? probes[i].in_poll : 0;
                CHECK_EQ(reported, ask_kernel(&probes[i]));
            }
        }
        for (int i = 0; i < PAIRS; i++) {
            watch_close(&probes[i]);
            fd_close_pair(fds[i][0], fds[i][1]);
        }
    }
}

const struct check_test watch_callback_tests[] = {
    {"watch_callback_silences_another_watch", test_callback_silences_another_watch},
    {"watch_callback_closes_its_own_watch", test_callback_closes_its_own_watch},
    {"watch_callback_opens_another_watch_on_the_fd", test_callback_opens_another_watch_on_the_fd},
    {"watch_many_watches_are_served", test_many_watches_are_served},
    {"watch_random_interests_against_poll", test_random_interests_against_poll},
    {NULL, NULL},
};
