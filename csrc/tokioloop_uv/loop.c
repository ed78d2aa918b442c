/* SPDX-License-Identifier: MIT
 *
 * TokioLoop's core: a loop_poll is an iteration of uv_run.  core.h calls it through uvcore_core_ops.
 *
 * libuv has no hook between its wait and its first callback.  So the prepare callback, the last before the wait, tells
 * before_block, and the first callback after it, of whatever handle, tells the rest; the check callback does when there
 * was no other.  Invariants: once has_begun is set, this poll does not wait any more, as what the layer did then may
 * have queued work.  And the handles of the loop's own are unreferenced, but for prepare during uv_run: otherwise
 * uv_loop_alive tells whether libuv has anything to deliver.
 */
#include "uvcore.h"

#include "../readiness.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { NS_PER_MS = 1000000 };

/* --- lists */

void
uvcore_node_insert(struct uvcore_node *head, struct uvcore_node *node)
{
    assert(node->next == NULL);
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}

void
uvcore_node_remove(struct uvcore_node *node)
{
    if (node->next != NULL) {
        node->previous->next = node->next;
        node->next->previous = node->previous;
        node->previous = node->next = NULL;
    }
}

static void
uvcore_list_init(struct uvcore_node *head)
{
    *head = (struct uvcore_node){.previous = head, .next = head};
}

static bool
uvcore_list_is_empty(const struct uvcore_node *head)
{
    return head->next == head;
}

/* Everything in `from` goes to the end of `to`. */
static void
uvcore_list_move(struct uvcore_node *to, struct uvcore_node *from)
{
    while (!uvcore_list_is_empty(from)) {
        struct uvcore_node *node = from->next;
        uvcore_node_remove(node);
        uvcore_node_insert(to, node);
    }
}

/* --- the hooks of a poll */

void
uvcore_loop_begin(struct core_loop *loop)
{
    loop->has_begun = true;
    if (loop->is_blocking) {
        loop->is_blocking = false;
        loop->hooks->after_block(loop->owner);
        uv_timer_stop(&loop->deadline);
    }
    if (atomic_load(&loop->is_woken)) {
        atomic_store(&loop->is_woken, false);
    }
    loop->hooks->before_first_delivery(loop->owner);
}

/* The timer is there for libuv to compute its wait from; it is stopped before libuv looks for timers that are due. */
static void
uvcore_loop_on_deadline(uv_timer_t *deadline)
{
    (void)deadline;
}

static void
uvcore_loop_on_prepare(uv_prepare_t *prepare)
{
    struct core_loop *loop = prepare->data;
    if (loop->has_begun) {
        uv_stop(&loop->uv); /* a write had ended before the wait: there is to be none (uv_stop does that, too) */
        return;
    }
    if (loop->timeout_ns == 0 || loop->closing > 0) {
        return; /* libuv doesn't wait before it has let go of a handle, either */
    }
    if (loop->timeout_ns > 0) {
        /* Started this late, the timer makes libuv wait for just this long from now on. */
        uint64_t now_ns = uv_hrtime();
        uint64_t left_ns = loop->deadline_ns > now_ns ? loop->deadline_ns - now_ns : 0;
        uint64_t left_ms = left_ns / NS_PER_MS + (left_ns % NS_PER_MS != 0);
        uv_timer_start(&loop->deadline, uvcore_loop_on_deadline, left_ms, 0);
    }
    if (!loop->is_blocking) {
        loop->hooks->before_block(loop->owner);
        loop->is_blocking = true;
    }
}

/* libuv may end its wait for reasons of its own: it has let go of handles, or it lost part of a millisecond when a
 * system call was interrupted.  Then the poll goes on waiting. */
static void
uvcore_loop_on_check(uv_check_t *check)
{
    struct core_loop *loop = check->data;
    if (loop->has_begun) {
        return;
    }
    bool is_over = loop->timeout_ns == 0 || (loop->timeout_ns > 0 && uv_hrtime() >= loop->deadline_ns);
    if (is_over) {
        uvcore_begin_delivery(loop);
    }
}

/* What the last poll kept back.  What is put off or posted meanwhile is for the next one. */
static void
uvcore_loop_deliver_deferred(struct core_loop *loop)
{
    struct uvcore_node due;
    uvcore_list_init(&due);
    uvcore_list_move(&due, &loop->deferred);
    uvcore_begin_delivery(loop);
    while (!uvcore_list_is_empty(&due) && !loop->is_interrupted) {
        struct uvcore_object *object = due.next->object;
        uvcore_node_remove(&object->completion);
        object->kind->complete(object);
    }
    uvcore_list_move(&due, &loop->deferred); /* after an interruption the older ones stay in front */
    uvcore_list_move(&loop->deferred, &due);
    uvcore_readiness_deliver(loop);
}

static bool
uvcore_loop_is_quiet(const struct core_loop *loop)
{
    return uvcore_list_is_empty(&loop->deferred) && uvcore_readiness_is_quiet(loop) && !uv_loop_alive(&loop->uv);
}

/* uv_run does nothing in a loop that isn't alive. */
static void
uvcore_loop_run(struct core_loop *loop)
{
    bool may_wait = loop->timeout_ns != 0;
    bool is_spinning = may_wait && loop->busy_poll_ns > 0;
    uint64_t start_ns = is_spinning ? uv_hrtime() : 0;
    uv_ref((uv_handle_t *)&loop->prepare);
    do {
        uv_run(&loop->uv, may_wait && !is_spinning ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        is_spinning = is_spinning && uv_hrtime() - start_ns < (uint64_t)loop->busy_poll_ns;
    } while (!loop->has_begun);
    uv_unref((uv_handle_t *)&loop->prepare);
}

static int
uvcore_loop_poll(struct core_loop *loop, int64_t timeout_ns)
{
    bool is_woken = atomic_load(&loop->is_woken);
    loop->poll_number++;
    loop->timeout_ns = is_woken ? 0 : timeout_ns;
    loop->has_begun = false;
    loop->is_interrupted = false;
    if (timeout_ns == 0 && !is_woken && uvcore_loop_is_quiet(loop)) {
        uvcore_loop_begin(loop);
        return 0;
    }
    loop->status = uvcore_readiness_attach(loop);
    if (loop->status < 0) {
        return loop->status;
    }
    if (!uvcore_list_is_empty(&loop->deferred) || uvcore_readiness_is_posted(loop)) {
        uvcore_loop_deliver_deferred(loop);
        loop->timeout_ns = 0;
    }
    if (loop->timeout_ns > 0) {
        loop->deadline_ns = uv_hrtime() + (uint64_t)loop->timeout_ns;
    }
    uvcore_loop_run(loop);
    return loop->status;
}

/* The reactor, when it asks the kernel after before_first_delivery, would swallow a wake-up that comes between the two:
 * hence the flag, which is still up when the next poll begins. */
static void
uvcore_loop_wake(struct core_loop *loop)
{
    atomic_store(&loop->is_woken, true);
    uvcore_readiness_wake(loop);
}

static void
uvcore_loop_interrupt(struct core_loop *loop)
{
    loop->is_interrupted = true;
    uvcore_readiness_interrupt(loop);
}

static void
uvcore_loop_busy_poll(struct core_loop *loop, int64_t spin_ns)
{
    loop->busy_poll_ns = spin_ns;
}

/* --- life */

/* libuv aborts the process when it has to close an fd of its own that is 0, 1 or 2.  So they are taken while it opens
 * some. */
struct uvcore_low_fds {
    int fds[STDERR_FILENO + 1];
    int count;
};

static void
uvcore_low_fds_take(struct uvcore_low_fds *low)
{
    int fd = -1;
    for (low->count = 0; low->count <= STDERR_FILENO; low->count++) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fd > STDERR_FILENO) {
            break;
        }
        low->fds[low->count] = fd;
    }
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

static void
uvcore_low_fds_release(const struct uvcore_low_fds *low)
{
    for (int i = 0; i < low->count; i++) {
        close(low->fds[i]);
    }
}

static int
uvcore_loop_init_uv(struct core_loop *loop)
{
    struct uvcore_low_fds low;
    uvcore_low_fds_take(&low);
    int result = uv_loop_init(&loop->uv);
    if (result == 0) {
        /* The first stream of a loop makes libuv open one more fd. */
        uv_pipe_init(&loop->uv, &loop->first_stream, 0);
    }
    uvcore_low_fds_release(&low);
    if (result < 0) {
        if (uv_backend_fd(&loop->uv) > STDERR_FILENO) { /* else it has not been opened: 0 is what was never set */
            close(uv_backend_fd(&loop->uv));            /* libuv forgets it when a later step fails */
        }
        return result;
    }
    loop->prepare.data = loop->check.data = loop;
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_prepare_start(&loop->prepare, uvcore_loop_on_prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_check_start(&loop->check, uvcore_loop_on_check);
    uv_timer_init(&loop->uv, &loop->deadline);
    uv_unref((uv_handle_t *)&loop->prepare);
    uv_unref((uv_handle_t *)&loop->check);
    uv_unref((uv_handle_t *)&loop->deadline);
    return 0;
}

/* Let libuv finish with every handle; no hook is called. */
static void
uvcore_loop_close_uv(struct core_loop *loop)
{
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->deadline, NULL);
    uv_close((uv_handle_t *)&loop->first_stream, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int result = uv_loop_close(&loop->uv);
    assert(result == 0 && loop->closing == 0);
    (void)result;
}

static int
uvcore_loop_create(const struct core_hooks *hooks, void *owner, struct core_loop **result)
{
    struct core_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return -ENOMEM;
    }
    loop->hooks = hooks;
    loop->owner = owner;
    uvcore_list_init(&loop->objects);
    uvcore_list_init(&loop->deferred);
    int error = uvcore_loop_init_uv(loop);
    if (error < 0) {
        goto free_loop;
    }
    error = uvcore_readiness_open(loop);
    if (error < 0) {
        goto close_uv;
    }
    *result = loop;
    return 0;

close_uv:
    uvcore_loop_close_uv(loop);
free_loop:
    free(loop);
    return error;
}

static void
uvcore_loop_destroy(struct core_loop *loop)
{
    while (!uvcore_list_is_empty(&loop->objects)) {
        struct uvcore_object *object = loop->objects.next->object;
        object->kind->close(object);
    }
    uvcore_readiness_close(loop);
    uvcore_loop_close_uv(loop);
    free(loop);
}

/* With kernel objects of its own, the loop works on in the child; what the parent had going on does not. */
static int
uvcore_loop_after_fork(struct core_loop *loop)
{
    struct uvcore_low_fds low;
    uvcore_low_fds_take(&low);
    int error = uv_loop_fork(&loop->uv);
    uvcore_low_fds_release(&low);
    loop->is_blocking = false; /* the thread that waited isn't here */
    uv_timer_stop(&loop->deadline);
    for (struct uvcore_node *node = loop->objects.next; node != &loop->objects; node = node->next) {
        uvcore_object_abandon(node->object);
    }
    return error < 0 ? error : uvcore_readiness_after_fork(loop);
}

extern const struct core_ops uvcore_core_ops;

const struct core_ops uvcore_core_ops = {
    .name = "uv",
    .loop_create = uvcore_loop_create,
    .loop_destroy = uvcore_loop_destroy,
    .loop_poll = uvcore_loop_poll,
    .loop_wake = uvcore_loop_wake,
    .loop_interrupt = uvcore_loop_interrupt,
    .loop_busy_poll = uvcore_loop_busy_poll,
    .loop_after_fork = uvcore_loop_after_fork,
    .watch_open = uvcore_watch_open,
    .watch_set = uvcore_watch_set,
    .watch_relax = uvcore_watch_relax,
    .watch_close = uvcore_watch_close,
    .stream_open = uvcore_stream_open,
    .stream_read_start = uvcore_stream_read_start,
    .stream_read_stop = uvcore_stream_read_stop,
    .stream_try_write = uvcore_stream_try_write,
    .stream_write = uvcore_stream_write,
    .stream_unsent = uvcore_stream_unsent,
    .stream_shutdown = uvcore_stream_shutdown,
    .stream_close = uvcore_stream_close,
    .datagram_open = uvcore_datagram_open,
    .datagram_recv_start = readiness_datagram_recv_start,
    .datagram_recv_stop = readiness_datagram_recv_stop,
    .datagram_try_send = readiness_datagram_try_send,
    .datagram_send = readiness_datagram_send,
    .datagram_close = readiness_datagram_close,
};
