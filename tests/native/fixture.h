/* SPDX-License-Identifier: MIT
 *
 * fixture.h - what every contract test stands on: the core under test behind a checking wrapper, one loop, time, file
 * descriptors.
 *
 * The wrapper (fixture.c) has the same shape as a core and asserts, in every call of every test, the rules that need no
 * scene of their own: callbacks only inside loop_poll and never inside a downward call, hooks in order and once,
 * nothing after loop_interrupt, no fd left over at the end. Tests call `core->...` and never the core itself.
 */
#ifndef RLOOP_TESTS_FIXTURE_H
#define RLOOP_TESTS_FIXTURE_H

#include "check.h"
#include "core.h"

#include <stdint.h>

#define MS INT64_C(1000000) /* nanoseconds */

/* A core by its name, and how it behaves; NULL in `ops` when there is none of that name. */
struct fixture_core {
    const struct core_ops *ops;
    bool is_scripted;
    bool is_faulty; /* reads and writes are cut short, or fail with EAGAIN, at random */
};

struct fixture_core fixture_core_by_name(const char *name);
/* The check_wrapper of all contract tests; `arg` is the name of a core. */
void fixture_run(const struct check_test *test, void *arg);

/* --- the core under test */
extern const struct core_ops *core;
extern struct core_loop *loop; /* made before the test and destroyed after it, unless the test sets it to NULL */
extern struct fixture_core fixture_core;

/* The hooks' side.  Counts are of the whole test. */
extern struct fixture_hooks {
    unsigned blocks;
    unsigned polls; /* numbers a poll, from 1 on */
    void (*in_first_delivery)(void);
} fixture_hooks;

/* One more loop, with the same checks. */
struct core_loop *fixture_loop_create(void);
/* Every callback of a test begins with this. */
void fixture_callback(void);
/* But for an on_read or on_datagram that gives a buffer back: the on_buffer before it may have interrupted the poll. */
void fixture_paired_callback(void);
bool fixture_is_in_poll(void);

/* --- polling */
void poll_once(int64_t timeout_ns);
/* Poll for this long, whatever happens: for what must not happen. */
void poll_for(int64_t duration_ns);
/* Poll until it holds; fails after many seconds. */
#define POLL_UNTIL(condition) \
    do { \
        int64_t deadline_ns_ = now_ns() + 20000 * MS; \
        while (!(condition)) { \
            if (now_ns() > deadline_ns_) { \
                check_fail(__FILE__, __LINE__, "in time: " #condition); \
            } \
            poll_once(10 * MS); \
        } \
    } while (0)
/* Of so many polls, those that ended before their time. An idle loop has none; a few may be the price of lazy removal.
 * */
unsigned count_early_polls(unsigned polls, int64_t timeout_ns);
/* Nothing is going on: no wake-ups, but for the one or two that settle what was taken away lazily. */
void check_is_idle(void);

int64_t now_ns(void);
void sleep_ns(int64_t duration_ns);

/* --- file descriptors */
unsigned fd_count(void);
bool fd_is_open(int fd);
void fd_set_blocking(int fd, bool is_blocking);
/* Move an fd to another number, closing what was there. */
void fd_move(int from, int to);
void fd_close_pair(int a, int b);
/* A connected pair of which both ends are non-blocking. */
void tcp_pair(int fds[2]);
void unix_pair(int fds[2]);
void pipe_pair(int fds[2]); /* [0] reads, [1] writes */
/* Read all that is there; write until it is full; write one byte. */
void fd_drain(int fd);
void fd_fill(int fd);
void fd_put_byte(int fd);
/* Close with a reset. */
void tcp_reset(int fd);

/* The ways from a writer to a reader that a stream can take. */
enum channel { CHANNEL_TCP, CHANNEL_UNIX, CHANNEL_PIPE, CHANNEL_FIFO, CHANNEL_SOCKET_AS_PIPE, CHANNEL_COUNT };
void channel_open(enum channel channel, int *reader, int *writer);
enum core_stream_kind channel_read_kind(enum channel channel);
enum core_stream_kind channel_write_kind(enum channel channel);
/* For each channel in turn: opens it, and notes its name for failures. */
#define FOR_EACH_CHANNEL(it, reader, writer) \
    for (enum channel it = CHANNEL_TCP; it < CHANNEL_COUNT && (channel_open(it, &(reader), &(writer)), true); it++)

#endif
