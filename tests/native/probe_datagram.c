/* SPDX-License-Identifier: MIT
 *
 * The datagram probe; see probes.h.
 */
#include "probes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
datagram_on_buffer(void *owner, struct iovec *buffer)
{
    struct datagram_probe *probe = owner;
    fixture_callback();
    probes_check_paired();
    if (probe->poll != fixture_hooks.polls) {
        probe->poll = fixture_hooks.polls;
        probe->reads_in_poll = 0;
        probe->is_done_in_poll = false;
    }
    CHECK(probe->datagram != NULL && probe->is_receiving);
    CHECK(!probe->is_done_in_poll);
    CHECK(probe->reads_in_poll < CORE_DATAGRAMS_PER_POLL);
    CHECK_EQ(buffer->iov_len, 0);
    probe->buffers++;
    if (probe->buffer_size > 0) {
        probe->offered = malloc(probe->buffer_size);
        CHECK(probe->offered != NULL);
        *buffer = (struct iovec){probe->offered, probe->buffer_size};
        probes_unpaired = probe;
    }
    else {
        probe->is_done_in_poll = true;
    }
    if (probe->in_buffer != NULL) {
        probe->in_buffer(probe);
    }
}

static void
datagram_take(struct datagram_probe *probe, ssize_t size, const struct sockaddr *from, socklen_t from_len)
{
    CHECK((size_t)size <= probe->buffer_size);
    CHECK(from_len <= sizeof probe->last_from);
    CHECK(from_len == 0 || from != NULL);
    if (from_len > 0) {
        memcpy(&probe->last_from, from, from_len);
    }
    probe->last_from_len = from_len;
    probe->last_size = size;
    probe->received++;
    if ((size_t)size >= sizeof probe->last_number) {
        memcpy(&probe->last_number, probe->offered, sizeof probe->last_number);
        char *expected = malloc((size_t)size);
        CHECK(expected != NULL);
        datagram_make(expected, (size_t)size, probe->last_number);
        CHECK_EQ(memcmp(expected, probe->offered, (size_t)size), 0);
        free(expected);
    }
}

static void
datagram_on_datagram(void *owner, ssize_t result, const struct sockaddr *from, socklen_t from_len)
{
    struct datagram_probe *probe = owner;
    fixture_paired_callback();
    CHECK(probes_unpaired == probe);
    CHECK(probe->datagram != NULL);
    CHECK(probe->is_receiving || result == -EAGAIN);
    probes_unpaired = NULL;
    probe->reads_in_poll++;
    if (result >= 0) {
        datagram_take(probe, result, from, from_len);
    }
    else if (result == -EAGAIN) {
        probe->is_done_in_poll = true;
    }
    else {
        probe->error = (int)result;
        probe->errors++;
    }
    free(probe->offered);
    probe->offered = NULL;
    if (probe->in_datagram != NULL && result != -EAGAIN) {
        probe->in_datagram(probe, result);
    }
}

void
datagram_free_send(struct datagram_probe *probe)
{
    free(probe->send_bytes);
    free(probe->send_iov);
    free(probe->send_to);
    probe->send_bytes = NULL;
    probe->send_iov = NULL;
    probe->send_to = NULL;
    probe->is_sending = false;
}

static void
datagram_on_sent(void *owner, int status)
{
    struct datagram_probe *probe = owner;
    fixture_callback();
    probes_check_paired();
    CHECK(probe->datagram != NULL && probe->is_sending);
    CHECK(status <= 0 && status != -EAGAIN && status != -EINTR);
    datagram_free_send(probe);
    probe->sends++;
    probe->send_status = status;
    if (probe->in_sent != NULL) {
        probe->in_sent(probe, status);
    }
}

static const struct core_datagram_events datagram_events = {datagram_on_buffer, datagram_on_datagram, datagram_on_sent};

void
datagram_open(struct datagram_probe *probe, int fd)
{
    probe->fd = fd;
    probe->datagram = NULL;
    CHECK_EQ(core->datagram_open(loop, fd, &datagram_events, probe, &probe->datagram), 0);
    CHECK(probe->datagram != NULL);
}

void
datagram_recv_start(struct datagram_probe *probe)
{
    probe->is_receiving = true;
    CHECK_EQ(core->datagram_recv_start(probe->datagram), 0);
}

void
datagram_recv_stop(struct datagram_probe *probe)
{
    probe->is_receiving = false;
    core->datagram_recv_stop(probe->datagram);
}

void
datagram_close(struct datagram_probe *probe)
{
    core->datagram_close(probe->datagram);
    CHECK(!fd_is_open(probe->fd));
    probe->datagram = NULL;
    probe->is_receiving = false;
    free(probe->offered);
    probe->offered = NULL;
    if (probes_unpaired == probe) {
        probes_unpaired = NULL;
    }
    datagram_free_send(probe);
}

void
datagram_make(char *bytes, size_t size, unsigned number)
{
    pattern_fill(bytes, size, number, 0);
    if (size >= sizeof number) {
        memcpy(bytes, &number, sizeof number);
    }
}

int
datagram_try_send(struct datagram_probe *probe, size_t size, unsigned number, const void *to, socklen_t to_len)
{
    CHECK(!probe->is_sending);
    char *bytes = malloc(size + 1);
    CHECK(bytes != NULL);
    datagram_make(bytes, size, number);
    struct iovec iov = {bytes, size};
    int status = core->datagram_try_send(probe->datagram, &iov, to, to_len);
    free(bytes);
    return status;
}

int
datagram_send(struct datagram_probe *probe, size_t size, unsigned number, const void *to, socklen_t to_len)
{
    CHECK(!probe->is_sending);
    probe->send_bytes = malloc(size + 1);
    probe->send_iov = malloc(sizeof *probe->send_iov);
    probe->send_to = to != NULL ? malloc(to_len) : NULL;
    CHECK(probe->send_bytes != NULL && probe->send_iov != NULL);
    datagram_make(probe->send_bytes, size, number);
    *probe->send_iov = (struct iovec){probe->send_bytes, size};
    if (to != NULL) {
        memcpy(probe->send_to, to, to_len);
    }
    probe->is_sending = true;
    int status = core->datagram_send(probe->datagram, probe->send_iov, probe->send_to, to_len);
    if (status != 0) {
        datagram_free_send(probe);
    }
    return status;
}
