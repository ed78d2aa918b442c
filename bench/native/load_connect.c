/* SPDX-License-Identifier: MIT
 *
 * load_connect.c - connect, send one message, compare its echo, close, and again: what a connection costs, or a handshake.
 */
#include "load.h"

#include <errno.h>
#include <string.h>

static void
connect_flush(struct connection *connection)
{
    while (connection->sent < options.size) {
        ssize_t count = io_send(connection, connection->messages + connection->sent, options.size - connection->sent);
        if (count < 0) {
            break;
        }
        connection->sent += (uint64_t)count;
    }
    bool has_more = connection->sent < options.size;
    io_want(connection, (unsigned)CORE_READABLE | (has_more ? (unsigned)CORE_WRITABLE : 0u));
}

static void
connect_begin(struct connection *connection)
{
    connection->sent = connection->received = 0;
    connection->queued++;
    memcpy(connection->messages, &connection->queued,
           options.size < sizeof connection->queued ? options.size : sizeof connection->queued);
    connect_flush(connection);
}

static void
connect_start(struct connection *connection)
{
    connection->messages = need_memory(options.size);
    connection->queued_at = need_memory(sizeof *connection->queued_at);
    memcpy(connection->messages, pattern_at(connection->tag), options.size);
    *connection->queued_at = now_seconds();
    connect_begin(connection);
}

static void
connect_again(struct connection *connection)
{
    double now = now_seconds();
    stats_add(connection, 1, now - *connection->queued_at);
    *connection->queued_at = now;
    io_close(connection);
    io_open(connection);
    connect_begin(connection);
}

static void
connect_receive(struct connection *connection)
{
    ssize_t count = io_receive(connection, scratch, sizeof scratch);
    if (count < 0) {
        return;
    }
    if ((uint64_t)count > connection->sent - connection->received ||
        memcmp(scratch, connection->messages + connection->received, (size_t)count) != 0)
    {
        fail(EXIT_WRONG, "an echo differs from its message");
    }
    connection->received += (uint64_t)count;
}

static void
connect_ready(struct connection *connection, unsigned ready)
{
    if (ready & CORE_READABLE) {
        do {
            connect_receive(connection);
        } while (io_has_more(connection) && connection->received < options.size);
        if (connection->received == options.size) {
            connect_again(connection);
            return;
        }
    }
    connect_flush(connection);
}

const struct mode connect_mode = {.name = "connect", .start = connect_start, .ready = connect_ready};
