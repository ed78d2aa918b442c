/* SPDX-License-Identifier: MIT
 *
 * The stream probe, the pattern of bytes, and the raw end of a channel; see probes.h.
 */
#include "probes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *probes_unpaired;

void
probes_check_paired(void)
{
    CHECK(probes_unpaired == NULL);
}

/* --- bytes */

unsigned char
pattern_byte(unsigned key, size_t offset)
{
    return (unsigned char)(offset * 37 + (offset >> 8) * 11 + (offset >> 16) * 5 + key * 101);
}

void
pattern_fill(void *buffer, size_t length, unsigned key, size_t offset)
{
    unsigned char *bytes = buffer;
    for (size_t i = 0; i < length; i++) {
        bytes[i] = pattern_byte(key, offset + i);
    }
}

void
pattern_check(const void *buffer, size_t length, unsigned key, size_t offset)
{
    const unsigned char *bytes = buffer;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != pattern_byte(key, offset + i)) {
            CHECK_EQ(offset + i, -1); /* prints where */
        }
    }
}

size_t
raw_write(struct raw_end *raw, size_t length)
{
    char bytes[4096];
    size_t start = raw->sent;
    while (raw->sent - start < length) {
        size_t left = length - (raw->sent - start);
        size_t size = left < sizeof bytes ? left : sizeof bytes;
        pattern_fill(bytes, size, raw->key, raw->sent);
        ssize_t count = write(raw->fd, bytes, size);
        if (count < 0) {
            CHECK(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
            break;
        }
        raw->sent += (size_t)count;
    }
    return raw->sent - start;
}

size_t
raw_read(struct raw_end *raw, size_t limit)
{
    char bytes[16384];
    size_t start = raw->received;
    while (raw->received - start < limit) {
        size_t left = limit - (raw->received - start);
        ssize_t count = read(raw->fd, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (count < 0) {
            CHECK(errno == EAGAIN);
            break;
        }
        if (count == 0) {
            raw->has_eof = true;
            break;
        }
        pattern_check(bytes, (size_t)count, raw->key, raw->received);
        raw->received += (size_t)count;
    }
    return raw->received - start;
}

/* --- callbacks */

/* Rule 4 speaks of one poll; begin to count anew when this is another. */
static void
stream_note_poll(struct stream_probe *probe)
{
    if (probe->poll != fixture_hooks.polls) {
        probe->poll = fixture_hooks.polls;
        probe->reads_in_poll = 0;
        probe->is_done_in_poll = false;
    }
}

static void
stream_on_buffer(void *owner, struct iovec *buffer)
{
    struct stream_probe *probe = owner;
    fixture_callback();
    probes_check_paired();
    stream_note_poll(probe);
    CHECK(probe->stream != NULL && probe->is_reading);
    CHECK(probe->kind != CORE_STREAM_PIPE_WRITE);
    CHECK(!probe->is_done_in_poll);
    CHECK(probe->reads_in_poll < CORE_READS_PER_POLL);
    CHECK_EQ(buffer->iov_len, 0);
    probe->buffers++;
    if (probe->buffer_size > 0) {
        probe->offered_size = probe->buffer_size;
        probe->offered = malloc(probe->offered_size);
        CHECK(probe->offered != NULL);
        *buffer = (struct iovec){probe->offered, probe->offered_size};
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
stream_take_bytes(struct stream_probe *probe, size_t count)
{
    CHECK(probe->offered != NULL && count <= probe->offered_size);
    if (!probe->is_unchecked) {
        pattern_check(probe->offered, count, probe->key, probe->received);
    }
    probe->received += count;
    probe->reads++;
    if (count < probe->offered_size) {
        probe->is_done_in_poll = true;
    }
}

static void
stream_on_read(void *owner, ssize_t result)
{
    struct stream_probe *probe = owner;
    (probes_unpaired == probe ? fixture_paired_callback : fixture_callback)();
    stream_note_poll(probe);
    CHECK(probe->stream != NULL);
    if (probe->kind == CORE_STREAM_PIPE_WRITE) {
        CHECK(probe->is_reading && result == 0);
        probes_check_paired();
    }
    else {
        CHECK(probes_unpaired == probe);
        CHECK(probe->is_reading || result == -EAGAIN);
        probes_unpaired = NULL;
    }
    probe->reads_in_poll++;
    if (result > 0) {
        stream_take_bytes(probe, (size_t)result);
    }
    else if (result == -EAGAIN) {
        probe->is_done_in_poll = true;
    }
    else {
        probe->has_eof = result == 0;
        probe->read_error = (int)result;
        probe->is_reading = false;
        probe->reads++;
    }
    free(probe->offered);
    probe->offered = NULL;
    if (probe->in_read != NULL && result != -EAGAIN) {
        probe->in_read(probe, result);
    }
}

void
stream_free_write(struct stream_probe *probe)
{
    free(probe->write_bytes);
    free(probe->write_iov);
    probe->write_bytes = NULL;
    probe->write_iov = NULL;
    probe->is_writing = false;
}

static void
stream_on_written(void *owner, int status)
{
    struct stream_probe *probe = owner;
    fixture_callback();
    probes_check_paired();
    CHECK(probe->stream != NULL && probe->is_writing);
    CHECK(status <= 0 && status != -EAGAIN && status != -EINTR);
    CHECK_EQ(core->stream_unsent(probe->stream), 0);
    stream_free_write(probe);
    probe->writes++;
    probe->write_status = status;
    if (probe->in_written != NULL) {
        probe->in_written(probe, status);
    }
}

static const struct core_stream_events stream_events = {stream_on_buffer, stream_on_read, stream_on_written};

/* --- downward */

void
stream_open(struct stream_probe *probe, int fd, enum core_stream_kind kind)
{
    probe->kind = kind;
    probe->fd = fd;
    probe->stream = NULL;
    CHECK_EQ(core->stream_open(loop, fd, kind, &stream_events, probe, &probe->stream), 0);
    CHECK(probe->stream != NULL);
    CHECK_EQ(core->stream_unsent(probe->stream), 0);
}

void
stream_read_start(struct stream_probe *probe)
{
    probe->is_reading = true;
    CHECK_EQ(core->stream_read_start(probe->stream), 0);
}

void
stream_read_stop(struct stream_probe *probe)
{
    probe->is_reading = false;
    core->stream_read_stop(probe->stream);
}

void
stream_close(struct stream_probe *probe)
{
    core->stream_close(probe->stream);
    CHECK(!fd_is_open(probe->fd));
    probe->stream = NULL;
    probe->is_reading = false;
    free(probe->offered);
    probe->offered = NULL;
    if (probes_unpaired == probe) {
        probes_unpaired = NULL;
    }
    stream_free_write(probe);
}

/* `pieces` iovecs over `bytes`: the first of them of a few bytes and empty ones among them, the last takes the rest. */
static struct iovec *
iovec_make(char *bytes, size_t length, unsigned pieces)
{
    struct iovec *iov = calloc(pieces + 1, sizeof *iov);
    size_t at = 0;
    CHECK(iov != NULL);
    for (unsigned i = 0; i < pieces; i++) {
        size_t size = i + 1 == pieces ? length - at : (length / pieces) / 2 + (i * 7) % 5;
        if (size > length - at) {
            size = length - at;
        }
        iov[i] = (struct iovec){bytes + at, size};
        at += size;
    }
    return iov;
}

static char *
pattern_make(struct stream_probe *probe, size_t length)
{
    char *bytes = malloc(length + 1);
    CHECK(bytes != NULL);
    pattern_fill(bytes, length, probe->key, probe->sent);
    return bytes;
}

int
stream_write(struct stream_probe *probe, size_t length, unsigned pieces)
{
    CHECK(!probe->is_writing);
    probe->write_bytes = pattern_make(probe, length);
    probe->write_iov = iovec_make(probe->write_bytes, length, pieces);
    probe->write_size = length;
    probe->is_writing = true;
    int status = core->stream_write(probe->stream, probe->write_iov, (int)pieces);
    if (status == 0) {
        probe->sent += length;
        CHECK(core->stream_unsent(probe->stream) <= length);
    }
    else {
        CHECK(status < 0);
        stream_free_write(probe);
    }
    return status;
}

ssize_t
stream_try_write(struct stream_probe *probe, size_t length, unsigned pieces)
{
    CHECK(!probe->is_writing);
    char *bytes = pattern_make(probe, length);
    struct iovec *iov = iovec_make(bytes, length, pieces);
    ssize_t count = core->stream_try_write(probe->stream, iov, (int)pieces);
    CHECK(count <= (ssize_t)length);
    CHECK_EQ(core->stream_unsent(probe->stream), 0);
    if (count > 0) {
        probe->sent += (size_t)count;
    }
    free(bytes);
    free(iov);
    return count;
}

/* A refusal may be made up by the scripted core, and TCP may still be moving bytes on: believe a row of them. */
size_t
stream_fill(struct stream_probe *probe)
{
    size_t start = probe->sent;
    for (unsigned refusals = 0; refusals < 15; refusals++) {
        ssize_t count = stream_try_write(probe, 64 * 1024, 1);
        if (count > 0) {
            refusals = 0;
        }
        else {
            CHECK_EQ(count, -EAGAIN);
            sleep_ns(MS / 2);
        }
    }
    return probe->sent - start;
}
