/* SPDX-License-Identifier: MIT
 *
 * Watches (rule 5 of core.h): level-triggered, both directions in one, hang-ups, flags, lazy removal, closing in
 * callbacks. What happens to a number that is closed and used again is in test_watch_reuse.c.
 */
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static const unsigned BOTH = CORE_READABLE | CORE_WRITABLE;

static void
test_readable_is_level_triggered(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    CHECK_EQ(watch_poll(&probe), 0);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), 0);
    fd_put_byte(fds[1]);
    for (int i = 0; i < 5; i++) {
        poll_once(-1);
        CHECK_EQ(probe.calls, i + 1);
        CHECK_EQ(probe.in_poll, CORE_READABLE);
    }
    fd_drain(fds[0]);
    CHECK_EQ(watch_poll(&probe), 0);
    fd_put_byte(fds[1]);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    CHECK_EQ(watch_poll(&probe), 0);
    fd_close_pair(fds[0], fds[1]);
}

static void
test_writable_is_level_triggered(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_WRITABLE);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(watch_poll(&probe), CORE_WRITABLE);
    }
    fd_fill(fds[0]);
    CHECK_EQ(watch_poll(&probe), 0);
    fd_drain(fds[1]);
    CHECK_EQ(watch_poll(&probe), CORE_WRITABLE);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

static void
test_both_directions_are_one_watch(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    fd_put_byte(fds[1]);
    watch_open(&probe, fds[0]);
    static const unsigned interests[] = {BOTH, CORE_READABLE, CORE_WRITABLE, BOTH, 0, CORE_WRITABLE, 0, BOTH};
    for (size_t i = 0; i < sizeof interests / sizeof interests[0]; i++) {
        watch_set(&probe, interests[i]);
        CHECK_EQ(watch_poll(&probe), interests[i]);
        CHECK_EQ(watch_poll(&probe), interests[i]);
    }
    fd_drain(fds[0]);
    CHECK_EQ(watch_poll(&probe), CORE_WRITABLE);
    fd_fill(fds[0]);
    CHECK_EQ(watch_poll(&probe), 0);
    fd_put_byte(fds[1]);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

/* --- errors and hang-ups */

/* The fd has hung up: each interest gets all it asked for, again and again. */
static void
check_hang_up_is_every_interest(int fd)
{
    struct watch_probe probe = {0};
    watch_open(&probe, fd);
    for (unsigned interest = 1; interest <= BOTH; interest++) {
        check_note("interest %u", interest);
        watch_set(&probe, interest);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(watch_poll(&probe), interest);
        }
    }
    watch_set(&probe, 0);
    CHECK_EQ(watch_poll(&probe), 0);
    check_is_idle();
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    check_is_idle();
    CHECK_EQ(close(fd), 0);
}

static void
test_hang_up_of_a_pipe(void)
{
    int fds[2];
    pipe_pair(fds);
    close(fds[1]);
    check_hang_up_is_every_interest(fds[0]);
}

static void
test_reader_leaves_a_pipe(void)
{
    int fds[2];
    pipe_pair(fds);
    fd_fill(fds[1]);
    close(fds[0]);
    check_hang_up_is_every_interest(fds[1]);
}

static void
test_reset_of_a_socket(void)
{
    int fds[2];
    tcp_pair(fds);
    tcp_reset(fds[1]);
    check_hang_up_is_every_interest(fds[0]);
}

static void
test_hang_up_of_a_full_socket(void)
{
    int fds[2];
    unix_pair(fds);
    fd_fill(fds[0]);
    close(fds[1]);
    check_hang_up_is_every_interest(fds[0]);
}

static void
test_hang_up_while_waiting(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    pipe_pair(fds);
    fd_fill(fds[1]);
    watch_open(&probe, fds[1]);
    watch_set(&probe, CORE_READABLE); /* of an fd that will never be readable */
    CHECK_EQ(watch_poll(&probe), 0);
    close(fds[0]);
    POLL_UNTIL(probe.calls > 0);
    CHECK_EQ(probe.seen, CORE_READABLE);
    watch_close(&probe);
    close(fds[1]);
}

/* --- what can't be polled, and what must not be touched */

#ifdef __linux__ /* kqueue polls regular files */
static void
test_regular_file_is_refused(void)
{
    FILE *file = tmpfile();
    struct watch_probe probe = {0};
    CHECK(file != NULL);
    watch_open(&probe, fileno(file));
    for (unsigned interest = 1; interest <= BOTH; interest++) {
        CHECK_EQ(core->watch_set(probe.watch, interest), -EPERM);
        CHECK_EQ(core->watch_set(probe.watch, 0), 0);
    }
    CHECK_EQ(core->watch_set(probe.watch, CORE_READABLE), -EPERM);
    CHECK_EQ(watch_poll(&probe), 0);
    check_is_idle();
    watch_close(&probe);
    CHECK(fd_is_open(fileno(file)));
    fclose(file);
}
#endif

static void
test_closed_fd_is_refused(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    pipe_pair(fds);
    watch_open(&probe, fds[0]);
    fd_close_pair(fds[0], fds[1]);
    CHECK_EQ(core->watch_set(probe.watch, CORE_READABLE), -EBADF);
    CHECK_EQ(core->watch_set(probe.watch, 0), 0);
    watch_close(&probe);
    check_is_idle();
}

static void
test_flags_stay_as_found(void)
{
    for (int is_blocking = 0; is_blocking < 2; is_blocking++) {
        int fds[2];
        struct watch_probe probe = {0};
        unix_pair(fds);
        fd_set_blocking(fds[0], is_blocking);
        int flags = fcntl(fds[0], F_GETFL);
        int fd_flags = fcntl(fds[0], F_GETFD);
        watch_open(&probe, fds[0]);
        for (unsigned interest = 0; interest <= BOTH; interest++) {
            watch_set(&probe, interest);
            poll_once(0);
            CHECK_EQ(fcntl(fds[0], F_GETFL), flags);
        }
        fd_put_byte(fds[1]);
        poll_once(-1);
        CHECK_EQ(fcntl(fds[0], F_GETFL), flags);
        CHECK_EQ(fcntl(fds[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        watch_close(&probe);
        poll_once(0);
        CHECK_EQ(fcntl(fds[0], F_GETFL), flags);
        CHECK_EQ(fcntl(fds[0], F_GETFD), fd_flags);
        fd_close_pair(fds[0], fds[1]);
    }
}

/* --- taking an interest away */

static void
test_interest_taken_away_is_silent(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), 0);
    watch_set(&probe, 0);
    fd_put_byte(fds[1]);
    check_is_idle();
    CHECK_EQ(probe.calls, 0);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_set(&probe, CORE_WRITABLE);
    CHECK_EQ(watch_poll(&probe), CORE_WRITABLE);
    fd_fill(fds[0]);
    check_is_idle(); /* readable, but asked for writable */
    watch_close(&probe);
    check_is_idle();
    fd_close_pair(fds[0], fds[1]);
}

/* As loop.sock_recv does it: many a time on and off, with an event in between or not. */
static void
test_on_and_off(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    for (int i = 0; i < 300; i++) {
        watch_set(&probe, CORE_READABLE);
        if (i % 3 != 0) {
            fd_put_byte(fds[1]);
        }
        if (i % 5 != 0) {
            CHECK_EQ(watch_poll(&probe), i % 3 != 0 ? CORE_READABLE : 0);
        }
        watch_set(&probe, 0);
        if (i % 2 == 0) {
            CHECK_EQ(watch_poll(&probe), 0);
        }
        fd_drain(fds[0]);
    }
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

const struct check_test watch_tests[] = {
    {"watch_readable_is_level_triggered", test_readable_is_level_triggered},
    {"watch_writable_is_level_triggered", test_writable_is_level_triggered},
    {"watch_both_directions_are_one_watch", test_both_directions_are_one_watch},
    {"watch_hang_up_of_a_pipe", test_hang_up_of_a_pipe},
    {"watch_reader_leaves_a_pipe", test_reader_leaves_a_pipe},
    {"watch_reset_of_a_socket", test_reset_of_a_socket},
    {"watch_hang_up_of_a_full_socket", test_hang_up_of_a_full_socket},
    {"watch_hang_up_while_waiting", test_hang_up_while_waiting},
#ifdef __linux__
    {"watch_regular_file_is_refused", test_regular_file_is_refused},
#endif
    {"watch_closed_fd_is_refused", test_closed_fd_is_refused},
    {"watch_flags_stay_as_found", test_flags_stay_as_found},
    {"watch_interest_taken_away_is_silent", test_interest_taken_away_is_silent},
    {"watch_on_and_off", test_on_and_off},
    {NULL, NULL},
};
