/* SPDX-License-Identifier: MIT
 *
 * Writing to streams (rules 1 and 3 of core.h), on every channel: sizes, many buffers, backpressure, completion,
 * half-close.
 */
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { MANY_PIECES = 3000 }; /* more than IOV_MAX */

static void
writer_open(struct stream_probe *probe, struct raw_end *raw, enum channel channel, int reader, int writer)
{
    *raw = (struct raw_end){.fd = reader, .key = probe->key};
    stream_open(probe, writer, channel_write_kind(channel));
}

/* Poll and let the raw end read until all that was given has arrived, and the write in flight has ended. */
static void
drain_until_written(struct stream_probe *probe, struct raw_end *raw)
{
    int64_t deadline_ns = now_ns() + 20000 * MS;
    size_t unsent = core->stream_unsent(probe->stream);
    while (raw->received < probe->sent || probe->is_writing) {
        CHECK(now_ns() < deadline_ns);
        poll_once(1 * MS);
        raw_read(raw, 1 << 20);
        CHECK(!raw->has_eof);
        size_t now_unsent = core->stream_unsent(probe->stream);
        CHECK(now_unsent <= unsent);
        CHECK(raw->received + now_unsent <= probe->sent);
        unsent = now_unsent;
    }
    CHECK_EQ(raw->received, probe->sent);
    CHECK_EQ(core->stream_unsent(probe->stream), 0);
}

static void
close_both(struct stream_probe *probe, const struct raw_end *raw)
{
    stream_close(probe);
    CHECK_EQ(close(raw->fd), 0);
}

/* --- try_write */

static void
test_try_write_small(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 5};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (size_t i = 0; i < 50; i++) {
            ssize_t count = stream_try_write(&probe, 1 + i, 1 + i % 3);
            CHECK(count == (ssize_t)(1 + i) || fixture_core.is_faulty);
        }
        raw_read(&raw, 1 << 20);
        CHECK_EQ(raw.received, probe.sent); /* without a poll */
        close_both(&probe, &raw);
    }
}

static void
test_try_write_of_all_sizes(void)
{
    static const size_t lengths[] = {0, 1, 4096, 1 << 20, 8 << 20};
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 5};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            for (unsigned pieces = 1; pieces <= 3; pieces++) {
                ssize_t count = stream_try_write(&probe, lengths[i], pieces);
                CHECK((lengths[i] > 0 ? count > 0 : count == 0) || (count == -EAGAIN && fixture_core.is_faulty));
                while (raw.received < probe.sent) {
                    raw_read(&raw, 1 << 20);
                }
            }
        }
        CHECK(!raw.has_eof);
        close_both(&probe, &raw);
    }
}

static void
test_try_write_until_full(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 5};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (int i = 0; i < 4; i++) {
            CHECK(stream_fill(&probe) > 0);
            check_is_idle();
            while (raw.received < probe.sent) {
                raw_read(&raw, 1 << 20);
            }
        }
        close_both(&probe, &raw);
    }
}

static void
test_try_write_of_many_pieces(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 5};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (int i = 0; i < 20; i++) {
            ssize_t count = stream_try_write(&probe, 10000, MANY_PIECES);
            CHECK(count > 0 || (count == -EAGAIN && fixture_core.is_faulty));
            while (raw.received < probe.sent) {
                raw_read(&raw, 1 << 20);
            }
        }
        close_both(&probe, &raw);
    }
}

/* --- write */

static void
test_write_of_all_sizes(void)
{
    static const struct {
        size_t length;
        unsigned pieces;
    } writes[] = {
        {1, 1},
        {2, 2},
        {1000, 1},
        {1000, 10},
        {10000, MANY_PIECES},
        {65536, 1},
        {1 << 20, 7},
        {1 << 20, MANY_PIECES},
        {8 << 20, 1},
        {8 << 20, MANY_PIECES},
    };
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
            CHECK_EQ(stream_write(&probe, writes[i].length, writes[i].pieces), 0);
            drain_until_written(&probe, &raw);
            CHECK_EQ(probe.writes, i + 1);
            CHECK_EQ(probe.write_status, 0);
        }
        check_is_idle();
        CHECK_EQ(probe.writes, sizeof writes / sizeof writes[0]);
        close_both(&probe, &raw);
    }
}

static void
test_write_of_nothing(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (unsigned pieces = 0; pieces < 4; pieces++) {
            CHECK_EQ(stream_write(&probe, 0, pieces), 0);
            CHECK_EQ(core->stream_unsent(probe.stream), 0);
            POLL_UNTIL(probe.writes == pieces + 1);
            CHECK_EQ(probe.write_status, 0);
        }
        CHECK_EQ(raw_read(&raw, 1), 0);
        CHECK(!raw.has_eof);
        close_both(&probe, &raw);
    }
}

/* While the peer does not read there is no completion, and no spinning. */
static void
test_backpressure(void)
{
    const size_t length = 6 << 20; /* TCP may find some more room after all, but not so much */
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        size_t taken = stream_fill(&probe);
        CHECK_EQ(stream_write(&probe, length, 10), 0);
        poll_for(20 * MS);
        size_t unsent = core->stream_unsent(probe.stream);
        CHECK(unsent > 0 && unsent <= length);
        check_is_idle();
        CHECK_EQ(probe.writes, 0);
        CHECK_EQ(probe.sent, taken + length);
        drain_until_written(&probe, &raw);
        CHECK_EQ(probe.writes, 1);
        close_both(&probe, &raw);
    }
}

/* A peer that takes a few bytes at a time. */
static void
test_slow_reader(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        stream_fill(&probe);
        CHECK_EQ(stream_write(&probe, 50000, 100), 0);
        while (probe.is_writing) {
            poll_once(0);
            raw_read(&raw, 5000);
        }
        CHECK_EQ(probe.write_status, 0);
        drain_until_written(&probe, &raw);
        close_both(&probe, &raw);
    }
}

/* What had to be buffered and what went directly keep their order. */
static void
test_write_and_try_write_in_turn(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        for (size_t i = 0; i < 40; i++) {
            (void)stream_try_write(&probe, 10 + i * 100, 1 + i % 4);
            CHECK_EQ(stream_write(&probe, 1 + i * 1000, 1 + i % 5), 0);
            drain_until_written(&probe, &raw);
        }
        close_both(&probe, &raw);
    }
}

/* --- inside callbacks */

static void
write_next(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    if (probe->budget > 0) {
        probe->budget--;
        (void)stream_try_write(probe, 10, 1);
        CHECK_EQ(stream_write(probe, 500 + probe->budget * 100, 3), 0);
    }
}

static void
test_write_in_on_written(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 9, .budget = 100, .in_written = write_next};
        struct raw_end raw;
        writer_open(&probe, &raw, channel, reader, writer);
        CHECK_EQ(stream_write(&probe, 10, 1), 0);
        while (probe.budget > 0 || probe.is_writing) {
            poll_once(1 * MS);
            raw_read(&raw, 1 << 20);
        }
        drain_until_written(&probe, &raw);
        CHECK_EQ(probe.writes, 101);
        close_both(&probe, &raw);
    }
}

/* Send back as many bytes as came in, of the same pattern. */
static void
echo_in_read(struct stream_probe *probe, ssize_t result)
{
    if (result > 0 && !probe->is_writing) {
        size_t length = probe->received - probe->sent;
        if (length % 2 == 0) {
            (void)stream_try_write(probe, length, 2);
        }
        if (probe->received > probe->sent) {
            CHECK_EQ(stream_write(probe, probe->received - probe->sent, 2), 0);
        }
    }
}

static void
echo_in_written(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    if (probe->received > probe->sent) {
        CHECK_EQ(stream_write(probe, probe->received - probe->sent, 4), 0);
    }
}

static void
test_echo(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        struct stream_probe probe = {
            .key = 2, .buffer_size = 3000, .in_read = echo_in_read, .in_written = echo_in_written};
        struct raw_end raw = {.key = 2};
        (kind == 0 ? tcp_pair : unix_pair)(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        do {
            if (raw.sent < 2000000) {
                raw_write(&raw, 1 + (raw.sent * 7) % 50000);
            }
            poll_once(0);
            raw_read(&raw, 1 << 20);
            CHECK(raw.received <= raw.sent);
        } while (raw.sent < 2000000 || raw.received < raw.sent);
        close_both(&probe, &raw);
    }
}

/* Both directions at the same time, both of them full: neither waits for the other. */
static void
test_both_directions_at_once(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        struct stream_probe probe = {.key = 4, .buffer_size = 10000};
        struct raw_end raw = {.key = 4};
        (kind == 0 ? tcp_pair : unix_pair)(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        CHECK_EQ(stream_write(&probe, 6 << 20, 100), 0);
        while (raw.received < 6 << 20 || probe.received < 6 << 20) {
            raw_write(&raw, 6 << 20 > raw.sent ? (6 << 20) - raw.sent : 0);
            poll_once(0);
            raw_read(&raw, 200000);
        }
        POLL_UNTIL(probe.writes == 1);
        CHECK_EQ(probe.write_status, 0);
        close_both(&probe, &raw);
    }
}

/* --- half-close: sockets only */

static void
test_shutdown_is_at_once(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        struct stream_probe probe = {.key = 4, .buffer_size = 1000};
        struct raw_end raw = {.key = 4};
        (kind == 0 ? tcp_pair : unix_pair)(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        (void)stream_try_write(&probe, 100, 1);
        CHECK_EQ(core->stream_shutdown(probe.stream), 0);
        while (!raw.has_eof) {
            raw_read(&raw, 1000); /* without a poll */
        }
        CHECK_EQ(raw.received, probe.sent);
        check_is_idle();
        CHECK_EQ(raw_write(&raw, 5000), 5000);
        POLL_UNTIL(probe.received == 5000);
        CHECK(!probe.has_eof);
        close(raw.fd);
        POLL_UNTIL(probe.has_eof);
        CHECK(stream_try_write(&probe, 1, 1) < 0);
        stream_close(&probe);
    }
}

static void
shutdown_in_written(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    CHECK_EQ(core->stream_shutdown(probe->stream), 0);
}

static void
test_shutdown_in_on_written(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        struct stream_probe probe = {.key = 4, .in_written = shutdown_in_written};
        struct raw_end raw = {.key = 4};
        (kind == 0 ? tcp_pair : unix_pair)(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        CHECK_EQ(stream_write(&probe, 3000000, 10), 0);
        while (!raw.has_eof) {
            poll_once(0);
            raw_read(&raw, 1 << 20);
        }
        CHECK_EQ(raw.received, 3000000);
        close_both(&probe, &raw);
    }
}

/* The peer half-closes while a write is in flight: all of it still arrives. */
static void
test_write_after_the_peer_s_half_close(void)
{
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        struct stream_probe probe = {.key = 4, .buffer_size = 1000};
        struct raw_end raw = {.key = 4};
        (kind == 0 ? tcp_pair : unix_pair)(fds);
        raw.fd = fds[1];
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        CHECK_EQ(stream_write(&probe, 3000000, 10), 0);
        CHECK_EQ(shutdown(raw.fd, SHUT_WR), 0);
        POLL_UNTIL(probe.has_eof);
        drain_until_written(&probe, &raw);
        CHECK_EQ(stream_write(&probe, 100, 1), 0);
        drain_until_written(&probe, &raw);
        CHECK_EQ(probe.writes, 2);
        check_is_idle();
        close_both(&probe, &raw);
    }
}

const struct check_test stream_write_tests[] = {
    {"write_try_write_small", test_try_write_small},
    {"write_try_write_of_all_sizes", test_try_write_of_all_sizes},
    {"write_try_write_until_full", test_try_write_until_full},
    {"write_try_write_of_many_pieces", test_try_write_of_many_pieces},
    {"write_of_all_sizes", test_write_of_all_sizes},
    {"write_of_nothing", test_write_of_nothing},
    {"write_backpressure", test_backpressure},
    {"write_slow_reader", test_slow_reader},
    {"write_and_try_write_in_turn", test_write_and_try_write_in_turn},
    {"write_in_on_written", test_write_in_on_written},
    {"write_echo", test_echo},
    {"write_both_directions_at_once", test_both_directions_at_once},
    {"write_shutdown_is_at_once", test_shutdown_is_at_once},
    {"write_shutdown_in_on_written", test_shutdown_in_on_written},
    {"write_after_the_peer_s_half_close", test_write_after_the_peer_s_half_close},
    {NULL, NULL},
};
