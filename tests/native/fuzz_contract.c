/* SPDX-License-Identifier: MIT
 *
 * libFuzzer's way into the contract: its bytes are operations on streams, a watch and a datagram socket, in callbacks and
 * outside, on both cores and the scripted one; `make fuzz` runs it, tests/fuzz/corpus/contract/ keeps what it found.
 *
 * The probes and the wrapper of fixture.c check every rule that they check in the tests; at the end all bytes must have arrived,
 * no wake-up be left, no fd, no memory.  A failed check aborts, so that the fuzzer keeps the input.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "scripted_core.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PAIRS = 4, OPERATIONS_MAX = 400 };

/* Two ends, both of them streams of the loop. */
struct pair {
    struct stream_probe ends[2];
    bool is_broken; /* an end was closed, so bytes may be lost; wrong they never are */
};

static const uint8_t *input;
static size_t input_left;
static unsigned operations;
static bool is_winding_up; /* the callbacks do nothing of their own any more */

static struct pair pairs[PAIRS];
static struct watch_probe watch;
static int watch_peer;
static struct datagram_probe datagram;
static int datagram_peer;
static unsigned datagram_number;

/* --- in place of check.c */

void
check_note(const char *format, ...)
{
    (void)format;
}

void
check_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "# %s:%d: %s\n", file, line, what);
    abort();
}

void
check_equal(const char *file, int line, const char *what, long long a, long long b)
{
    if (a != b) {
        fprintf(stderr, "# %lld is not %lld\n", a, b);
        check_fail(file, line, what);
    }
}

/* --- the input */

/* 0 .. bound - 1; 0 when the input has ended. */
static unsigned
choose(unsigned bound)
{
    if (input_left == 0) {
        return 0;
    }
    input_left--;
    return *input++ % bound;
}

static size_t
choose_size(void)
{
    static const unsigned sizes[] = {0, 1, 2, 9, 100, 1000, 4096, 5000, 65536, 70000, 300000};
    return sizes[choose(sizeof sizes / sizeof sizes[0])] + choose(3);
}

static void operate_in_callback(void);

/* --- streams */

static bool
end_can_read(const struct stream_probe *end)
{
    return end->stream != NULL && !end->has_eof && end->read_error == 0;
}

/* `budget` is the pair's number, and -1 in `write_size` says that the end was shut down. */
static struct pair *
pair_of(const struct stream_probe *end)
{
    return &pairs[end->budget];
}

static bool
end_can_write(const struct stream_probe *end)
{
    return end->stream != NULL && !end->is_writing && end->kind != CORE_STREAM_PIPE_READ && end->other == NULL &&
           (end->write_status == 0 || pair_of(end)->is_broken);
}

static void
end_in_buffer(struct stream_probe *end)
{
    (void)end;
    operate_in_callback();
}

static void
end_in_read(struct stream_probe *end, ssize_t result)
{
    CHECK(result >= 0 || pair_of(end)->is_broken);
    operate_in_callback();
}

static void
end_in_written(struct stream_probe *end, int status)
{
    CHECK(status == 0 || pair_of(end)->is_broken);
    operate_in_callback();
}

static void
pair_open(unsigned number)
{
    static void (*const openings[PAIRS])(int[2]) = {tcp_pair, unix_pair, pipe_pair, unix_pair};
    struct pair *pair = &pairs[number];
    int fds[2];
    openings[number](fds);
    memset(pair, 0, sizeof *pair);
    for (int i = 0; i < 2; i++) {
        struct stream_probe *end = &pair->ends[i];
        end->key = end->budget = number;
        end->buffer_size = 1000;
        end->in_buffer = end_in_buffer;
        end->in_read = end_in_read;
        end->in_written = end_in_written;
        enum core_stream_kind pipe_kind = i == 0 ? CORE_STREAM_PIPE_READ : CORE_STREAM_PIPE_WRITE;
        stream_open(end, fds[i], openings[number] == pipe_pair ? pipe_kind : CORE_STREAM_SOCKET);
    }
}

static void
end_close(struct stream_probe *end)
{
    pair_of(end)->is_broken = true;
    stream_close(end);
}

static void
end_write(struct stream_probe *end)
{
    size_t length = choose_size();
    unsigned pieces = choose(16) == 15 ? 1100 : 1 + choose(5);
    if (choose(2) == 0) {
        ssize_t count = stream_try_write(end, length, pieces);
        CHECK(count >= 0 || count == -EAGAIN || pair_of(end)->is_broken);
    }
    else {
        CHECK(stream_write(end, length, pieces) == 0 || pair_of(end)->is_broken);
    }
}

/* `other` of an end that was shut down is itself. */
static void
end_shut_down(struct stream_probe *end)
{
    int status = core->stream_shutdown(end->stream);
    CHECK(status == 0 || pair_of(end)->is_broken);
    end->other = end;
}

static void
operate_on_stream(unsigned choice)
{
    unsigned number = choose(PAIRS);
    struct stream_probe *end = &pairs[number].ends[choose(2)];
    if (choice < 3 && end_can_write(end)) {
        end_write(end);
    }
    else if (choice == 3 && end_can_read(end)) {
        stream_read_start(end);
    }
    else if (choice == 4 && end->stream != NULL) {
        stream_read_stop(end);
    }
    else if (choice == 5 && end->offered == NULL) {
        end->buffer_size = choose_size();
    }
    else if (choice == 6 && end->stream != NULL) {
        end_close(end);
    }
    else if (choice == 7 && end_can_write(end) && end->kind == CORE_STREAM_SOCKET) {
        end_shut_down(end);
    }
    else if (choice == 8 && !fixture_is_in_poll() && pairs[number].is_broken) {
        for (int i = 0; i < 2; i++) {
            if (pairs[number].ends[i].stream != NULL) {
                stream_close(&pairs[number].ends[i]);
            }
        }
        pair_open(number);
    }
}

/* --- the watch, and the datagram socket */

static void
watch_in_ready(struct watch_probe *probe, unsigned ready)
{
    (void)probe, (void)ready;
    operate_in_callback();
}

static void
scene_watch_open(void)
{
    int fds[2];
    unix_pair(fds);
    watch = (struct watch_probe){.in_ready = watch_in_ready};
    watch_peer = fds[1];
    watch_open(&watch, fds[0]);
}

static void
scene_watch_close(void)
{
    watch_close(&watch);
    fd_close_pair(watch.fd, watch_peer);
}

static void
operate_on_watch(unsigned choice)
{
    if (choice < 2) {
        watch_set(&watch, choose(4));
    }
    else if (choice == 2) {
        fd_put_byte(watch_peer);
    }
    else if (choice == 3) {
        fd_drain(watch.fd);
    }
    else if (choice == 4) {
        core->watch_relax(watch.watch, choose(2));
    }
    else if (!fixture_is_in_poll()) {
        scene_watch_close();
        scene_watch_open();
    }
}

static void
datagram_in_buffer(struct datagram_probe *probe)
{
    (void)probe;
    operate_in_callback();
}

static void
datagram_in_datagram(struct datagram_probe *probe, ssize_t result)
{
    (void)probe, (void)result;
    operate_in_callback();
}

static void
datagram_in_sent(struct datagram_probe *probe, int status)
{
    (void)probe;
    CHECK_EQ(status, 0);
    operate_in_callback();
}

static void
scene_datagram_open(void)
{
    int fds[2];
    datagram_pair(fds);
    datagram = (struct datagram_probe){
        .buffer_size = 2000,
        .in_buffer = datagram_in_buffer,
        .in_datagram = datagram_in_datagram,
        .in_sent = datagram_in_sent,
    };
    datagram_peer = fds[1];
    datagram_open(&datagram, fds[0]);
}

static void
scene_datagram_close(void)
{
    if (datagram.datagram != NULL) {
        datagram_close(&datagram);
    }
    CHECK_EQ(close(datagram_peer), 0);
}

static void
operate_on_datagram(unsigned choice)
{
    char bytes[1000];
    size_t size = 1 + choose(100) * 9u;
    if (choice == 0) {
        datagram_make(bytes, size, ++datagram_number);
        CHECK(write(datagram_peer, bytes, size) == (ssize_t)size || errno == EAGAIN || errno == ENOBUFS ||
              datagram.datagram == NULL);
    }
    else if (choice == 1) {
        (void)raw_receive(datagram_peer);
    }
    else if (datagram.datagram == NULL) {
        if (!fixture_is_in_poll()) {
            scene_datagram_close();
            scene_datagram_open();
        }
    }
    else if (choice == 2 && !datagram.is_sending) {
        int status = datagram_try_send(&datagram, size, ++datagram_number, NULL, 0);
        CHECK(status == 0 || status == -EAGAIN);
    }
    else if (choice == 3 && !datagram.is_sending) {
        CHECK_EQ(datagram_send(&datagram, size, ++datagram_number, NULL, 0), 0);
    }
    else if (choice == 4) {
        datagram_recv_start(&datagram);
    }
    else if (choice == 5) {
        datagram_recv_stop(&datagram);
    }
    else if (choice == 6 && datagram.offered == NULL) {
        datagram.buffer_size = choose(2) * 2000u;
    }
    else if (choice == 7) {
        datagram_close(&datagram);
    }
}

/* --- programs */

static void
operate(void)
{
    unsigned choice = choose(32);
    operations++;
    if (choice < 16) {
        operate_on_stream(choice % 9);
    }
    else if (choice < 21) {
        operate_on_watch(choose(6));
    }
    else if (choice < 28) {
        operate_on_datagram(choose(8));
    }
    else if (choice == 28) {
        core->loop_wake(loop);
    }
    else if (choice == 29 && fixture_is_in_poll() && probes_unpaired == NULL) {
        core->loop_interrupt(loop);
    }
    else if (choice == 30 && !fixture_is_in_poll()) {
        core->loop_busy_poll(loop, choose(2) * 1000);
    }
    else if (!fixture_is_in_poll()) {
        poll_once(0);
    }
}

static void
operate_in_callback(void)
{
    for (unsigned i = is_winding_up ? 0 : choose(3); i > 0 && input_left > 0 && operations < OPERATIONS_MAX; i--) {
        operate();
    }
}

/* All that is on its way arrives, and then the end. */
static void
pair_wind_up(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        pair->ends[i].buffer_size = 60000;
        if (end_can_read(&pair->ends[i])) {
            stream_read_start(&pair->ends[i]);
        }
    }
    for (int i = 0; i < 2 && !pair->is_broken; i++) {
        POLL_UNTIL(!pair->ends[i].is_writing);
        POLL_UNTIL(pair->ends[1 - i].received == pair->ends[i].sent);
    }
    for (int i = 0; i < 2; i++) {
        struct stream_probe *end = &pair->ends[1 - i];
        CHECK(end->received <= pair->ends[i].sent);
        if (end->stream != NULL) {
            stream_close(end);
        }
        if (i == 0 && !pair->is_broken && pair->ends[0].kind != CORE_STREAM_PIPE_WRITE) {
            POLL_UNTIL(!end_can_read(&pair->ends[0]));
            pair->is_broken = true;
        }
    }
}

static void
run_program(void)
{
    is_winding_up = false;
    operations = 0;
    for (unsigned i = 0; i < PAIRS; i++) {
        pair_open(i);
    }
    scene_watch_open();
    scene_datagram_open();
    while (input_left > 0 && operations < OPERATIONS_MAX) {
        operate();
        if (operations % 4 == 0) {
            poll_once(0);
        }
    }
    is_winding_up = true;
    for (unsigned i = 0; i < PAIRS; i++) {
        pair_wind_up(&pairs[i]);
    }
    watch_set(&watch, 0);
    if (datagram.datagram != NULL) {
        datagram_recv_stop(&datagram);
        while (datagram.is_sending) {
            while (raw_receive(datagram_peer) >= 0) {
            }
            poll_once(10 * MS);
        }
    }
    scene_watch_close();
    scene_datagram_close();
    core->loop_busy_poll(loop, 0);
    poll_once(0);
    poll_once(0);
    CHECK_EQ(count_early_polls(1, MS / 10), 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Few numbers of file descriptors, as counting them asks for each. */
int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct rlimit limit = {128, 128};
    return setrlimit(RLIMIT_NOFILE, &limit);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct check_test program = {"program", run_program};
    static const char *const cores[] = {"mio", "uv", "scripted-shuffled", "scripted-faults"};
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++) {
        input = data;
        input_left = size;
        scripted_set_seed(size);
        memset(&fixture_hooks, 0, sizeof fixture_hooks);
        probes_unpaired = NULL;
        fixture_run(&program, (void *)cores[i]);
    }
    return 0;
}
