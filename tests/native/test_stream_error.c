/* SPDX-License-Identifier: MIT
 *
 * Streams whose peer resets or goes away (rules 4 and 6 of core.h): reading, writing, both, paused.
 */
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <unistd.h>

/* The errors by which a socket says that its peer is gone; which of them depends on the system and the moment. */
static bool
is_peer_gone(int status)
{
    return status == -EPIPE || status == -ECONNRESET;
}

/* Try until the answer is the kernel's own. */
static ssize_t
try_write_for_certain(struct stream_probe *probe)
{
    ssize_t count;
    do {
        count = stream_try_write(probe, 10, 1);
    } while (count == -EAGAIN && fixture_core.is_faulty);
    return count;
}

static void
test_reset_while_reading(void)
{
    for (int is_polled = 0; is_polled < 2; is_polled++) {
        int fds[2];
        struct stream_probe probe = {.buffer_size = 1000};
        tcp_pair(fds);
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        if (is_polled) {
            poll_once(0);
        }
        tcp_reset(fds[1]);
        POLL_UNTIL(!probe.is_reading);
        CHECK_EQ(probe.read_error, -ECONNRESET);
        CHECK_EQ(probe.reads, 1);
        check_is_idle();
        stream_read_stop(&probe);
        check_is_idle();
        stream_close(&probe);
    }
}

/* However it came that nobody reads: a reset costs no wake-ups, and is told when somebody reads. */
static void
test_reset_while_paused(void)
{
    for (int way = 0; way < 4; way++) {
        int fds[2];
        struct stream_probe probe = {.buffer_size = 1000};
        struct raw_end raw = {0};
        check_note("way %d", way);
        tcp_pair(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        if (way > 0) {
            stream_read_start(&probe);
            poll_once(0);
        }
        if (way > 1) {
            CHECK_EQ(raw_write(&raw, 10), 10);
            POLL_UNTIL(probe.received == 10);
        }
        if (way > 0) {
            stream_read_stop(&probe);
        }
        if (way > 2) {
            poll_once(0);
        }
        unsigned buffers = probe.buffers;
        tcp_reset(fds[1]);
        check_is_idle();
        CHECK_EQ(probe.buffers, buffers);
        stream_read_start(&probe);
        POLL_UNTIL(!probe.is_reading);
        CHECK_EQ(probe.read_error, -ECONNRESET);
        check_is_idle();
        stream_close(&probe);
        check_is_idle();
    }
}

static void
decline_and_stop(struct stream_probe *probe)
{
    stream_read_stop(probe);
}

static void
test_reset_after_a_declined_buffer(void)
{
    int fds[2];
    struct stream_probe probe = {.buffer_size = 0, .in_buffer = decline_and_stop};
    tcp_pair(fds);
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    stream_read_start(&probe);
    tcp_reset(fds[1]);
    POLL_UNTIL(probe.buffers > 0);
    check_is_idle();
    CHECK_EQ(probe.buffers, 1);
    CHECK_EQ(probe.reads, 0);
    stream_close(&probe);
}

static void
test_write_to_a_reset_socket(void)
{
    int fds[2];
    struct stream_probe probe = {.buffer_size = 1000};
    tcp_pair(fds);
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    tcp_reset(fds[1]);
    check_is_idle();
    int status = stream_write(&probe, 100000, 3);
    if (status == 0) {
        POLL_UNTIL(probe.writes == 1);
        status = probe.write_status;
    }
    CHECK(is_peer_gone(status));
    CHECK_EQ(try_write_for_certain(&probe), -EPIPE);
    check_is_idle();
    stream_close(&probe);
}

static void
test_try_write_to_a_closed_peer(void)
{
    int fds[2];
    struct stream_probe probe = {.buffer_size = 1000};
    unix_pair(fds);
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    close(fds[1]);
    CHECK(is_peer_gone((int)try_write_for_certain(&probe)));
    stream_close(&probe);
}

/* The write in flight ends with the error whether anybody reads or not; a reader hears of it as well. */
static void
test_reset_with_a_write_in_flight(void)
{
    for (int is_reading = 0; is_reading < 2; is_reading++) {
        for (int is_unix = 0; is_unix < 2; is_unix++) {
            int fds[2];
            struct stream_probe probe = {.buffer_size = 1000};
            check_note("%s, %s", is_reading ? "reading" : "not reading", is_unix ? "AF_UNIX" : "TCP");
            (is_unix ? unix_pair : tcp_pair)(fds);
            stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
            if (is_reading) {
                stream_read_start(&probe);
            }
            stream_fill(&probe);
            CHECK_EQ(stream_write(&probe, 1 << 20, 3), 0);
            poll_for(3 * MS);
            CHECK(probe.is_writing);
            is_unix ? (void)close(fds[1]) : tcp_reset(fds[1]);
            POLL_UNTIL(probe.writes == 1 && !probe.is_reading);
            CHECK(is_peer_gone(probe.write_status));
            CHECK_EQ(core->stream_unsent(probe.stream), 0);
            CHECK(!is_reading || probe.has_eof || is_peer_gone(probe.read_error));
            check_is_idle();
            CHECK_EQ(probe.writes, 1);
            stream_close(&probe);
        }
    }
}

static void
close_in_written(struct stream_probe *probe, int status)
{
    CHECK(is_peer_gone(status));
    stream_close(probe);
}

static void
test_close_in_on_written_on_error(void)
{
    int fds[2];
    struct stream_probe probe = {.buffer_size = 1000, .in_written = close_in_written};
    tcp_pair(fds);
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    stream_fill(&probe);
    CHECK_EQ(stream_write(&probe, 1 << 20, 3), 0);
    tcp_reset(fds[1]);
    POLL_UNTIL(probe.stream == NULL);
    check_is_idle();
}

/* A failed write doesn't take away what is there to read. */
static void
test_bytes_before_the_end_are_read_after_a_write_error(void)
{
    int fds[2];
    struct stream_probe probe = {.key = 1, .buffer_size = 1000};
    struct raw_end raw = {.key = 1};
    unix_pair(fds);
    raw.fd = fds[1];
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    CHECK_EQ(raw_write(&raw, 5000), 5000);
    close(fds[1]);
    int status = stream_write(&probe, 100, 1);
    if (status == 0) {
        POLL_UNTIL(probe.writes == 1);
        status = probe.write_status;
    }
    CHECK(is_peer_gone(status));
    stream_read_start(&probe);
    POLL_UNTIL(!probe.is_reading);
    CHECK_EQ(probe.received, 5000);
    CHECK(probe.has_eof);
    stream_close(&probe);
}

const struct check_test stream_error_tests[] = {
    {"error_reset_while_reading", test_reset_while_reading},
    {"error_reset_while_paused", test_reset_while_paused},
    {"error_reset_after_a_declined_buffer", test_reset_after_a_declined_buffer},
    {"error_write_to_a_reset_socket", test_write_to_a_reset_socket},
    {"error_try_write_to_a_closed_peer", test_try_write_to_a_closed_peer},
    {"error_reset_with_a_write_in_flight", test_reset_with_a_write_in_flight},
    {"error_close_in_on_written_on_error", test_close_in_on_written_on_error},
    {"error_bytes_before_the_end_are_read_after_a_write_error", test_bytes_before_the_end_are_read_after_a_write_error},
    {NULL, NULL},
};
