/* SPDX-License-Identifier: MIT
 *
 * load_echo.c - messages that come back as they are: DEPTH of them on their way in each connection, no two alike.
 *
 * The slots of a connection's messages, a ring, hold the messages that are out.  When the whole echo of one is there and has been compared,
 * the slot gets the next message.
 */
#include "load.h"

#include <errno.h>
#include <string.h>

static size_t
echo_ring_size(void)
{
    return options.size * options.depth;
}

static void
echo_queue(struct connection *connection, double now)
{
    uint64_t number = connection->queued / options.size;
    size_t slot = number % options.depth;
    memcpy(connection->messages + slot * options.size, &number,
           options.size < sizeof number ? options.size : sizeof number);
    connection->queued_at[slot] = now;
    connection->queued += options.size;
}

static void
echo_flush(struct connection *connection)
{
    while (connection->sent < connection->queued) {
        size_t at = connection->sent % echo_ring_size(), size = echo_ring_size() - at;
        if (size > connection->queued - connection->sent) {
            size = connection->queued - connection->sent;
        }
        ssize_t count = io_send(connection, connection->messages + at, options.is_datagram ? options.size : size);
        if (count < 0) {
            break;
        }
        connection->sent += (uint64_t)count;
    }
    bool has_more = connection->sent < connection->queued;
    io_want(connection, (unsigned)CORE_READABLE | (has_more ? (unsigned)CORE_WRITABLE : 0u));
}

static void
echo_compare(const struct connection *connection, const char *data, size_t size)
{
    if (size > connection->sent - connection->received) {
        fail(EXIT_WRONG, "more came back than was sent");
    }
    if (options.is_datagram && size != options.size) {
        fail(EXIT_WRONG, "a datagram came back with another size");
    }
    for (uint64_t offset = connection->received; size > 0;) {
        size_t at = offset % echo_ring_size(), part = echo_ring_size() - at;
        part = part < size ? part : size;
        if (memcmp(data, connection->messages + at, part) != 0) {
            fail(EXIT_WRONG, "an echo differs from its message");
        }
        data += part;
        offset += part;
        size -= part;
    }
}

/* A datagram that was sent again because its echo was late: the first echo has been counted. */
static bool
echo_is_second(const struct connection *connection, const char *data, size_t size)
{
    uint64_t number = 0;
    if (!options.is_datagram || size < sizeof number) {
        return false;
    }
    memcpy(&number, data, sizeof number);
    return number < connection->received / options.size;
}

static void
echo_receive(struct connection *connection)
{
    do {
        ssize_t count = io_receive(connection, scratch, sizeof scratch);
        if (count < 0 || echo_is_second(connection, scratch, (size_t)count)) {
            break;
        }
        echo_compare(connection, scratch, (size_t)count);
        uint64_t number = connection->received / options.size;
        connection->received += (uint64_t)count;
        double now = now_seconds();
        for (; number < connection->received / options.size; number++) {
            stats_add(connection, 1, now - connection->queued_at[number % options.depth]);
            echo_queue(connection, now);
        }
    } while (io_has_more(connection));
    echo_flush(connection);
}

static void
echo_start(struct connection *connection)
{
    connection->messages = need_memory(echo_ring_size());
    connection->queued_at = need_memory(options.depth * sizeof *connection->queued_at);
    for (size_t i = 0; i < echo_ring_size(); i++) {
        connection->messages[i] = (char)(connection->tag * 31 + i * 7);
    }
    for (size_t i = 0; i < options.depth; i++) {
        echo_queue(connection, now_seconds());
    }
    echo_flush(connection);
}

static void
echo_ready(struct connection *connection, unsigned ready)
{
    if (ready & CORE_READABLE) {
        echo_receive(connection);
    }
    else {
        echo_flush(connection);
    }
}

/* A datagram that got lost is sent again. */
static void
echo_every_second(struct connection *connection)
{
    if (options.is_datagram && now_seconds() - connection->queued_at[0] > 1) {
        connection->sent = connection->received;
        echo_flush(connection);
    }
}

const struct mode echo_mode = {
    .name = "echo",
    .start = echo_start,
    .ready = echo_ready,
    .every_second = echo_every_second,
};
