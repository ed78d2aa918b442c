/* SPDX-License-Identifier: MIT
 *
 * load.h - the load client of the network scenarios: what its files share.
 *
 * One thread, one poller, CONNECTIONS sockets that a mode drives: it sends, receives, compares every byte, and counts what
 * was answered.  Whatever goes wrong ends the program with a line on stderr that says what (fail).
 */
#ifndef RLOOP_BENCH_LOAD_H
#define RLOOP_BENCH_LOAD_H

#include "rloop_mio/poller.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit codes; the runner tells them apart. */
enum { EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_HANGS = 3, EXIT_CLOSED = 4 };

enum { SCRATCH_SIZE = 256 * 1024 };

struct options {
    const char *unix_path; /* NULL: 127.0.0.1:port */
    int port;
    bool is_datagram, is_tls;
    size_t connections, idle; /* those that send, and those that only stay */
    size_t size, depth;       /* bytes of a message; messages of a connection that are on their way together */
    size_t request_size;      /* of the modes whose answers are no echo */
    double warmup, seconds;
    double operations; /* when there were so many, the run is over before its time; 0: never */
    bool is_reset;     /* connections end with an RST */
    pid_t server;
    int cpu; /* the core to stay on, or -1 */
};

struct tls;

struct connection {
    int fd;
    uint32_t tag;
    unsigned interest;
    struct tls *tls; /* NULL: none */
    /* The messages on their way; the counts are of bytes since the start. */
    char *messages;
    double *queued_at;
    uint64_t queued, sent, received;
    bool was_answered;
};

struct mode {
    const char *name;
    void (*start)(struct connection *connection);
    void (*ready)(struct connection *connection, unsigned ready);
    void (*every_second)(struct connection *connection); /* NULL: nothing */
    void (*run)(void);                                   /* instead of all that: a mode that measures by itself */
};

extern const struct mode echo_mode, connect_mode, answer_mode, http_mode, upload_mode, download_mode, idle_mode;

extern struct options options;
extern char scratch[SCRATCH_SIZE];

/* Print a line on stderr and end the program. */
_Noreturn void fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *need_memory(size_t size);

/* Streams and datagrams; see load_io.c. */
void io_open(struct connection *connection);
void io_close(struct connection *connection);
void io_want(struct connection *connection, unsigned interest);
/* Bytes, or -EAGAIN; an error or an end of file ends the program. */
ssize_t io_send(struct connection *connection, const char *data, size_t size);
ssize_t io_receive(struct connection *connection, char *data, size_t size);
/* TLS has received what was not asked for yet: the poller will not tell. */
bool io_has_more(const struct connection *connection);
struct mio_poller *io_poller(void);

/* The bytes that a server makes which does not echo: byte i of what it sends is i % PATTERN_PERIOD; see load_pattern.c. */
enum { PATTERN_PERIOD = 251 };
const char *pattern_at(uint64_t offset); /* SCRATCH_SIZE bytes from there on */
void pattern_compare(const char *data, size_t size, uint64_t offset);

/* What is counted; see load_stats.c. */
double now_seconds(void);
double server_cpu_seconds(void);
double client_cpu_seconds(void); /* near to the seconds that passed: the client was the limit */
/* What the connection has had answered; a negative latency is not counted. */
void stats_add(struct connection *connection, double operations, double latency_seconds);
void stats_reset(void);
double stats_operations(void);
size_t stats_connections(void); /* how many had an answer, ever */
void stats_print(double seconds, double cpu_seconds, double own_cpu_seconds);

#endif
