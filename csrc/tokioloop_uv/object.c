/* SPDX-License-Identifier: MIT
 *
 * The life of TokioLoop's streams, their share of a poll, the end of a write.
 *
 * Invariant: an object is in the loop's list while the layer has it.  Its memory lasts until libuv, too, has let go of
 * it; callbacks that come in between find is_closed set.
 */
#include "uvcore.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void
uvcore_object_init(struct uvcore_object *object, const struct uvcore_kind *kind, struct core_loop *loop, int fd)
{
    object->kind = kind;
    object->loop = loop;
    object->fd = fd;
    object->node.object = object->completion.object = object;
    object->holders = 1;
}

void
uvcore_object_hold(struct uvcore_object *object, uv_handle_t *handle)
{
    handle->data = object;
    object->handle = handle;
    object->holders = 2;
}

void
uvcore_object_list(struct uvcore_object *object)
{
    uvcore_node_insert(&object->loop->objects, &object->node);
}

static void
uvcore_object_release(struct uvcore_object *object)
{
    assert(object->holders > 0);
    object->holders--;
    if (object->holders == 0) {
        free(object);
    }
}

static void
uvcore_object_on_closed(uv_handle_t *handle)
{
    struct uvcore_object *object = handle->data;
    object->loop->closing--;
    uvcore_object_release(object);
}

static void
uvcore_object_close_handle(struct uvcore_object *object)
{
    object->is_closed = true;
    object->loop->closing++;
    uv_close(object->handle, uvcore_object_on_closed);
}

/* A handle that never got its fd, because opening it failed, closes none. */
void
uvcore_object_close(struct uvcore_object *object)
{
    uvcore_node_remove(&object->node);
    uvcore_node_remove(&object->completion);
    if (object->is_closed) {
        close(object->fd); /* kept when it was abandoned */
    }
    else if (object->handle != NULL) {
        uvcore_object_close_handle(object);
    }
    uvcore_object_release(object);
}

/* Only closing the handle makes libuv forget a write.  The fd must keep its number, under which the layer knows it. */
void
uvcore_object_abandon(struct uvcore_object *object)
{
    if (object->handle == NULL || object->is_closed) {
        return; /* the reactor looks after its own */
    }
    object->kind->stop(object);
    if (!object->is_writing) {
        return;
    }
    uvcore_node_remove(&object->completion);
    int flags = fcntl(object->fd, F_GETFD);
    int copy = fcntl(object->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    uvcore_object_close_handle(object);
    if (copy < 0) {
        object->fd = -1;
        return;
    }
    dup2(copy, object->fd);
    fcntl(object->fd, F_SETFD, flags);
    close(copy);
}

bool
uvcore_object_may_read(struct uvcore_object *object)
{
    const struct core_loop *loop = object->loop;
    if (object->poll_number != loop->poll_number) {
        object->poll_number = loop->poll_number;
        object->reads = 0;
    }
    return !loop->is_interrupted && object->reads < CORE_READS_PER_POLL;
}

void
uvcore_object_written(struct uvcore_object *object, int status)
{
    object->status = status;
    if (object->loop->is_interrupted) {
        uvcore_node_insert(&object->loop->deferred, &object->completion);
    }
    else {
        object->kind->complete(object);
    }
}

int
uvcore_socket_family(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &length) < 0 ? -errno : address.ss_family;
}
