/* SPDX-License-Identifier: MIT
 *
 * Polls that do not wait, when nothing can be delivered: a core may do without the kernel then.  Here each thing that
 * ends such a spell comes after one, and the polls that follow, which do not wait either, must not miss it.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "tests.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SPELL = 3, MANY_POLLS = 1000 };

static void
poll_quietly(void)
{
    for (int i = 0; i < SPELL; i++) {
        poll_once(0);
    }
}

/* Never waiting.  More than one poll may be needed, where reads and writes are cut short. */
#define POLL_NOW_UNTIL(condition) \
    do { \
        for (int i_ = 0; i_ < MANY_POLLS && !(condition); i_++) { \
            poll_once(0); \
        } \
        CHECK(condition); \
    } while (0)

static void
test_watch_set(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    fd_put_byte(fds[1]);
    watch_open(&probe, fds[0]);
    for (int i = 0; i < 3; i++) {
        poll_quietly();
        watch_set(&probe, CORE_READABLE);
        CHECK_EQ(watch_poll(&probe), CORE_READABLE);
        watch_set(&probe, 0);
    }
    watch_close(&probe);
    poll_quietly();
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_WRITABLE);
    CHECK_EQ(watch_poll(&probe), CORE_WRITABLE);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

static struct watch_probe *set_in_first_delivery;

static void
first_delivery_sets_a_watch(void)
{
    watch_set(set_in_first_delivery, CORE_READABLE);
}

/* What is asked for in a poll that asks the kernel nothing is due in the next one at the latest. */
static void
test_watch_set_in_the_first_delivery(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    fd_put_byte(fds[1]);
    watch_open(&probe, fds[0]);
    set_in_first_delivery = &probe;
    poll_quietly();
    fixture_hooks.in_first_delivery = first_delivery_sets_a_watch;
    poll_once(0);
    fixture_hooks.in_first_delivery = NULL;
    poll_once(0);
    CHECK(probe.calls >= 1);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

static void
test_a_failed_set_asks_for_nothing(void)
{
    struct watch_probe probe = {0};
    watch_open(&probe, open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(core->watch_set(probe.watch, CORE_READABLE) < 0);
    poll_quietly();
    watch_close(&probe);
    poll_quietly();
    close(probe.fd);
}

static void
interrupt(struct watch_probe *probe, unsigned ready)
{
    (void)probe;
    (void)ready;
    core->loop_interrupt(loop);
}

static void
test_what_an_interrupted_poll_left(void)
{
    int fds[2], more[2];
    struct watch_probe probes[2] = {{.in_ready = interrupt}, {.in_ready = interrupt}};
    unix_pair(fds);
    unix_pair(more);
    watch_open(&probes[0], fds[0]);
    watch_open(&probes[1], more[0]);
    poll_quietly();
    for (int i = 0; i < 2; i++) {
        watch_set(&probes[i], CORE_WRITABLE);
    }
    poll_once(0);
    CHECK_EQ(probes[0].calls + probes[1].calls, 1);
    watch_set(&probes[probes[0].calls == 1 ? 0 : 1], 0);
    poll_once(0);
    CHECK_EQ(probes[0].calls + probes[1].calls, 2);
    watch_close(&probes[0]);
    watch_close(&probes[1]);
    fd_close_pair(fds[0], fds[1]);
    fd_close_pair(more[0], more[1]);
}

/* --- streams and datagrams */

static void
test_stream_reads(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 4096};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        for (size_t i = 1; i <= 3; i++) {
            CHECK_EQ(raw_write(&raw, 100), 100);
            poll_quietly();
            CHECK_EQ(probe.received, (i - 1) * 100);
            stream_read_start(&probe);
            POLL_NOW_UNTIL(probe.received == i * 100);
            stream_read_stop(&probe);
        }
        poll_quietly();
        close(writer);
        poll_quietly();
        stream_read_start(&probe);
        POLL_NOW_UNTIL(probe.has_eof);
        poll_quietly();
        stream_close(&probe);
        poll_quietly();
    }
}

static void
test_stream_write_in_flight(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {0};
        struct raw_end raw = {.fd = reader};
        stream_open(&probe, writer, channel_write_kind(channel));
        stream_fill(&probe);
        poll_quietly();
        CHECK_EQ(stream_write(&probe, 100000, 3), 0);
        poll_quietly();
        CHECK_EQ(probe.writes, 0);
        for (int i = 0; i < MANY_POLLS && probe.writes == 0; i++) {
            raw_read(&raw, SIZE_MAX);
            poll_once(0);
            sleep_ns(i < 10 ? 0 : MS); /* for TCP, which may take its time */
        }
        CHECK_EQ(probe.writes, 1);
        poll_quietly();
        stream_close(&probe);
        poll_quietly();
        close(reader);
    }
}

/* No kernel tells of it. */
static void
test_write_to_what_cannot_be_polled(void)
{
    struct stream_probe probe = {0};
    stream_open(&probe, open("/dev/null", O_WRONLY | O_CLOEXEC), CORE_STREAM_PIPE_WRITE);
    poll_quietly();
    CHECK_EQ(stream_write(&probe, 1000, 2), 0);
    POLL_NOW_UNTIL(probe.writes == 1);
    stream_close(&probe);
    poll_quietly();
}

static void
test_datagrams(void)
{
    FOR_EACH_FAMILY(family) {
        struct address ours, theirs;
        struct datagram_probe probe = {.buffer_size = 2000};
        int raw = datagram_socket(family, &theirs);
        int fd = datagram_socket(family, &ours);
        datagram_connect(fd, &theirs);
        datagram_open(&probe, fd);
        for (unsigned i = 1; i <= 3; i++) {
            raw_send(raw, 100, i, &ours);
            poll_quietly();
            CHECK_EQ(probe.received, i - 1);
            datagram_recv_start(&probe);
            POLL_NOW_UNTIL(probe.received == i);
            datagram_recv_stop(&probe);
            poll_quietly();
            CHECK_EQ(datagram_send(&probe, 100, i, NULL, 0), 0);
            POLL_NOW_UNTIL(probe.sends == i);
        }
        datagram_close(&probe);
        poll_quietly();
        close(raw);
        datagram_unlink(&ours);
        datagram_unlink(&theirs);
    }
}

/* --- wake-ups, and watches that are there for waits only */

static void
handler_wakes(int number)
{
    (void)number;
    core->loop_wake(loop);
}

static void *
thread_wakes(void *arg)
{
    core->loop_wake(loop);
    return arg;
}

/* It ends the poll that follows, or the next wait if that poll had begun; then it is over. */
static void
test_wakes_last_for_one_poll(void)
{
    struct sigaction action = {.sa_handler = handler_wakes};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < 20; i++) {
        poll_quietly();
        CHECK_EQ(raise(SIGUSR1), 0);
        poll_once(i % 2 == 0 ? -1 : 0);
        poll_quietly();
        CHECK_EQ(count_early_polls(1, MS), 0);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, thread_wakes, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        poll_once(i % 2 == 0 ? 0 : -1);
        poll_quietly();
        CHECK_EQ(count_early_polls(1, MS), 0);
    }
}

static void
test_wake_during_quiet_polls_ends_the_next_wait(void)
{
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, thread_wakes, NULL), 0);
        /* Whoever polls like this has seen nothing of what the thread woke the loop for: it must wait no longer. */
        poll_once(i % 2 == 0 ? -1 : 60000 * MS);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        poll_quietly();
    }
}

static void
test_relaxed_watch(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    core->watch_relax(probe.watch, true);
    CHECK_EQ(count_early_polls(2, MS), 0);
    fd_put_byte(fds[1]);
    poll_once(-1);
    CHECK_EQ(probe.calls, 1);
    poll_once(60000 * MS);
    CHECK_EQ(probe.calls, 2);
    poll_quietly();
    core->watch_relax(probe.watch, false);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    core->watch_relax(probe.watch, true);
    watch_set(&probe, 0);
    core->watch_relax(probe.watch, false);
    poll_quietly();
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    core->watch_relax(probe.watch, true);
    watch_close(&probe);
    watch_open(&probe, fds[0]); /* a new one, and not relaxed */
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

/* --- in a forked child */

static void
test_child_asks_anew(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    fd_put_byte(fds[1]);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    poll_once(0);
    CHECK_EQ(probe.calls, 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_EQ(core->loop_after_fork(loop), 0);
        poll_quietly();
        CHECK_EQ(probe.calls, 1);
        watch_set(&probe, CORE_READABLE);
        CHECK_EQ(watch_poll(&probe), CORE_READABLE);
        core->loop_wake(loop);
        poll_once(-1);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

const struct check_test quiet_tests[] = {
    {"quiet_watch_set", test_watch_set},
    {"quiet_watch_set_in_the_first_delivery", test_watch_set_in_the_first_delivery},
    {"quiet_a_failed_set_asks_for_nothing", test_a_failed_set_asks_for_nothing},
    {"quiet_what_an_interrupted_poll_left", test_what_an_interrupted_poll_left},
    {"quiet_stream_reads", test_stream_reads},
    {"quiet_stream_write_in_flight", test_stream_write_in_flight},
    {"quiet_write_to_what_cannot_be_polled", test_write_to_what_cannot_be_polled},
    {"quiet_datagrams", test_datagrams},
    {"quiet_wakes_last_for_one_poll", test_wakes_last_for_one_poll},
    {"quiet_wake_during_quiet_polls_ends_the_next_wait", test_wake_during_quiet_polls_ends_the_next_wait},
    {"quiet_relaxed_watch", test_relaxed_watch},
    {"quiet_child_asks_anew", test_child_asks_anew},
    {NULL, NULL},
};
