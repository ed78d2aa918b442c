/* SPDX-License-Identifier: MIT
 *
 * loop_busy_poll: waits that spin before they sleep keep every promise of those that don't.
 */
#include "probes.h"
#include "tests.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

static const int64_t LONG_SPIN_NS = 60000 * MS;

static void
test_waits_never_end_early(void)
{
    static const int64_t spins_ns[] = {1, 50000, MS, 3 * MS, 60000 * MS, INT64_MAX};
    for (size_t i = 0; i < sizeof spins_ns / sizeof spins_ns[0]; i++) {
        core->loop_busy_poll(loop, spins_ns[i]);
        check_note("a spin of %lld ns", (long long)spins_ns[i]);
        unsigned blocks = fixture_hooks.blocks;
        CHECK_EQ(count_early_polls(2, 2 * MS + 1), 0);
        CHECK_EQ(count_early_polls(2, 1), 0);
        CHECK_EQ(fixture_hooks.blocks, blocks + 4);
        poll_once(0);
        CHECK_EQ(fixture_hooks.blocks, blocks + 4);
    }
}

#ifdef RUSAGE_THREAD
/* Whether polls of 5 ms sleep or don't, as asked, by the kernel's count. One of twenty is enough: a busy machine may
 * take the processor away for all of a poll's time, and may make a poll that spins wait for a page. */
static bool
a_poll_sleeps(bool is_to_sleep)
{
    for (int i = 0; i < 20; i++) {
        struct rusage before, after;
        getrusage(RUSAGE_THREAD, &before);
        poll_once(5 * MS);
        getrusage(RUSAGE_THREAD, &after);
        if ((after.ru_nvcsw > before.ru_nvcsw) == is_to_sleep) {
            return true;
        }
    }
    return false;
}

static void
test_a_spin_does_not_sleep(void)
{
    if (fixture_core.is_scripted) {
        return;
    }
    CHECK(a_poll_sleeps(true));
    core->loop_busy_poll(loop, LONG_SPIN_NS);
    CHECK(a_poll_sleeps(false));
    core->loop_busy_poll(loop, MS);
    CHECK(a_poll_sleeps(true));
    core->loop_busy_poll(loop, LONG_SPIN_NS);
    core->loop_busy_poll(loop, 0);
    CHECK(a_poll_sleeps(true));
}
#else
static void
test_a_spin_does_not_sleep(void)
{
}
#endif

struct helper {
    pthread_t thread, target;
    atomic_bool is_done;
    int fd;
};

static void *
helper_wakes(void *arg)
{
    struct helper *helper = arg;
    sleep_ns(10 * MS);
    atomic_store(&helper->is_done, true);
    core->loop_wake(loop);
    return NULL;
}

static void *
helper_signals(void *arg)
{
    struct helper *helper = arg;
    sleep_ns(10 * MS);
    atomic_store(&helper->is_done, true);
    pthread_kill(helper->target, SIGUSR1);
    return NULL;
}

static void *
helper_writes(void *arg)
{
    struct helper *helper = arg;
    sleep_ns(10 * MS);
    atomic_store(&helper->is_done, true);
    fd_put_byte(helper->fd);
    return NULL;
}

static void
check_wait_ends_for(void *(*run)(void *), int fd, int64_t timeout_ns)
{
    struct helper helper = {.target = pthread_self(), .fd = fd};
    CHECK_EQ(pthread_create(&helper.thread, NULL, run, &helper), 0);
    poll_once(timeout_ns);
    CHECK(atomic_load(&helper.is_done));
    CHECK_EQ(pthread_join(helper.thread, NULL), 0);
}

static void
test_wakes_are_seen(void)
{
    core->loop_busy_poll(loop, LONG_SPIN_NS);
    check_wait_ends_for(helper_wakes, -1, -1);
    check_wait_ends_for(helper_wakes, -1, 60000 * MS);
    core->loop_wake(loop);
    poll_once(-1);
    CHECK_EQ(count_early_polls(3, MS), 0);
    core->loop_wake(loop);
    poll_once(0);
    CHECK_EQ(count_early_polls(3, MS), 0);
}

static void
handler_wakes(int number)
{
    (void)number;
    core->loop_wake(loop);
}

static void
test_signals_are_seen(void)
{
    struct sigaction action = {.sa_handler = handler_wakes, .sa_flags = SA_RESTART};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    core->loop_busy_poll(loop, LONG_SPIN_NS);
    check_wait_ends_for(helper_signals, -1, -1);
    poll_once(0);
    check_wait_ends_for(helper_signals, -1, 60000 * MS);
}

static void
test_events_are_seen(void)
{
    int fds[2], more[2];
    struct watch_probe watch = {0};
    struct stream_probe stream = {.buffer_size = 100, .is_unchecked = true};
    unix_pair(fds);
    tcp_pair(more);
    core->loop_busy_poll(loop, LONG_SPIN_NS);
    watch_open(&watch, fds[0]);
    watch_set(&watch, CORE_READABLE);
    stream_open(&stream, more[0], CORE_STREAM_SOCKET);
    stream_read_start(&stream);
    for (unsigned i = 1; i <= 3; i++) {
        check_wait_ends_for(helper_writes, fds[1], -1);
        CHECK_EQ(watch.calls, i);
        fd_drain(fds[0]);
        check_wait_ends_for(helper_writes, more[1], 60000 * MS);
        POLL_UNTIL(stream.received == i);
    }
    watch_close(&watch);
    stream_close(&stream);
    fd_close_pair(fds[0], fds[1]);
    close(more[1]);
}

const struct check_test busy_poll_tests[] = {
    {"busy_poll_waits_never_end_early", test_waits_never_end_early},
    {"busy_poll_a_spin_does_not_sleep", test_a_spin_does_not_sleep},
    {"busy_poll_wakes_are_seen", test_wakes_are_seen},
    {"busy_poll_signals_are_seen", test_signals_are_seen},
    {"busy_poll_events_are_seen", test_events_are_seen},
    {NULL, NULL},
};
