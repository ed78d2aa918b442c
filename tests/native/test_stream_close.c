/* SPDX-License-Identifier: MIT
 *
 * Closing streams, inside callbacks and outside (rules 1, 4 and 7 of core.h): no callback afterwards, nothing lent is
 * touched, the fd is closed when close returns.  The probes check most of it by themselves.
 */
#include "probes.h"
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
close_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    stream_close(probe);
}

static void
close_in_buffer(struct stream_probe *probe)
{
    stream_close(probe);
}

static void
test_close_is_seen_by_the_peer_at_once(void)
{
    for (int is_reading = 0; is_reading < 2; is_reading++) {
        int reader, writer;
        FOR_EACH_CHANNEL(channel, reader, writer) {
            struct stream_probe probe = {.buffer_size = 64};
            struct raw_end raw = {.fd = reader};
            stream_open(&probe, writer, channel_write_kind(channel));
            if (is_reading) {
                stream_read_start(&probe);
            }
            poll_once(0);
            stream_close(&probe);
            CHECK_EQ(raw_read(&raw, 1), 0);
            CHECK(raw.has_eof);
            check_is_idle();
            close(reader);
        }
    }
}

static void
test_close_in_on_read(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64, .in_read = close_in_read};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        POLL_UNTIL(probe.stream == NULL);
        CHECK_EQ(probe.reads, 1);
        check_is_idle();
        close(writer);
    }
}

static void
test_close_in_on_read_at_end_of_file(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64, .in_read = close_in_read};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        close(writer);
        POLL_UNTIL(probe.stream == NULL);
        CHECK(probe.has_eof);
        check_is_idle();
    }
}

static void
test_close_in_on_read_on_error(void)
{
    int fds[2];
    struct stream_probe probe = {.buffer_size = 64, .in_read = close_in_read};
    tcp_pair(fds);
    stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
    stream_read_start(&probe);
    tcp_reset(fds[1]);
    POLL_UNTIL(probe.stream == NULL);
    CHECK(probe.read_error < 0);
    check_is_idle();
}

/* The buffer that was offered is freed at once: nothing may be read into it. */
static void
test_close_in_on_buffer(void)
{
    for (size_t size = 0; size <= 64; size += 64) {
        int reader, writer;
        FOR_EACH_CHANNEL(channel, reader, writer) {
            struct stream_probe probe = {.buffer_size = size, .in_buffer = close_in_buffer};
            struct raw_end raw = {.fd = writer};
            stream_open(&probe, reader, channel_read_kind(channel));
            stream_read_start(&probe);
            CHECK_EQ(raw_write(&raw, 1000), 1000);
            POLL_UNTIL(probe.stream == NULL);
            CHECK_EQ(probe.buffers, 1);
            CHECK_EQ(probe.reads, 0);
            check_is_idle();
            close(writer);
        }
    }
}

static void
close_in_written(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    stream_close(probe);
}

static void
test_close_in_on_written(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 64, .in_written = close_in_written};
        struct raw_end raw = {.fd = reader};
        stream_open(&probe, writer, channel_write_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(stream_write(&probe, 300000, 3), 0);
        while (!raw.has_eof) {
            poll_once(1 * MS);
            raw_read(&raw, 1 << 20);
        }
        CHECK_EQ(raw.received, 300000);
        CHECK(probe.stream == NULL);
        check_is_idle();
        close(reader);
    }
}

/* What went out before is a beginning of what was given; nothing of it is called back. */
static void
test_close_with_a_write_in_flight(void)
{
    for (int polls = 0; polls < 3; polls++) {
        int reader, writer;
        FOR_EACH_CHANNEL(channel, reader, writer) {
            struct stream_probe probe = {.buffer_size = 64};
            struct raw_end raw = {.fd = reader};
            stream_open(&probe, writer, channel_write_kind(channel));
            CHECK_EQ(stream_write(&probe, 8 << 20, 20), 0);
            for (int i = 0; i < polls; i++) {
                poll_once(0);
            }
            stream_close(&probe);
            CHECK_EQ(probe.writes, 0);
            while (!raw.has_eof) {
                raw_read(&raw, 1 << 20);
            }
            CHECK(raw.received <= 8 << 20);
            check_is_idle();
            close(reader);
        }
    }
}

/* Reading, a write in flight, and closed in the callback of the one while the other is due. */
static void
test_close_with_both_due(void)
{
    for (int is_in_read = 0; is_in_read < 2; is_in_read++) {
        int fds[2];
        struct stream_probe probe = {.buffer_size = 64};
        struct raw_end raw = {0};
        unix_pair(fds);
        raw.fd = fds[1];
        probe.in_read = is_in_read ? close_in_read : NULL;
        probe.in_written = is_in_read ? NULL : close_in_written;
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        stream_read_start(&probe);
        CHECK_EQ(stream_write(&probe, 100, 1), 0);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        POLL_UNTIL(probe.stream == NULL);
        check_is_idle();
        close(fds[1]);
    }
}

/* --- one stream closes another */

static void
close_other_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    if (probe->other->stream != NULL) {
        stream_close(probe->other);
    }
}

static void
stop_other_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    stream_read_stop(probe->other);
}

/* Both have input; the first to be served closes the other, or stops it. */
static void
check_first_silences_other(void (*in_read)(struct stream_probe *, ssize_t))
{
    int fds[2][2];
    struct stream_probe *probes[2];
    for (int i = 0; i < 2; i++) {
        struct raw_end raw = {0};
        tcp_pair(fds[i]);
        probes[i] = calloc(1, sizeof *probes[i]);
        CHECK(probes[i] != NULL);
        probes[i]->buffer_size = 1000;
        probes[i]->in_read = in_read;
        stream_open(probes[i], fds[i][0], CORE_STREAM_SOCKET);
        stream_read_start(probes[i]);
        raw.fd = fds[i][1];
        CHECK_EQ(raw_write(&raw, 50), 50);
    }
    probes[0]->other = probes[1];
    probes[1]->other = probes[0];
    POLL_UNTIL(probes[0]->reads + probes[1]->reads > 0);
    poll_for(5 * MS);
    CHECK((probes[0]->reads > 0) != (probes[1]->reads > 0));
    for (int i = 0; i < 2; i++) {
        if (probes[i]->stream != NULL) {
            stream_close(probes[i]);
        }
        free(probes[i]);
        close(fds[i][1]);
    }
    check_is_idle();
}

static void
test_callback_silences_another_stream(void)
{
    check_first_silences_other(close_other_in_read);
    check_first_silences_other(stop_other_in_read);
}

/* --- a number used again in the middle of a poll */

static struct {
    int fds[2];
    struct stream_probe fresh;
} reuse;

/* Close the other, which has an event in this poll, and open a stream on the same number. */
static void
replace_other_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    if (reuse.fresh.stream == NULL) {
        int fd = probe->other->fd;
        stream_close(probe->other);
        fd_move(reuse.fds[0], fd);
        stream_open(&reuse.fresh, fd, CORE_STREAM_SOCKET);
        stream_read_start(&reuse.fresh);
    }
}

static void
test_number_used_again_in_a_callback(void)
{
    int fds[2][2];
    struct stream_probe probes[2] = {{.buffer_size = 1000}, {.buffer_size = 1000}};
    struct raw_end raw = {0};
    reuse.fresh.buffer_size = 1000;
    tcp_pair(reuse.fds);
    for (int i = 0; i < 2; i++) {
        tcp_pair(fds[i]);
        probes[i].in_read = replace_other_in_read;
        probes[i].other = &probes[1 - i];
        stream_open(&probes[i], fds[i][0], CORE_STREAM_SOCKET);
        stream_read_start(&probes[i]);
        raw = (struct raw_end){.fd = fds[i][1]};
        CHECK_EQ(raw_write(&raw, 50), 50);
    }
    POLL_UNTIL(reuse.fresh.stream != NULL);
    poll_for(5 * MS);
    CHECK_EQ(reuse.fresh.received, 0);
    raw = (struct raw_end){.fd = reuse.fds[1]};
    CHECK_EQ(raw_write(&raw, 70), 70);
    POLL_UNTIL(reuse.fresh.received == 70);
    for (int i = 0; i < 2; i++) {
        if (probes[i].stream != NULL) {
            stream_close(&probes[i]);
        }
        close(fds[i][1]);
    }
    close(reuse.fds[1]);
}

/* --- ownership */

static void
ignore_buffer(void *owner, struct iovec *buffer)
{
    (void)owner;
    (void)buffer;
}

static void
ignore_result(void *owner, ssize_t result)
{
    (void)owner;
    (void)result;
}

static void
ignore_status(void *owner, int status)
{
    (void)owner;
    (void)status;
}

/* Whether these open is the core's affair; whose the fd is afterwards is not. */
static void
test_failed_open_leaves_the_fd(void)
{
    static const struct core_stream_events events = {ignore_buffer, ignore_result, ignore_status};
    for (int kind = CORE_STREAM_SOCKET; kind <= CORE_STREAM_PIPE_WRITE; kind++) {
        struct core_stream *stream = NULL;
        FILE *file = tmpfile();
        CHECK(file != NULL);
        int fd = dup(fileno(file));
        fclose(file);
        if (core->stream_open(loop, fd, (enum core_stream_kind)kind, &events, NULL, &stream) == 0) {
            core->stream_close(stream);
            CHECK(!fd_is_open(fd));
        }
        else {
            CHECK(fd_is_open(fd));
            close(fd);
        }
    }
    check_is_idle();
}

const struct check_test stream_close_tests[] = {
    {"close_is_seen_by_the_peer_at_once", test_close_is_seen_by_the_peer_at_once},
    {"close_in_on_read", test_close_in_on_read},
    {"close_in_on_read_at_end_of_file", test_close_in_on_read_at_end_of_file},
    {"close_in_on_read_on_error", test_close_in_on_read_on_error},
    {"close_in_on_buffer", test_close_in_on_buffer},
    {"close_in_on_written", test_close_in_on_written},
    {"close_with_a_write_in_flight", test_close_with_a_write_in_flight},
    {"close_with_both_due", test_close_with_both_due},
    {"close_callback_silences_another_stream", test_callback_silences_another_stream},
    {"close_number_used_again_in_a_callback", test_number_used_again_in_a_callback},
    {"close_failed_open_leaves_the_fd", test_failed_open_leaves_the_fd},
    {NULL, NULL},
};
