/* SPDX-License-Identifier: MIT
 *
 * The checking wrapper around the core under test, and the loop of each test; see fixture.h. What is static here
 * belongs to the one test of its process.
 */
#include "fixture.h"

#include "probes.h"
#include "scripted_core.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct core_ops *core;
struct core_loop *loop;
struct fixture_core fixture_core;
struct fixture_hooks fixture_hooks;

static const struct core_ops *real; /* what is under the wrapper */
static unsigned calls_under_way;    /* downward calls, loop_poll not counted */

/* Where the poll under way is. */
static struct {
    bool is_under_way;
    bool is_blocking;
    bool is_delivering;
    bool is_interrupted;
    unsigned blocks;
    int64_t timeout_ns;
} poll_state;

#define CALL(statement) \
    do { \
        calls_under_way++; \
        statement; \
        calls_under_way--; \
    } while (0)

void
fixture_callback(void)
{
    CHECK(!poll_state.is_interrupted);
    fixture_paired_callback();
}

void
fixture_paired_callback(void)
{
    CHECK(poll_state.is_under_way);
    CHECK(poll_state.is_delivering);
    CHECK(!poll_state.is_blocking);
    CHECK_EQ(calls_under_way, 0);
}

bool
fixture_is_in_poll(void)
{
    return poll_state.is_under_way;
}

/* --- hooks */

static void
hook_before_block(void *owner)
{
    CHECK(owner == &fixture_hooks);
    CHECK(poll_state.is_under_way && !poll_state.is_blocking && !poll_state.is_delivering);
    CHECK(poll_state.timeout_ns != 0);
    CHECK_EQ(poll_state.blocks, 0);
    CHECK_EQ(calls_under_way, 0);
    poll_state.blocks++;
    poll_state.is_blocking = true;
    fixture_hooks.blocks++;
}

static void
hook_after_block(void *owner)
{
    CHECK(owner == &fixture_hooks);
    CHECK(poll_state.is_blocking);
    CHECK_EQ(calls_under_way, 0);
    poll_state.is_blocking = false;
}

static void
hook_before_first_delivery(void *owner)
{
    CHECK(owner == &fixture_hooks);
    CHECK(poll_state.is_under_way && !poll_state.is_blocking);
    CHECK(!poll_state.is_delivering);
    CHECK_EQ(calls_under_way, 0);
    poll_state.is_delivering = true;
    if (fixture_hooks.in_first_delivery != NULL) {
        fixture_hooks.in_first_delivery();
    }
}

static const struct core_hooks hooks = {hook_before_block, hook_after_block, hook_before_first_delivery};

/* --- the wrapper: loop */

static int
checked_loop_create(const struct core_hooks *given, void *owner, struct core_loop **made)
{
    int status;
    CALL(status = real->loop_create(given, owner, made));
    return status;
}

static void
checked_loop_destroy(struct core_loop *it)
{
    CHECK(!poll_state.is_under_way);
    CALL(real->loop_destroy(it));
}

static void
checked_loop_busy_poll(struct core_loop *it, int64_t spin_ns)
{
    CALL(real->loop_busy_poll(it, spin_ns));
}

static int
checked_loop_poll(struct core_loop *it, int64_t timeout_ns)
{
    CHECK(!poll_state.is_under_way);
    CHECK_EQ(calls_under_way, 0);
    memset(&poll_state, 0, sizeof poll_state);
    poll_state.is_under_way = true;
    poll_state.timeout_ns = timeout_ns;
    fixture_hooks.polls++;
    int status = real->loop_poll(it, timeout_ns);
    CHECK(poll_state.is_delivering || status != 0);
    CHECK(!poll_state.is_blocking);
    probes_check_paired();
    poll_state.is_under_way = false;
    return status;
}

/* Not counted: it comes from other threads and from signal handlers. */
static void
checked_loop_wake(struct core_loop *it)
{
    real->loop_wake(it);
}

static void
checked_loop_interrupt(struct core_loop *it)
{
    CHECK(poll_state.is_delivering);
    CALL(real->loop_interrupt(it));
    poll_state.is_interrupted = true;
}

static int
checked_loop_after_fork(struct core_loop *it)
{
    int status;
    CALL(status = real->loop_after_fork(it));
    return status;
}

/* --- the wrapper: watch */

static int
checked_watch_open(struct core_loop *it, int fd, core_watch_cb on_ready, void *owner, struct core_watch **watch)
{
    int status;
    CALL(status = real->watch_open(it, fd, on_ready, owner, watch));
    return status;
}

static int
checked_watch_set(struct core_watch *watch, unsigned interest)
{
    int status;
    CALL(status = real->watch_set(watch, interest));
    return status;
}

static void
checked_watch_relax(struct core_watch *watch, bool is_relaxed)
{
    CALL(real->watch_relax(watch, is_relaxed));
}

static void
checked_watch_close(struct core_watch *watch)
{
    CALL(real->watch_close(watch));
}

/* --- the wrapper: stream */

static int
checked_stream_open(struct core_loop *it, int fd, enum core_stream_kind kind, const struct core_stream_events *events,
                    void *owner, struct core_stream **stream)
{
    int status;
    CALL(status = real->stream_open(it, fd, kind, events, owner, stream));
    return status;
}

static int
checked_stream_read_start(struct core_stream *stream)
{
    int status;
    CALL(status = real->stream_read_start(stream));
    return status;
}

static void
checked_stream_read_stop(struct core_stream *stream)
{
    CALL(real->stream_read_stop(stream));
}

static ssize_t
checked_stream_try_write(struct core_stream *stream, const struct iovec *iov, int iovcnt)
{
    ssize_t count;
    CALL(count = real->stream_try_write(stream, iov, iovcnt));
    return count;
}

static int
checked_stream_write(struct core_stream *stream, struct iovec *iov, int iovcnt)
{
    int status;
    CALL(status = real->stream_write(stream, iov, iovcnt));
    return status;
}

static size_t
checked_stream_unsent(const struct core_stream *stream)
{
    size_t count;
    CALL(count = real->stream_unsent(stream));
    return count;
}

static int
checked_stream_shutdown(struct core_stream *stream)
{
    int status;
    CALL(status = real->stream_shutdown(stream));
    return status;
}

static void
checked_stream_close(struct core_stream *stream)
{
    CALL(real->stream_close(stream));
}

/* --- the wrapper: datagram */

static int
checked_datagram_open(struct core_loop *it, int fd, const struct core_datagram_events *events, void *owner,
                      struct core_datagram **datagram)
{
    int status;
    CALL(status = real->datagram_open(it, fd, events, owner, datagram));
    return status;
}

static int
checked_datagram_recv_start(struct core_datagram *datagram)
{
    int status;
    CALL(status = real->datagram_recv_start(datagram));
    return status;
}

static void
checked_datagram_recv_stop(struct core_datagram *datagram)
{
    CALL(real->datagram_recv_stop(datagram));
}

static int
checked_datagram_try_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                          socklen_t to_len)
{
    int status;
    CALL(status = real->datagram_try_send(datagram, iov, to, to_len));
    CHECK(status <= 0);
    return status;
}

static int
checked_datagram_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                      socklen_t to_len)
{
    int status;
    CALL(status = real->datagram_send(datagram, iov, to, to_len));
    CHECK(status <= 0);
    return status;
}

static void
checked_datagram_close(struct core_datagram *datagram)
{
    CALL(real->datagram_close(datagram));
}

static const struct core_ops checked_core = {
    .name = "checked",
    .loop_create = checked_loop_create,
    .loop_destroy = checked_loop_destroy,
    .loop_poll = checked_loop_poll,
    .loop_wake = checked_loop_wake,
    .loop_interrupt = checked_loop_interrupt,
    .loop_busy_poll = checked_loop_busy_poll,
    .loop_after_fork = checked_loop_after_fork,
    .watch_open = checked_watch_open,
    .watch_set = checked_watch_set,
    .watch_relax = checked_watch_relax,
    .watch_close = checked_watch_close,
    .stream_open = checked_stream_open,
    .stream_read_start = checked_stream_read_start,
    .stream_read_stop = checked_stream_read_stop,
    .stream_try_write = checked_stream_try_write,
    .stream_write = checked_stream_write,
    .stream_unsent = checked_stream_unsent,
    .stream_shutdown = checked_stream_shutdown,
    .stream_close = checked_stream_close,
    .datagram_open = checked_datagram_open,
    .datagram_recv_start = checked_datagram_recv_start,
    .datagram_recv_stop = checked_datagram_recv_stop,
    .datagram_try_send = checked_datagram_try_send,
    .datagram_send = checked_datagram_send,
    .datagram_close = checked_datagram_close,
};

/* --- tests */

struct fixture_core
fixture_core_by_name(const char *name)
{
    struct fixture_core found = {0};
    found.ops = core_by_name(name);
    if (found.ops == NULL) {
        found.ops = scripted_core_by_name(name, &found.is_faulty);
        found.is_scripted = found.ops != NULL;
    }
    return found;
}

struct core_loop *
fixture_loop_create(void)
{
    struct core_loop *made = NULL;
    CHECK_EQ(core->loop_create(&hooks, &fixture_hooks, &made), 0);
    CHECK(made != NULL);
    return made;
}

/* SIGPIPE is ignored, as in a Python process. */
void
fixture_run(const struct check_test *test, void *arg)
{
    signal(SIGPIPE, SIG_IGN);
    fixture_core = fixture_core_by_name(arg);
    real = fixture_core.ops;
    core = &checked_core;
    core->loop_destroy(fixture_loop_create()); /* what a core opens once for the whole process is no leak */
    unsigned fds = fd_count();
    loop = fixture_loop_create();
    test->run();
    if (loop != NULL) {
        core->loop_destroy(loop);
    }
    CHECK_EQ(fd_count(), fds);
}
