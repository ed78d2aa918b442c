/* SPDX-License-Identifier: MIT
 *
 * Write-only pipes (CORE_STREAM_PIPE_WRITE of core.h): the reader that leaves, and files that can't be polled. Reading
 * and writing through pipes is part of the other stream tests.
 */
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The channels of which one end is a write pipe. */
#define FOR_EACH_PIPE(it, reader, writer) \
    FOR_EACH_CHANNEL(it, reader, writer) \
        if (channel_write_kind(it) != CORE_STREAM_PIPE_WRITE) { \
            fd_close_pair(reader, writer); \
        } \
        else

/* The probe checks that there is no on_buffer. */
static void
test_reader_leaves(void)
{
    for (int is_polled = 0; is_polled < 2; is_polled++) {
        int reader, writer;
        FOR_EACH_PIPE(channel, reader, writer) {
            struct stream_probe probe = {0};
            stream_open(&probe, writer, CORE_STREAM_PIPE_WRITE);
            stream_read_start(&probe);
            if (is_polled) {
                check_is_idle();
            }
            close(reader);
            POLL_UNTIL(probe.has_eof);
            check_is_idle();
            CHECK_EQ(probe.reads, 1);
            stream_close(&probe);
        }
    }
}

static void
test_reader_leaves_a_full_pipe(void)
{
    int reader, writer;
    FOR_EACH_PIPE(channel, reader, writer) {
        struct stream_probe probe = {0};
        stream_open(&probe, writer, CORE_STREAM_PIPE_WRITE);
        stream_read_start(&probe);
        stream_fill(&probe);
        poll_for(3 * MS);
        CHECK(!probe.has_eof);
        close(reader);
        POLL_UNTIL(probe.has_eof);
        stream_close(&probe);
    }
}

static void
test_reader_leaves_with_a_write_in_flight(void)
{
    for (int is_reading = 0; is_reading < 2; is_reading++) {
        int reader, writer;
        FOR_EACH_PIPE(channel, reader, writer) {
            struct stream_probe probe = {0};
            stream_open(&probe, writer, CORE_STREAM_PIPE_WRITE);
            if (is_reading) {
                stream_read_start(&probe);
            }
            stream_fill(&probe);
            CHECK_EQ(stream_write(&probe, 1 << 20, 5), 0);
            poll_for(3 * MS);
            CHECK(probe.is_writing);
            close(reader);
            POLL_UNTIL(probe.writes == 1 && !probe.is_reading);
            CHECK(probe.write_status == -EPIPE || probe.write_status == -ECONNRESET);
            CHECK_EQ(probe.has_eof, is_reading);
            check_is_idle();
            stream_close(&probe);
        }
    }
}

/* Bytes that the reader never took are no reason to keep quiet about it, nor is a reader that comes and goes. */
static void
test_reader_that_leaves_is_told_once_it_is_asked(void)
{
    int reader, writer;
    FOR_EACH_PIPE(channel, reader, writer) {
        struct stream_probe probe = {0};
        stream_open(&probe, writer, CORE_STREAM_PIPE_WRITE);
        stream_read_start(&probe);
        stream_read_stop(&probe);
        CHECK(stream_try_write(&probe, 100, 1) == 100 || fixture_core.is_faulty);
        close(reader);
        check_is_idle();
        CHECK_EQ(probe.reads, 0);
        stream_read_start(&probe);
        POLL_UNTIL(probe.has_eof);
        check_is_idle();
        stream_close(&probe);
    }
}

static void
close_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    stream_close(probe);
}

static void
test_close_when_the_reader_leaves(void)
{
    for (int is_writing = 0; is_writing < 2; is_writing++) {
        int reader, writer;
        FOR_EACH_PIPE(channel, reader, writer) {
            struct stream_probe probe = {.in_read = close_in_read};
            stream_open(&probe, writer, CORE_STREAM_PIPE_WRITE);
            stream_read_start(&probe);
            if (is_writing) {
                stream_fill(&probe);
                CHECK_EQ(stream_write(&probe, 1000, 1), 0);
            }
            close(reader);
            POLL_UNTIL(probe.stream == NULL);
            CHECK(probe.has_eof);
            check_is_idle();
        }
    }
}

/* --- files that can't be polled */

static int
open_null(void)
{
    return open("/dev/null", O_WRONLY | O_NONBLOCK);
}

static int
open_regular(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    int fd = dup(fileno(file));
    fclose(file);
    fd_set_blocking(fd, false);
    return fd;
}

static int (*const open_direct[])(void) = {open_null, open_regular};
enum { DIRECT_KINDS = sizeof open_direct / sizeof open_direct[0] };

static void
test_direct_write(void)
{
    for (int kind = 0; kind < DIRECT_KINDS; kind++) {
        struct stream_probe probe = {0};
        check_note("kind %d", kind);
        stream_open(&probe, open_direct[kind](), CORE_STREAM_PIPE_WRITE);
        stream_read_start(&probe);
        check_is_idle();
        for (unsigned i = 1; i <= 5; i++) {
            CHECK(stream_try_write(&probe, 1000, 3) == 1000 || fixture_core.is_faulty);
            CHECK_EQ(stream_write(&probe, 100000 * i, 1500 * i), 0);
            poll_once(-1); /* there is something to deliver: it does not wait */
            POLL_UNTIL(probe.writes == i);
            CHECK_EQ(probe.write_status, 0);
            CHECK_EQ(core->stream_unsent(probe.stream), 0);
            check_is_idle();
        }
        CHECK_EQ(probe.reads, 0);
        CHECK(kind == 0 || lseek(probe.fd, 0, SEEK_CUR) == (off_t)probe.sent);
        stream_close(&probe);
        check_is_idle();
    }
}

static void
test_direct_write_of_nothing(void)
{
    for (int kind = 0; kind < DIRECT_KINDS; kind++) {
        struct stream_probe probe = {0};
        stream_open(&probe, open_direct[kind](), CORE_STREAM_PIPE_WRITE);
        CHECK_EQ(stream_write(&probe, 0, 1), 0);
        poll_once(-1);
        POLL_UNTIL(probe.writes == 1);
        CHECK_EQ(probe.write_status, 0);
        stream_close(&probe);
    }
}

static void
write_next(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    if (probe->budget > 0) {
        probe->budget--;
        CHECK_EQ(stream_write(probe, 1000, 1), 0);
    }
}

/* Each write completes in a later poll than the one that it was made in. */
static void
test_direct_write_in_on_written(void)
{
    for (int kind = 0; kind < DIRECT_KINDS; kind++) {
        struct stream_probe probe = {.budget = 20, .in_written = write_next};
        stream_open(&probe, open_direct[kind](), CORE_STREAM_PIPE_WRITE);
        CHECK_EQ(stream_write(&probe, 1000, 1), 0);
        for (unsigned polls = 1; probe.writes <= 20; polls++) {
            poll_once(-1);
            CHECK(probe.writes <= polls);
        }
        check_is_idle();
        stream_close(&probe);
    }
}

static void
test_direct_write_and_close(void)
{
    for (int kind = 0; kind < DIRECT_KINDS; kind++) {
        struct stream_probe probe = {0};
        stream_open(&probe, open_direct[kind](), CORE_STREAM_PIPE_WRITE);
        CHECK_EQ(stream_write(&probe, 100000, 3), 0);
        stream_close(&probe);
        check_is_idle();
        CHECK_EQ(probe.writes, 0);
    }
}

static void
test_direct_write_error(void)
{
    int fd = open("/dev/full", O_WRONLY | O_NONBLOCK);
    struct stream_probe probe = {0};
    if (fd < 0) {
        fd = open("/dev/null", O_RDONLY); /* not every system has the other: -EBADF will do as well */
    }
    stream_open(&probe, fd, CORE_STREAM_PIPE_WRITE);
    ssize_t count;
    do {
        count = stream_try_write(&probe, 100, 1);
    } while (count == -EAGAIN && fixture_core.is_faulty);
    CHECK(count == -ENOSPC || count == -EBADF);
    CHECK_EQ(stream_write(&probe, 100, 1), 0);
    POLL_UNTIL(probe.writes == 1);
    CHECK_EQ(probe.write_status, count);
    check_is_idle();
    stream_close(&probe);
}

/* A terminal as standard output. */
static void
test_write_to_a_terminal(void)
{
    char bytes[100];
    struct stream_probe probe = {0};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0);
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(slave >= 0);
    stream_open(&probe, slave, CORE_STREAM_PIPE_WRITE);
    CHECK_EQ(stream_write(&probe, 50, 2), 0);
    POLL_UNTIL(probe.writes == 1);
    CHECK_EQ(probe.write_status, 0);
    CHECK(read(master, bytes, sizeof bytes) > 0);
    stream_close(&probe);
    close(master);
}

const struct check_test pipe_tests[] = {
    {"pipe_reader_leaves", test_reader_leaves},
    {"pipe_reader_leaves_a_full_pipe", test_reader_leaves_a_full_pipe},
    {"pipe_reader_leaves_with_a_write_in_flight", test_reader_leaves_with_a_write_in_flight},
    {"pipe_reader_that_leaves_is_told_once_it_is_asked", test_reader_that_leaves_is_told_once_it_is_asked},
    {"pipe_close_when_the_reader_leaves", test_close_when_the_reader_leaves},
    {"pipe_direct_write", test_direct_write},
    {"pipe_direct_write_of_nothing", test_direct_write_of_nothing},
    {"pipe_direct_write_in_on_written", test_direct_write_in_on_written},
    {"pipe_direct_write_and_close", test_direct_write_and_close},
    {"pipe_direct_write_error", test_direct_write_error},
    {"pipe_write_to_a_terminal", test_write_to_a_terminal},
    {NULL, NULL},
};
