/* SPDX-License-Identifier: MIT
 *
 * What csrc/readiness_*.c makes of system calls that fail: on the scripted cores only, which fail on command.
 *
 * Each test looks that the failures it ordered have happened; if not, the sources call something that scripted_calls.h
 * does not know.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "scripted_core.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static void
test_read_error(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 10};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 10), 10);
        POLL_UNTIL(probe.received == 10);
        scripted_fail(reader, SCRIPTED_IN, EIO, 1);
        CHECK_EQ(raw_write(&raw, 10), 10);
        POLL_UNTIL(!probe.is_reading);
        CHECK_EQ(probe.read_error, -EIO);
        check_is_idle();
        CHECK_EQ(scripted_failures_left(), 0);
        stream_close(&probe);
        close(writer);
    }
}

static void
test_read_end_of_file_ahead_of_bytes(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 10};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        scripted_fail(reader, SCRIPTED_IN, 0, 1);
        CHECK_EQ(raw_write(&raw, 100), 100);
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 0);
        check_is_idle();
        CHECK_EQ(scripted_failures_left(), 0);
        stream_close(&probe);
        close(writer);
    }
}

/* A signal is nothing to tell; -EAGAIN gives the buffer back, and the bytes come later. */
static void
test_read_is_interrupted_and_refused(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        scripted_fail(reader, SCRIPTED_IN, EINTR, 50);
        CHECK_EQ(raw_write(&raw, 100), 100);
        POLL_UNTIL(probe.received == 100);
        CHECK_EQ(scripted_failures_left(), 0);
        scripted_fail(reader, SCRIPTED_IN, EAGAIN, 5);
        CHECK_EQ(raw_write(&raw, 100), 100);
        POLL_UNTIL(probe.received == 200);
        CHECK_EQ(scripted_failures_left(), 0);
        check_is_idle();
        stream_close(&probe);
        close(writer);
    }
}

static void
test_one_byte_at_a_time(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe in = {.key = 6, .buffer_size = 1000};
        struct stream_probe out = {.key = 6};
        stream_open(&in, reader, channel_read_kind(channel));
        stream_open(&out, writer, channel_write_kind(channel));
        stream_read_start(&in);
        scripted_limit(reader, SCRIPTED_IN, 1);
        scripted_limit(writer, SCRIPTED_OUT, 1);
        CHECK_EQ(stream_write(&out, 2000, 300), 0);
        POLL_UNTIL(out.writes == 1);
        POLL_UNTIL(in.received == 2000);
        scripted_limit(reader, SCRIPTED_IN, 0);
        scripted_limit(writer, SCRIPTED_OUT, 700);
        CHECK_EQ(stream_write(&out, 20000, 3000), 0);
        POLL_UNTIL(out.writes == 2);
        POLL_UNTIL(in.received == 22000);
        scripted_limit(writer, SCRIPTED_OUT, 0);
        CHECK_EQ(out.write_status, 0);
        stream_close(&in);
        stream_close(&out);
    }
}

/* --- writing */

static void
test_try_write_error(void)
{
    static const int errors[] = {EIO, EPIPE, ECONNRESET, ENOSPC, EAGAIN};
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 10};
        struct raw_end raw = {.fd = reader};
        stream_open(&probe, writer, channel_write_kind(channel));
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            scripted_fail(writer, SCRIPTED_OUT, errors[i], 1);
            CHECK_EQ(stream_try_write(&probe, 100, 1 + (unsigned)i % 3), -errors[i]);
        }
        scripted_fail(writer, SCRIPTED_OUT, EINTR, 50);
        (void)stream_try_write(&probe, 100, 3);
        CHECK_EQ(scripted_failures_left(), 0);
        raw_read(&raw, 1000);
        CHECK_EQ(raw.received, probe.sent);
        stream_close(&probe);
        close(reader);
    }
}

/* The write in flight ends with the error, in its middle or at once; the stream is still good for what can be done. */
static void
test_write_error(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 10};
        stream_open(&probe, writer, channel_write_kind(channel));
        CHECK_EQ(stream_write(&probe, 1000, 3), 0);
        scripted_fail(writer, SCRIPTED_OUT, EIO, 1);
        POLL_UNTIL(probe.writes == 1);
        CHECK_EQ(probe.write_status, -EIO);
        stream_fill(&probe);
        CHECK_EQ(stream_write(&probe, 1 << 20, 3), 0);
        poll_for(2 * MS);
        CHECK(core->stream_unsent(probe.stream) > 0);
        scripted_fail(writer, SCRIPTED_OUT, ETIMEDOUT, 1);
        char bytes[65536];
        while (read(reader, bytes, sizeof bytes) > 0) {
        }
        POLL_UNTIL(probe.writes == 2);
        CHECK_EQ(probe.write_status, -ETIMEDOUT);
        CHECK_EQ(core->stream_unsent(probe.stream), 0);
        check_is_idle();
        CHECK_EQ(scripted_failures_left(), 0);
        CHECK_EQ(stream_write(&probe, 10, 1), 0);
        POLL_UNTIL(probe.writes == 3);
        CHECK_EQ(probe.write_status, 0);
        stream_close(&probe);
        close(reader);
    }
}

static void
test_write_is_interrupted_and_refused(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.key = 8};
        struct raw_end raw = {.fd = reader, .key = 8};
        stream_open(&probe, writer, channel_write_kind(channel));
        for (unsigned i = 1; i <= 10; i++) {
            scripted_fail(writer, SCRIPTED_OUT, i % 2 ? EINTR : EAGAIN, i);
            CHECK_EQ(stream_write(&probe, 1000 * i, i), 0);
            POLL_UNTIL(probe.writes == i);
            CHECK_EQ(probe.write_status, 0);
            CHECK_EQ(scripted_failures_left(), 0);
            raw_read(&raw, 1 << 20);
            CHECK_EQ(raw.received, probe.sent);
        }
        stream_close(&probe);
        close(reader);
    }
}

/* Where there is no readiness to wait for, it is asked again and again, once in each poll. */
static void
test_direct_write_is_refused(void)
{
    struct stream_probe probe = {0};
    int fd = open("/dev/null", O_WRONLY | O_NONBLOCK);
    stream_open(&probe, fd, CORE_STREAM_PIPE_WRITE);
    scripted_fail(fd, SCRIPTED_OUT, EAGAIN, 5);
    CHECK_EQ(stream_write(&probe, 1000, 3), 0);
    while (probe.writes == 0) {
        poll_once(-1);
    }
    CHECK_EQ(probe.write_status, 0);
    CHECK_EQ(scripted_failures_left(), 0);
    scripted_limit(fd, SCRIPTED_OUT, 10);
    CHECK_EQ(stream_write(&probe, 1000, 3), 0);
    while (probe.writes == 1) {
        poll_once(-1);
    }
    scripted_limit(fd, SCRIPTED_OUT, 0);
    scripted_fail(fd, SCRIPTED_OUT, ENOSPC, 1);
    CHECK_EQ(stream_write(&probe, 1000, 3), 0);
    POLL_UNTIL(probe.writes == 3);
    CHECK_EQ(probe.write_status, -ENOSPC);
    check_is_idle();
    stream_close(&probe);
}

static volatile sig_atomic_t sigpipes;

static void
count_sigpipe(int number)
{
    (void)number;
    sigpipes++;
}

/* A program may have set SIGPIPE back to its default, as command-line tools do, and a socket of ours does not end it.
 * Not a rule of core.h: libuv leaves SIGPIPE to the process, and Python's processes ignore it. */
static void
test_socket_raises_no_sigpipe(void)
{
    struct sigaction action = {.sa_handler = count_sigpipe};
    CHECK_EQ(sigaction(SIGPIPE, &action, NULL), 0);
    for (int is_unix = 0; is_unix < 2; is_unix++) {
        int fds[2];
        struct stream_probe probe = {.buffer_size = 1000};
        (is_unix ? unix_pair : tcp_pair)(fds);
        stream_open(&probe, fds[0], CORE_STREAM_SOCKET);
        is_unix ? (void)close(fds[1]) : tcp_reset(fds[1]);
        for (unsigned i = 1; i <= 3; i++) {
            CHECK(stream_try_write(&probe, 10, 2) < 0);
            if (stream_write(&probe, 10, 2) == 0) {
                POLL_UNTIL(!probe.is_writing);
                CHECK(probe.write_status < 0);
            }
        }
        stream_close(&probe);
    }
    CHECK_EQ(sigpipes, 0);
}

/* --- datagrams */

static void
test_datagram_receive_error(void)
{
    static const int errors[] = {ECONNREFUSED, EIO, ENOMEM, EHOSTUNREACH};
    int fds[2];
    struct datagram_probe probe = {.buffer_size = 100};
    datagram_pair(fds);
    datagram_open(&probe, fds[0]);
    datagram_recv_start(&probe);
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        scripted_fail(fds[0], SCRIPTED_IN, errors[i], 1);
        raw_send(fds[1], 20, i + 1, NULL);
        POLL_UNTIL(probe.received == i + 1);
        CHECK_EQ(probe.error, -errors[i]);
        CHECK_EQ(probe.errors, i + 1);
        CHECK_EQ(probe.last_number, i + 1);
    }
    scripted_fail(fds[0], SCRIPTED_IN, EINTR, 20);
    raw_send(fds[1], 20, 8, NULL);
    POLL_UNTIL(probe.last_number == 8);
    scripted_fail(fds[0], SCRIPTED_IN, EAGAIN, 5);
    raw_send(fds[1], 20, 9, NULL);
    POLL_UNTIL(probe.last_number == 9);
    CHECK_EQ(scripted_failures_left(), 0);
    CHECK_EQ(probe.errors, sizeof errors / sizeof errors[0]);
    check_is_idle();
    datagram_close(&probe);
    close(fds[1]);
}

static void
test_datagram_send_error(void)
{
    static const int errors[] = {ENETUNREACH, ECONNREFUSED, EPERM, EIO};
    int fds[2];
    struct datagram_probe probe = {.buffer_size = 100};
    datagram_pair(fds);
    datagram_open(&probe, fds[0]);
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        scripted_fail(fds[0], SCRIPTED_OUT, errors[i], 1);
        CHECK_EQ(datagram_try_send(&probe, 20, 1, NULL, 0), -errors[i]);
        scripted_fail(fds[0], SCRIPTED_OUT, errors[i], 1);
        CHECK_EQ(datagram_send(&probe, 20, 1, NULL, 0), 0);
        POLL_UNTIL(probe.sends == i + 1);
        CHECK_EQ(probe.send_status, -errors[i]);
    }
    CHECK_EQ(raw_receive(fds[1]), -1);
    scripted_fail(fds[0], SCRIPTED_OUT, EAGAIN, 5);
    CHECK_EQ(datagram_send(&probe, 20, 8, NULL, 0), 0);
    POLL_UNTIL(!probe.is_sending);
    CHECK_EQ(raw_receive(fds[1]), 8);
    scripted_fail(fds[0], SCRIPTED_OUT, EINTR, 20);
    CHECK_EQ(datagram_send(&probe, 20, 9, NULL, 0), 0);
    POLL_UNTIL(!probe.is_sending);
    CHECK_EQ(probe.send_status, 0);
    CHECK_EQ(raw_receive(fds[1]), 9);
    CHECK_EQ(raw_receive(fds[1]), -1);
    CHECK_EQ(scripted_failures_left(), 0);
    check_is_idle();
    datagram_close(&probe);
    close(fds[1]);
}

const struct check_test fault_tests[] = {
    {"fault_read_error", test_read_error},
    {"fault_read_end_of_file_ahead_of_bytes", test_read_end_of_file_ahead_of_bytes},
    {"fault_read_is_interrupted_and_refused", test_read_is_interrupted_and_refused},
    {"fault_one_byte_at_a_time", test_one_byte_at_a_time},
    {"fault_try_write_error", test_try_write_error},
    {"fault_write_error", test_write_error},
    {"fault_write_is_interrupted_and_refused", test_write_is_interrupted_and_refused},
    {"fault_direct_write_is_refused", test_direct_write_is_refused},
    {"fault_socket_raises_no_sigpipe", test_socket_raises_no_sigpipe},
    {"fault_datagram_receive_error", test_datagram_receive_error},
    {"fault_datagram_send_error", test_datagram_send_error},
    {NULL, NULL},
};
