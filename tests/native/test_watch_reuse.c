/* SPDX-License-Identifier: MIT
 *
 * Watches on fd numbers that are closed, copied and used again (rules 5 and 6 of core.h). Programs do close an fd
 * before they take the watch away, and a forked child or a dup keeps the file alive after that: nothing may spin then,
 * and no event of one file may be reported as another's.
 */
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <unistd.h>

/* How the watch ends, as far as the core hears of it, and what has been polled before. */
struct ending {
    bool is_set_to_none;    /* before the fd is closed */
    bool is_polled_between; /* after that */
};

static const struct ending endings[] = {{true, true}, {true, false}, {false, false}};
enum { ENDINGS = sizeof endings / sizeof endings[0] };

/* Watch `fd` and close it; leaves the probe open with no interest. */
static void
watch_and_close_fd(struct watch_probe *probe, int fd, const struct ending *ending)
{
    watch_open(probe, fd);
    watch_set(probe, CORE_READABLE);
    CHECK_EQ(watch_poll(probe), 0);
    if (ending->is_set_to_none) {
        watch_set(probe, 0);
    }
    if (ending->is_polled_between) {
        CHECK_EQ(watch_poll(probe), 0);
    }
    CHECK_EQ(close(fd), 0);
    if (!ending->is_set_to_none) {
        watch_set(probe, 0);
    }
}

static void
test_number_used_again(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int old[2];
        int new[2];
        struct watch_probe probe = {0};
        check_note("ending %d", i);
        pipe_pair(old);
        pipe_pair(new);
        watch_and_close_fd(&probe, old[0], &endings[i]);
        fd_move(new[0], old[0]);
        watch_set(&probe, CORE_READABLE);
        CHECK_EQ(watch_poll(&probe), 0);
        fd_put_byte(new[1]);
        CHECK_EQ(watch_poll(&probe), CORE_READABLE);
        watch_set(&probe, 0);
        CHECK_EQ(watch_poll(&probe), 0);
        watch_close(&probe);
        fd_close_pair(old[0], old[1]);
        CHECK_EQ(close(new[1]), 0);
    }
}

/* The same file comes back under its number: a registration may still be there. */
static void
test_number_used_again_by_the_same_file(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int fds[2];
        struct watch_probe probe = {0};
        check_note("ending %d", i);
        pipe_pair(fds);
        int copy = dup(fds[0]);
        watch_and_close_fd(&probe, fds[0], &endings[i]);
        fd_move(copy, fds[0]);
        watch_set(&probe, CORE_READABLE);
        CHECK_EQ(watch_poll(&probe), 0);
        fd_put_byte(fds[1]);
        CHECK_EQ(watch_poll(&probe), CORE_READABLE);
        watch_close(&probe);
        check_is_idle();
        fd_close_pair(fds[0], fds[1]);
    }
}

/* The same with a new watch: the registration could not be taken out, as its fd was closed already. */
static void
test_number_used_again_by_the_same_file_and_a_new_watch(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int fds[2];
        struct watch_probe first = {0};
        struct watch_probe second = {0};
        check_note("ending %d", i);
        pipe_pair(fds);
        int copy = dup(fds[0]);
        watch_and_close_fd(&first, fds[0], &endings[i]);
        watch_close(&first);
        fd_move(copy, fds[0]);
        watch_open(&second, fds[0]);
        watch_set(&second, CORE_READABLE);
        CHECK_EQ(watch_poll(&second), 0);
        fd_put_byte(fds[1]);
        CHECK_EQ(watch_poll(&second), CORE_READABLE);
        CHECK_EQ(watch_poll(&second), CORE_READABLE);
        watch_set(&second, 0);
        check_is_idle();
        watch_close(&second);
        check_is_idle();
        fd_close_pair(fds[0], fds[1]);
    }
}

/* The old file lives on in a copy and has an event, the new one has none. */
static void
test_old_file_is_not_taken_for_the_new(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int old[2];
        int new[2];
        struct watch_probe probe = {0};
        check_note("ending %d", i);
        pipe_pair(old);
        pipe_pair(new);
        int copy = dup(old[0]);
        watch_and_close_fd(&probe, old[0], &endings[i]);
        fd_move(new[0], old[0]);
        watch_set(&probe, CORE_READABLE);
        fd_put_byte(old[1]);
        check_is_idle();
        CHECK_EQ(probe.calls, 0);
        fd_put_byte(new[1]);
        CHECK_EQ(watch_poll(&probe), CORE_READABLE);
        watch_set(&probe, 0);
        check_is_idle();
        watch_close(&probe);
        fd_close_pair(old[0], old[1]);
        fd_close_pair(new[1], copy);
    }
}

/* The same with a new watch, the old one being closed before or after the new one's opening. */
static void
test_old_file_is_not_taken_for_the_new_watch(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int old[2];
        int new[2];
        struct watch_probe first = {0};
        struct watch_probe second = {0};
        check_note("ending %d", i);
        pipe_pair(old);
        pipe_pair(new);
        int copy = dup(old[0]);
        watch_and_close_fd(&first, old[0], &endings[i]);
        watch_close(&first);
        fd_move(new[0], old[0]);
        watch_open(&second, old[0]);
        watch_set(&second, CORE_READABLE);
        fd_put_byte(old[1]);
        check_is_idle();
        CHECK_EQ(first.calls + second.calls, 0);
        fd_put_byte(new[1]);
        CHECK_EQ(watch_poll(&second), CORE_READABLE);
        watch_close(&second);
        check_is_idle();
        fd_close_pair(old[0], old[1]);
        fd_close_pair(new[1], copy);
    }
}

/* A watch_set that fails leaves no interest: a file that has the number later on is not watched. */
static void
test_failed_set_leaves_no_interest(void)
{
    int old[2];
    int new[2];
    struct watch_probe probe = {0};
    unix_pair(old);
    pipe_pair(new);
    watch_open(&probe, old[0]);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), 0);
    CHECK_EQ(close(old[0]), 0);
    CHECK_EQ(core->watch_set(probe.watch, CORE_READABLE | CORE_WRITABLE), -EBADF);
    probe.interest = 0;
    fd_move(new[0], old[0]);
    fd_put_byte(new[1]);
    check_is_idle();
    CHECK_EQ(probe.calls, 0);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(watch_poll(&probe), CORE_READABLE);
    watch_close(&probe);
    fd_close_pair(old[0], old[1]);
    CHECK_EQ(close(new[1]), 0);
}

/* Nobody asks for the copy's events, and epoll gives them all the same. */
static void
test_copy_of_a_closed_fd_costs_nothing(void)
{
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        for (int i = 0; i < ENDINGS; i++) {
            int fds[2];
            struct watch_probe probe = {0};
            check_note("ending %d", i);
            pipe_pair(fds);
            int copy = dup(fds[0]);
            watch_and_close_fd(&probe, fds[0], &endings[i]);
            if (is_closed) {
                watch_close(&probe);
            }
            fd_put_byte(fds[1]);
            check_is_idle();
            CHECK_EQ(close(fds[1]), 0);
            check_is_idle();
            CHECK_EQ(probe.calls, 0);
            if (!is_closed) {
                watch_close(&probe);
            }
            CHECK_EQ(close(copy), 0);
        }
    }
}

/* While one registration can't be reached any more, the other watches stay as they are. */
static void
test_copy_of_a_closed_fd_disturbs_nobody(void)
{
    int fds[2];
    int others[2];
    struct watch_probe probe = {0};
    struct watch_probe other = {0};
    pipe_pair(fds);
    unix_pair(others);
    watch_open(&other, others[0]);
    watch_set(&other, CORE_READABLE);
    int copy = dup(fds[0]);
    watch_and_close_fd(&probe, fds[0], &endings[0]);
    fd_put_byte(fds[1]);
    check_is_idle();
    CHECK_EQ(other.calls, 0);
    fd_put_byte(others[1]);
    CHECK_EQ(watch_poll(&other), CORE_READABLE);
    core->loop_wake(loop);
    poll_once(-1);
    watch_set(&other, CORE_WRITABLE);
    CHECK_EQ(watch_poll(&other), CORE_WRITABLE);
    watch_set(&other, 0);
    check_is_idle();
    watch_close(&probe);
    watch_close(&other);
    fd_close_pair(others[0], others[1]);
    fd_close_pair(fds[1], copy);
}

/* A stream opens on the number of a watched fd that went away, or the other way round: the registry above core.h takes
 * the old watch away first. */
static void
test_stream_on_the_number_of_a_watch(void)
{
    for (int i = 0; i < ENDINGS; i++) {
        int old[2];
        int new[2];
        struct watch_probe watch = {0};
        struct stream_probe stream = {.buffer_size = 100};
        struct raw_end raw = {0};
        check_note("ending %d", i);
        pipe_pair(old);
        unix_pair(new);
        int copy = dup(old[0]);
        watch_and_close_fd(&watch, old[0], &endings[i]);
        watch_close(&watch);
        fd_move(new[0], old[0]);
        stream_open(&stream, old[0], CORE_STREAM_SOCKET);
        stream_read_start(&stream);
        raw.fd = new[1];
        fd_put_byte(old[1]);
        if (!fixture_core.is_faulty) {
            CHECK(count_early_polls(10, 3 * MS) <= 2);
        }
        CHECK_EQ(raw_write(&raw, 50), 50);
        POLL_UNTIL(stream.received == 50);
        stream_close(&stream);
        check_is_idle();
        fd_close_pair(old[1], new[1]);
        CHECK_EQ(close(copy), 0);
    }
}

static void
test_watch_on_the_number_of_a_stream(void)
{
    int old[2];
    int new[2];
    struct watch_probe watch = {0};
    struct stream_probe stream = {.buffer_size = 100};
    struct raw_end raw = {0};
    unix_pair(old);
    pipe_pair(new);
    stream_open(&stream, old[0], CORE_STREAM_SOCKET);
    stream_read_start(&stream);
    raw.fd = old[1];
    CHECK_EQ(raw_write(&raw, 50), 50);
    POLL_UNTIL(stream.received == 50);
    int copy = dup(old[0]);
    stream_close(&stream);
    fd_move(new[0], old[0]);
    watch_open(&watch, old[0]);
    watch_set(&watch, CORE_READABLE);
    CHECK_EQ(raw_write(&raw, 50), 50);
    check_is_idle();
    CHECK_EQ(watch.calls, 0);
    fd_put_byte(new[1]);
    CHECK_EQ(watch_poll(&watch), CORE_READABLE);
    watch_close(&watch);
    fd_close_pair(old[0], old[1]);
    fd_close_pair(new[1], copy);
}

const struct check_test watch_reuse_tests[] = {
    {"reuse_number_used_again", test_number_used_again},
    {"reuse_number_used_again_by_the_same_file", test_number_used_again_by_the_same_file},
    {"reuse_number_used_again_by_the_same_file_and_a_new_watch",
     test_number_used_again_by_the_same_file_and_a_new_watch},
    {"reuse_old_file_is_not_taken_for_the_new", test_old_file_is_not_taken_for_the_new},
    {"reuse_old_file_is_not_taken_for_the_new_watch", test_old_file_is_not_taken_for_the_new_watch},
    {"reuse_failed_set_leaves_no_interest", test_failed_set_leaves_no_interest},
    {"reuse_copy_of_a_closed_fd_costs_nothing", test_copy_of_a_closed_fd_costs_nothing},
    {"reuse_copy_of_a_closed_fd_disturbs_nobody", test_copy_of_a_closed_fd_disturbs_nobody},
    {"reuse_stream_on_the_number_of_a_watch", test_stream_on_the_number_of_a_watch},
    {"reuse_watch_on_the_number_of_a_stream", test_watch_on_the_number_of_a_stream},
    {NULL, NULL},
};
