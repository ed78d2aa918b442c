/* SPDX-License-Identifier: MIT
 *
 * The datagram half of core.h over a readiness_source; see readiness.h.  All of RLoop's datagram sockets are these, of
 * any address family.
 *
 * The poller is asked for exactly what the object waits for: readability while receiving, writability while a send is
 * in flight.  Any callback may close the object; it then stays in memory until datagram_on_ready is about to return.
 *
 * A busy socket receives in batches, where the system has a call for that: what was received and not told of, because
 * receiving was stopped or the poll interrupted, is kept, and comes first when receiving goes on.
 */
#include "readiness.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where send(2) has no such flag the socket has an option instead; datagram_open sets it. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

/* What is received at once.  What was kept of a batch may come in the same poll as the next batch. */
enum { BATCH_SLOTS = CORE_DATAGRAMS_PER_POLL / 2 };

struct datagram_batch;

struct core_datagram {
    const struct readiness_poller *poller;
    struct core_loop *loop;
    struct readiness_source *source;
    const struct core_datagram_events *events;
    void *owner;
    int fd;
    struct datagram_batch *batch; /* NULL until the socket is busy */
    bool is_inet;                 /* the last sender was */
    bool is_receiving;
    bool is_sending; /* one send is in flight, and these three describe it */
    const struct iovec *iov;
    const struct sockaddr *to;
    socklen_t to_len;
    bool is_delivering; /* datagram_on_ready is at work and frees the object if it is closed meanwhile */
    bool is_closed;
};

/* --- batches */

#ifdef __linux__

/* No internet datagram is larger.  Pages that nothing was received into take no memory. */
enum { BATCH_SLOT_SIZE = 65536 };

struct datagram_batch {
    int count; /* received */
    int next;  /* the first that is not told yet */
    int error; /* -errno instead of the only datagram, or 0 */
    struct mmsghdr messages[BATCH_SLOTS];
    struct iovec iovs[BATCH_SLOTS];
    struct sockaddr_storage from[BATCH_SLOTS];
    char bytes[BATCH_SLOTS][BATCH_SLOT_SIZE];
};

/* Without the memory for a batch the socket goes on with single datagrams.  It must be one whose datagrams fit. */
static void
batch_make(struct core_datagram *datagram)
{
    struct datagram_batch *batch = datagram->is_inet ? malloc(sizeof *batch) : NULL;
    if (batch == NULL) {
        return;
    }
    batch->count = batch->next = batch->error = 0;
    memset(batch->messages, 0, sizeof batch->messages);
    for (int i = 0; i < BATCH_SLOTS; i++) {
        batch->iovs[i] = (struct iovec){batch->bytes[i], BATCH_SLOT_SIZE};
        batch->messages[i].msg_hdr.msg_name = &batch->from[i];
        batch->messages[i].msg_hdr.msg_namelen = sizeof batch->from[i];
        batch->messages[i].msg_hdr.msg_iov = &batch->iovs[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
    datagram->batch = batch;
}

static bool
batch_is_empty(const struct core_datagram *datagram)
{
    return datagram->batch == NULL || datagram->batch->next == datagram->batch->count;
}

static void
batch_receive(struct datagram_batch *batch, int fd)
{
    for (int i = 0; i < batch->count; i++) {
        batch->messages[i].msg_hdr.msg_namelen = sizeof batch->from[i]; /* the kernel had put the length there */
    }
    do {
        batch->count = recvmmsg(fd, batch->messages, BATCH_SLOTS, MSG_DONTWAIT, NULL);
    } while (batch->count < 0 && errno == EINTR);
    batch->error = batch->count < 0 ? -errno : 0;
    if (batch->error < 0) {
        batch->count = batch->error != -EAGAIN;
    }
    batch->next = 0;
}

/* Put the oldest datagram into the buffer: its size, or -errno, as from recvfrom(). */
static ssize_t
batch_take(struct datagram_batch *batch, const struct iovec *buffer, const struct sockaddr **from, socklen_t *from_len)
{
    int i = batch->next++;
    if (batch->error < 0) {
        return batch->error;
    }
    size_t size = batch->messages[i].msg_len < buffer->iov_len ? batch->messages[i].msg_len : buffer->iov_len;
    memcpy(buffer->iov_base, batch->bytes[i], size);
    *from = (const struct sockaddr *)&batch->from[i];
    *from_len = batch->messages[i].msg_hdr.msg_namelen;
    return (ssize_t)size;
}

#else

/* One call per datagram: the way of every socket that isn't busy. */
static void
batch_make(struct core_datagram *datagram)
{
    (void)datagram;
}

static bool
batch_is_empty(const struct core_datagram *datagram)
{
    (void)datagram;
    return true;
}

static void
batch_receive(struct datagram_batch *batch, int fd)
{
    (void)batch;
    (void)fd;
}

static ssize_t
batch_take(struct datagram_batch *batch, const struct iovec *buffer, const struct sockaddr **from, socklen_t *from_len)
{
    (void)batch;
    (void)buffer;
    (void)from;
    (void)from_len;
    return -EAGAIN;
}

#endif

static void
datagram_free(struct core_datagram *datagram)
{
    free(datagram->batch);
    free(datagram);
}

static int
datagram_update_interest(struct core_datagram *datagram)
{
    unsigned interest = (datagram->is_receiving ? (unsigned)CORE_READABLE : 0u) |
                        (datagram->is_sending ? (unsigned)CORE_WRITABLE : 0u);
    return interest == datagram->source->interest ? 0 : datagram->poller->set(datagram->source, interest);
}

/* --- delivery */

static ssize_t
datagram_receive(struct core_datagram *datagram, const struct iovec *buffer, struct sockaddr_storage *from,
                 socklen_t *from_len)
{
    ssize_t result;
    from->ss_family = AF_UNSPEC;
    do {
        *from_len = sizeof *from;
        result = recvfrom(datagram->fd, buffer->iov_base, buffer->iov_len, 0, (struct sockaddr *)from, from_len);
    } while (result < 0 && errno == EINTR);
    if (result < 0) {
        *from_len = 0;
        return -errno;
    }
    datagram->is_inet = *from_len > 0 && (from->ss_family == AF_INET || from->ss_family == AF_INET6);
    return result;
}

/* One on_buffer and its on_datagram.  True if there may be more to receive now. */
static bool
datagram_deliver_one(struct core_datagram *datagram)
{
    struct iovec buffer = {NULL, 0};
    datagram->events->on_buffer(datagram->owner, &buffer);
    if (datagram->is_closed || buffer.iov_len == 0) {
        return false;
    }
    struct sockaddr_storage storage;
    const struct sockaddr *from = (const struct sockaddr *)&storage;
    socklen_t from_len = 0;
    /* A buffer that was given is given back, even if receiving was stopped at the same time. */
    ssize_t result = -EAGAIN;
    if (datagram->is_receiving) {
        result = batch_is_empty(datagram) ? datagram_receive(datagram, &buffer, &storage, &from_len)
                                          : batch_take(datagram->batch, &buffer, &from, &from_len);
    }
    datagram->events->on_datagram(datagram->owner, result, from, from_len);
    return result != -EAGAIN && !datagram->is_closed && datagram->is_receiving &&
           !datagram->poller->is_interrupted(datagram->loop);
}

static void
datagram_deliver(struct core_datagram *datagram)
{
    if (datagram->batch == NULL) {
        int count = 0;
        while (count < BATCH_SLOTS && datagram_deliver_one(datagram)) {
            count++;
        }
        if (count >= CORE_READS_PER_POLL && !datagram->is_closed) {
            batch_make(datagram);
        }
        return;
    }
    if (batch_is_empty(datagram)) {
        batch_receive(datagram->batch, datagram->fd);
    }
    while (!batch_is_empty(datagram) && datagram_deliver_one(datagram)) {
    }
}

static void
datagram_deliver_sent(struct core_datagram *datagram)
{
    int status = readiness_datagram_try_send(datagram, datagram->iov, datagram->to, datagram->to_len);
    if (status == -EAGAIN) {
        return;
    }
    datagram->is_sending = false;
    (void)datagram_update_interest(datagram);
    datagram->events->on_sent(datagram->owner, status);
}

/* The kernel does not tell of what it has given already. */
static void
datagram_post_kept(struct core_datagram *datagram)
{
    if (datagram->is_receiving && !batch_is_empty(datagram)) {
        (void)datagram->poller->post(datagram->source); /* needs nothing that could be missing */
    }
}

static void
datagram_on_ready(void *owner, unsigned ready)
{
    struct core_datagram *datagram = owner;
    datagram->is_delivering = true;
    if (datagram->is_receiving && ((ready & CORE_READABLE) || !batch_is_empty(datagram))) {
        datagram_deliver(datagram);
    }
    if ((ready & CORE_WRITABLE) && !datagram->is_closed && datagram->is_sending &&
        !datagram->poller->is_interrupted(datagram->loop))
    {
        datagram_deliver_sent(datagram);
    }
    datagram->is_delivering = false;
    if (datagram->is_closed) {
        datagram_free(datagram);
    }
    else {
        datagram_post_kept(datagram);
    }
}

/* --- downward calls */

static void
datagram_on_destroy(void *owner)
{
    readiness_datagram_close(owner);
}

int
readiness_datagram_open(const struct readiness_poller *poller, struct core_loop *loop, int fd,
                        const struct core_datagram_events *events, void *owner, struct core_datagram **result)
{
    struct core_datagram *datagram = calloc(1, sizeof *datagram);
    if (datagram == NULL) {
        return -ENOMEM;
    }
    int error = poller->open(loop, fd, datagram_on_ready, datagram, &datagram->source);
    if (error < 0) {
        free(datagram);
        return error;
    }
    datagram->source->on_destroy = datagram_on_destroy;
    datagram->poller = poller;
    datagram->loop = loop;
    datagram->events = events;
    datagram->owner = owner;
    datagram->fd = fd;
#ifdef SO_NOSIGPIPE
    (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
#endif
    *result = datagram;
    return 0;
}

int
readiness_datagram_recv_start(struct core_datagram *datagram)
{
    datagram->is_receiving = true;
    int error = datagram_update_interest(datagram);
    if (error < 0) {
        datagram->is_receiving = false;
        return error;
    }
    datagram_post_kept(datagram);
    return 0;
}

void
readiness_datagram_recv_stop(struct core_datagram *datagram)
{
    datagram->is_receiving = false;
    (void)datagram_update_interest(datagram); /* to ask for less can't fail */
}

int
readiness_datagram_try_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                            socklen_t to_len)
{
    ssize_t count;
    do {
        count = sendto(datagram->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL, to, to != NULL ? to_len : 0);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : 0;
}

int
readiness_datagram_send(struct core_datagram *datagram, const struct iovec *iov, const struct sockaddr *to,
                        socklen_t to_len)
{
    assert(!datagram->is_sending);
    datagram->is_sending = true;
    int error = datagram_update_interest(datagram);
    if (error < 0) {
        datagram->is_sending = false;
        return error;
    }
    datagram->iov = iov;
    datagram->to = to;
    datagram->to_len = to_len;
    return 0;
}

void
readiness_datagram_close(struct core_datagram *datagram)
{
    datagram->poller->close(datagram->source);
    close(datagram->fd);
    datagram->is_closed = true;
    if (!datagram->is_delivering) {
        datagram_free(datagram);
    }
}
