/* SPDX-License-Identifier: MIT
 *
 * Reading from streams (rules 1, 4 and 6 of core.h), on every channel. Closing is in test_stream_close.c, errors are in
 * test_stream_error.c.
 */
#include "probes.h"
#include "tests.h"

#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* A stream that reads from a channel, and the raw end that writes. */
static void
reader_open(struct stream_probe *probe, struct raw_end *raw, enum channel channel, int reader, int writer)
{
    *raw = (struct raw_end){.fd = writer, .key = probe->key};
    stream_open(probe, reader, channel_read_kind(channel));
}

static void
test_read_bytes(void)
{
    static const size_t sizes[] = {1, 2, 100, 4095, 4096, 4097, 20000, 1 << 20};
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 3, .buffer_size = 4096};
        struct raw_end raw;
        size_t total = 0;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            total += sizes[i];
            while (raw.sent < total) {
                raw_write(&raw, total - raw.sent);
                poll_once(1 * MS);
            }
            POLL_UNTIL(probe.received == total);
        }
        CHECK(!probe.has_eof && probe.read_error == 0);
        check_is_idle();
        CHECK_EQ(probe.received, total);
        stream_close(&probe);
        close(writer);
    }
}

static void
test_end_of_file(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        close(writer);
        stream_read_start(&probe);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 1000);
        CHECK_EQ(probe.read_error, 0);
        unsigned buffers = probe.buffers;
        check_is_idle(); /* reading has stopped, and the hang-up costs nothing */
        CHECK_EQ(probe.buffers, buffers);
        stream_read_stop(&probe);
        stream_close(&probe);
    }
}

static void
test_end_of_file_while_waiting(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        poll_once(0);
        CHECK_EQ(probe.reads, 0);
        close(writer);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.reads, 1);
        stream_close(&probe);
    }
}

/* --- starting and stopping */

static void
test_nothing_is_read_before_the_start(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        CHECK_EQ(raw_write(&raw, 10), 10);
        check_is_idle();
        CHECK_EQ(probe.buffers, 0);
        stream_read_start(&probe);
        POLL_UNTIL(probe.received == 10);
        stream_close(&probe);
        close(writer);
    }
}

static void
test_start_and_stop_may_be_repeated(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_stop(&probe);
        for (size_t i = 1; i <= 30; i++) {
            stream_read_start(&probe);
            stream_read_start(&probe);
            CHECK_EQ(raw_write(&raw, 1), 1);
            POLL_UNTIL(probe.received == i);
            if (i % 2 == 0) {
                stream_read_stop(&probe);
                stream_read_stop(&probe);
            }
            if (i % 3 == 0) {
                poll_once(0);
            }
        }
        stream_close(&probe);
        close(writer);
    }
}

static void
test_stopped_stream_costs_no_wake_ups(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 1), 1);
        POLL_UNTIL(probe.received == 1);
        stream_read_stop(&probe);
        unsigned buffers = probe.buffers;
        CHECK_EQ(raw_write(&raw, 500), 500);
        check_is_idle();
        close(writer);
        check_is_idle();
        CHECK_EQ(probe.buffers, buffers);
        stream_read_start(&probe);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 501);
        stream_close(&probe);
    }
}

static void
stop_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    stream_read_stop(probe);
}

/* One read at a time, each asked for anew; the probe checks that none comes unasked. */
static void
test_stop_in_on_read(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100, .in_read = stop_in_read};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        close(writer);
        for (unsigned reads = 1; !probe.has_eof; reads++) {
            stream_read_start(&probe);
            POLL_UNTIL(probe.reads == reads);
            if (reads % 4 == 1) {
                check_is_idle();
            }
            CHECK_EQ(probe.reads, reads);
        }
        CHECK_EQ(probe.received, 1000);
        stream_close(&probe);
    }
}

static void
restart_in_read(struct stream_probe *probe, ssize_t result)
{
    if (result > 0) {
        stream_read_stop(probe);
        stream_read_start(probe);
    }
}

static void
test_stop_and_start_in_on_read(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100, .in_read = restart_in_read};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 3000), 3000);
        close(writer);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 3000);
        stream_close(&probe);
    }
}

/* --- the limits of one poll: the probe checks that no poll goes beyond them */

static void
test_reads_per_poll_are_limited(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        CHECK_EQ(raw_write(&raw, 4000), 4000);
        stream_read_start(&probe);
        for (int i = 0; i < 3; i++) {
            poll_once(-1);
            CHECK(probe.received <= (size_t)(i + 1) * CORE_READS_PER_POLL * 100);
        }
        POLL_UNTIL(probe.received == 4000);
        stream_close(&probe);
        close(writer);
    }
}

/* The rest of a stream that had its share comes without another event from outside, and a second stream has its turn.
 * */
static void
test_streams_take_turns(void)
{
    int fds[2][2];
    struct stream_probe probes[2] = {{.buffer_size = 10}, {.buffer_size = 10}};
    struct raw_end raws[2] = {0};
    for (int i = 0; i < 2; i++) {
        unix_pair(fds[i]);
        stream_open(&probes[i], fds[i][0], CORE_STREAM_SOCKET);
        stream_read_start(&probes[i]);
        raws[i].fd = fds[i][1];
        CHECK_EQ(raw_write(&raws[i], 10000), 10000);
    }
    while (probes[0].received < 10000 || probes[1].received < 10000) {
        poll_once(-1); /* would wait for ever if the rest had been forgotten */
        long long ahead = (long long)probes[0].received - (long long)probes[1].received;
        CHECK(fixture_core.is_faulty || (ahead <= 10 * CORE_READS_PER_POLL && ahead >= -10 * CORE_READS_PER_POLL));
    }
    for (int i = 0; i < 2; i++) {
        stream_close(&probes[i]);
        close(fds[i][1]);
    }
}

static void
test_large_buffer(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 1 << 20};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        while (raw.sent < 3 << 20) {
            raw_write(&raw, (3 << 20) - raw.sent);
            poll_once(0);
        }
        POLL_UNTIL(probe.received == 3 << 20);
        stream_close(&probe);
        close(writer);
    }
}

/* --- on_buffer that declines */

static void
test_declined_buffer_is_offered_again(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 0};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 300), 300);
        for (unsigned asked = 1; asked <= 5; asked++) {
            poll_once(-1);
            CHECK_EQ(probe.buffers, asked); /* once in each poll; in a poll without data it may not be asked at all */
        }
        CHECK_EQ(probe.reads, 0);
        probe.buffer_size = 100;
        close(writer);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 300);
        stream_close(&probe);
    }
}

static void
stop_in_buffer(struct stream_probe *probe)
{
    stream_read_stop(probe);
}

static void
test_decline_and_stop(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 0, .in_buffer = stop_in_buffer};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 300), 300);
        POLL_UNTIL(probe.buffers == 1);
        check_is_idle();
        CHECK_EQ(probe.buffers, 1);
        probe.in_buffer = NULL;
        probe.buffer_size = 100;
        stream_read_start(&probe);
        POLL_UNTIL(probe.received == 300);
        stream_close(&probe);
        close(writer);
    }
}

/* The buffer that was given comes back with -EAGAIN, which the probe does not count. */
static void
test_stop_in_on_buffer(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100, .in_buffer = stop_in_buffer};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 300), 300);
        POLL_UNTIL(probe.buffers == 1);
        check_is_idle();
        CHECK_EQ(probe.buffers, 1);
        CHECK_EQ(probe.reads, 0);
        probe.in_buffer = NULL;
        stream_read_start(&probe);
        POLL_UNTIL(probe.received == 300);
        stream_close(&probe);
        close(writer);
    }
}

static void
decline_every_other(struct stream_probe *probe)
{
    probe->buffer_size = probe->buffers % 2 == 0 ? 0 : 7;
}

static void
test_decline_now_and_then(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 7, .in_buffer = decline_every_other};
        struct raw_end raw;
        reader_open(&probe, &raw, channel, reader, writer);
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 500), 500);
        close(writer);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 500);
        stream_close(&probe);
    }
}

/* --- other files that a read pipe may be */

static void
test_read_from_a_terminal(void)
{
    struct stream_probe probe = {.buffer_size = 100, .is_unchecked = true};
    struct termios raw_mode;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0);
    CHECK_EQ(grantpt(master), 0);
    CHECK_EQ(unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(slave >= 0);
    CHECK_EQ(tcgetattr(slave, &raw_mode), 0);
    cfmakeraw(&raw_mode);
    CHECK_EQ(tcsetattr(slave, TCSANOW, &raw_mode), 0);
    stream_open(&probe, slave, CORE_STREAM_PIPE_READ);
    stream_read_start(&probe);
    CHECK_EQ(write(master, "hello", 5), 5);
    POLL_UNTIL(probe.received == 5);
    stream_read_stop(&probe);
    CHECK_EQ(write(master, "again", 5), 5);
    check_is_idle();
    stream_read_start(&probe);
    POLL_UNTIL(probe.received == 10);
    stream_close(&probe);
    close(master);
}

const struct check_test stream_tests[] = {
    {"stream_read_bytes", test_read_bytes},
    {"stream_end_of_file", test_end_of_file},
    {"stream_end_of_file_while_waiting", test_end_of_file_while_waiting},
    {"stream_nothing_is_read_before_the_start", test_nothing_is_read_before_the_start},
    {"stream_start_and_stop_may_be_repeated", test_start_and_stop_may_be_repeated},
    {"stream_stopped_stream_costs_no_wake_ups", test_stopped_stream_costs_no_wake_ups},
    {"stream_stop_in_on_read", test_stop_in_on_read},
    {"stream_stop_and_start_in_on_read", test_stop_and_start_in_on_read},
    {"stream_reads_per_poll_are_limited", test_reads_per_poll_are_limited},
    {"stream_take_turns", test_streams_take_turns},
    {"stream_large_buffer", test_large_buffer},
    {"stream_declined_buffer_is_offered_again", test_declined_buffer_is_offered_again},
    {"stream_decline_and_stop", test_decline_and_stop},
    {"stream_stop_in_on_buffer", test_stop_in_on_buffer},
    {"stream_decline_now_and_then", test_decline_now_and_then},
    {"stream_read_from_a_terminal", test_read_from_a_terminal},
    {NULL, NULL},
};
