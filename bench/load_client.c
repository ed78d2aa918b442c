/* SPDX-License-Identifier: MIT
 *
 * The load client of the echo benchmarks: CONNECTIONS sockets to 127.0.0.1:PORT, each of which sends one message of SIZE bytes,
 * waits for the whole echo, compares every byte, and sends the next.  echo.py runs it on a core of its own.
 *
 *     load_client PORT CONNECTIONS SIZE WARMUP_SECONDS SECONDS
 *
 * Prints "measuring" when the warm-up is over, and at the end a line of JSON.  Exit code 1 when an echo was wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 4000000, EVENTS = 256 };

struct connection {
    int fd;
    char *message; /* its first eight bytes count the messages, so that no two are alike */
    uint64_t count;
    size_t received;
    double sent_at;
};

static size_t size;
static char *scratch;
static float *latencies_us;
static size_t samples, requests;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static double
now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void
connection_send(struct connection *connection)
{
    connection->count++;
    memcpy(connection->message, &connection->count, size < sizeof connection->count ? size : sizeof connection->count);
    connection->received = 0;
    connection->sent_at = now_seconds();
    /* The sockets block on writing: the peer reads all the time. */
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(connection->fd, connection->message + sent, size - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            die("send");
        }
        sent += n > 0 ? (size_t)n : 0;
    }
}

static void
connection_receive(struct connection *connection)
{
    ssize_t n = recv(connection->fd, scratch, size - connection->received, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        fprintf(stderr, "the server closed a connection\n");
        exit(1);
    }
    if (memcmp(scratch, connection->message + connection->received, (size_t)n) != 0) {
        fprintf(stderr, "an echo differs from its message\n");
        exit(1);
    }
    connection->received += (size_t)n;
    if (connection->received == size) {
        requests++;
        if (samples < MAX_SAMPLES) {
            latencies_us[samples++] = (float)((now_seconds() - connection->sent_at) * 1e6);
        }
        connection_send(connection);
    }
}

static void
connection_open(struct connection *connection, int port, int epoll_fd, unsigned seed)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die("connect");
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->message = malloc(size);
    if (connection->message == NULL) {
        die("malloc");
    }
    for (size_t i = 0; i < size; i++) {
        connection->message[i] = (char)(seed * 31 + i * 7);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
run_until(int epoll_fd, double end)
{
    struct epoll_event events[EVENTS];
    while (now_seconds() < end) {
        int count = epoll_wait(epoll_fd, events, EVENTS, 1000);
        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            connection_receive(events[i].data.ptr);
        }
    }
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: load_client PORT CONNECTIONS SIZE WARMUP_SECONDS SECONDS\n");
        return 2;
    }
    int port = atoi(argv[1]), connections = atoi(argv[2]), epoll_fd = epoll_create1(0);
    size = (size_t)atol(argv[3]);
    double warmup = atof(argv[4]), seconds = atof(argv[5]);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    scratch = malloc(size);
    latencies_us = malloc(MAX_SAMPLES * sizeof *latencies_us);
    if (epoll_fd < 0 || all == NULL || scratch == NULL || latencies_us == NULL) {
        die("start");
    }
    for (int i = 0; i < connections; i++) {
        connection_open(&all[i], port, epoll_fd, (unsigned)i);
    }
    for (int i = 0; i < connections; i++) {
        connection_send(&all[i]);
    }
    run_until(epoll_fd, now_seconds() + warmup);
    requests = samples = 0;
    puts("measuring");
    fflush(stdout);
    double start = now_seconds();
    run_until(epoll_fd, start + seconds);
    double elapsed = now_seconds() - start;
    if (requests == 0) {
        fprintf(stderr, "no message came back\n");
        return 1;
    }
    qsort(latencies_us, samples, sizeof *latencies_us, compare_floats);
    printf("{\"requests\": %zu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", requests, elapsed,
           (double)latencies_us[samples / 2], (double)latencies_us[samples - 1 - samples / 100]);
    return 0;
}
