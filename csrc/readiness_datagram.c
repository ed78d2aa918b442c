/* SPDX-License-Identifier: MIT
 *
 * The datagram half of core.h over a readiness_source; see readiness.h.  All of RLoop's datagram sockets are these, of
 * any address family.
 *
 * The poller is asked for exactly what the object waits for: readability while receiving, writability while a send is
 * in flight.  Any callback may close the object; it then stays in memory until datagram_on_ready is about to return.
 */
#include "readiness.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Where send(2) has no such flag the socket has an option instead; datagram_open sets it. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

struct core_datagram {
    const struct readiness_poller *poller;
    struct core_loop *loop;
    struct readiness_source *source;
    const struct core_datagram_events *events;
    void *owner;
    int fd;
    bool is_receiving;
    bool is_sending; /* one send is in flight, and these three describe it */
    const struct iovec *iov;
    const struct sockaddr *to;
    socklen_t to_len;
    bool is_delivering; /* datagram_on_ready is at work and frees the object if it is closed meanwhile */
    bool is_closed;
};

static int
datagram_update_interest(struct core_datagram *datagram)
{
    unsigned interest = (datagram->is_receiving ? (unsigned)CORE_READABLE : 0u) |
                        (datagram->is_sending ? (unsigned)CORE_WRITABLE : 0u);
    return interest == datagram->source->interest ? 0 : datagram->poller->set(datagram->source, interest);
}

/* --- delivery */

/* One on_buffer and its on_datagram.  True if there may be more to receive now. */
static bool
datagram_deliver_one(struct core_datagram *datagram)
{
    struct iovec buffer = {NULL, 0};
    datagram->events->on_buffer(datagram->owner, &buffer);
    if (datagram->is_closed || buffer.iov_len == 0) {
        return false;
    }
    struct sockaddr_storage from;
    socklen_t from_len = 0;
    /* A buffer that was given is given back, even if receiving was stopped at the same time. */
    ssize_t result = -EAGAIN;
    if (datagram->is_receiving) {
        do {
            from_len = sizeof from;
            result = recvfrom(datagram->fd, buffer.iov_base, buffer.iov_len, 0, (struct sockaddr *)&from, &from_len);
        } while (result < 0 && errno == EINTR);
        if (result < 0) {
            result = -errno;
            from_len = 0;
        }
    }
    datagram->events->on_datagram(datagram->owner, result, (struct sockaddr *)&from, from_len);
    return result != -EAGAIN;
}

static void
datagram_deliver(struct core_datagram *datagram)
{
    for (int i = 0; i < CORE_READS_PER_POLL; i++) {
        if (!datagram_deliver_one(datagram) || datagram->is_closed || !datagram->is_receiving ||
            datagram->poller->is_interrupted(datagram->loop))
        {
            return;
        }
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

static void
datagram_on_ready(void *owner, unsigned ready)
{
    struct core_datagram *datagram = owner;
    datagram->is_delivering = true;
    if (ready & CORE_READABLE) {
        datagram_deliver(datagram);
    }
    if ((ready & CORE_WRITABLE) && !datagram->is_closed && !datagram->poller->is_interrupted(datagram->loop)) {
        datagram_deliver_sent(datagram);
    }
    datagram->is_delivering = false;
    if (datagram->is_closed) {
        free(datagram);
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
    }
    return error;
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
        free(datagram);
    }
}
