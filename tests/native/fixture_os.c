/* SPDX-License-Identifier: MIT
 *
 * Time, polling and file descriptors for the contract tests; see fixture.h.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FD_LIMIT = 4096 };

/* --- time and polling */

int64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void
sleep_ns(int64_t duration_ns)
{
    struct timespec duration = {duration_ns / 1000000000, duration_ns % 1000000000};
    while (nanosleep(&duration, &duration) < 0 && errno == EINTR) {
    }
}

void
poll_once(int64_t timeout_ns)
{
    CHECK_EQ(core->loop_poll(loop, timeout_ns), 0);
}

void
poll_for(int64_t duration_ns)
{
    int64_t end_ns = now_ns() + duration_ns;
    for (int64_t left_ns = duration_ns; left_ns > 0; left_ns = end_ns - now_ns()) {
        poll_once(left_ns);
    }
}

unsigned
count_early_polls(unsigned polls, int64_t timeout_ns)
{
    unsigned early = 0;
    for (unsigned i = 0; i < polls; i++) {
        int64_t start_ns = now_ns();
        poll_once(timeout_ns);
        early += now_ns() - start_ns < timeout_ns;
    }
    return early;
}

void
check_is_idle(void)
{
    CHECK(count_early_polls(7, 2 * MS) <= 2);
    CHECK_EQ(count_early_polls(2, 2 * MS), 0);
}

/* --- file descriptors */

unsigned
fd_count(void)
{
    unsigned count = 0;
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 0; fd < FD_LIMIT && (limit < 0 || fd < limit); fd++) {
        count += fd_is_open(fd);
    }
    return count;
}

bool
fd_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

void
fd_set_blocking(int fd, bool is_blocking)
{
    int flags = fcntl(fd, F_GETFL);
    CHECK(flags >= 0);
    CHECK_EQ(fcntl(fd, F_SETFL, is_blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

void
fd_move(int from, int to)
{
    if (from != to) {
        CHECK_EQ(dup2(from, to), to);
        CHECK_EQ(close(from), 0);
    }
}

void
fd_close_pair(int a, int b)
{
    CHECK_EQ(close(a), 0);
    CHECK_EQ(close(b), 0);
}

void
tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(listener >= 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(connect(fds[0], (struct sockaddr *)&address, length), 0);
    fds[1] = accept(listener, NULL, NULL);
    CHECK(fds[1] >= 0);
    close(listener);
    fd_set_blocking(fds[0], false);
    fd_set_blocking(fds[1], false);
}

void
unix_pair(int fds[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fd_set_blocking(fds[0], false);
    fd_set_blocking(fds[1], false);
}

void
pipe_pair(int fds[2])
{
    CHECK_EQ(pipe(fds), 0);
    fd_set_blocking(fds[0], false);
    fd_set_blocking(fds[1], false);
}

void
tcp_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(close(fd), 0);
}

/* --- plain input and output */

void
fd_drain(int fd)
{
    char bytes[65536];
    fd_set_blocking(fd, false);
    while (read(fd, bytes, sizeof bytes) > 0) {
    }
}

void
fd_fill(int fd)
{
    static const char bytes[65536];
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    while (write(fd, bytes, 1) > 0) {
    }
}

void
fd_put_byte(int fd)
{
    CHECK_EQ(write(fd, "x", 1), 1);
}

static void
fifo_pair(int fds[2])
{
    char folder[] = "/tmp/rloop-test-XXXXXX";
    char path[64];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/fifo", folder);
    CHECK_EQ(mkfifo(path, 0600), 0);
    fds[0] = open(path, O_RDONLY | O_NONBLOCK);
    fds[1] = open(path, O_WRONLY | O_NONBLOCK);
    CHECK(fds[0] >= 0 && fds[1] >= 0);
    unlink(path);
    rmdir(folder);
}

void
channel_open(enum channel channel, int *reader, int *writer)
{
    static const char *const names[CHANNEL_COUNT] = {"TCP", "AF_UNIX", "pipe", "FIFO", "socket as pipe"};
    static void (*const open_pair[CHANNEL_COUNT])(int[2]) = {tcp_pair, unix_pair, pipe_pair, fifo_pair, unix_pair};
    int fds[2];
    check_note("%s", names[channel]);
    open_pair[channel](fds);
    *reader = fds[0];
    *writer = fds[1];
}

enum core_stream_kind
channel_read_kind(enum channel channel)
{
    return channel == CHANNEL_TCP || channel == CHANNEL_UNIX ? CORE_STREAM_SOCKET : CORE_STREAM_PIPE_READ;
}

enum core_stream_kind
channel_write_kind(enum channel channel)
{
    return channel == CHANNEL_TCP || channel == CHANNEL_UNIX ? CORE_STREAM_SOCKET : CORE_STREAM_PIPE_WRITE;
}
