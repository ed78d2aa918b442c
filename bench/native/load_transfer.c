/* SPDX-License-Identifier: MIT
 *
 * load_transfer.c - bytes in one direction, as fast as they go; an operation is a MiB.
 *
 * Upload: the server sends one byte for each SIZE bytes that it has received; only these count.  Download: one byte asks,
 * then the server sends the pattern without end.
 */
#include "load.h"

#include <errno.h>

static const double MIB = 1024 * 1024;

static void
upload_start(struct connection *connection)
{
    io_want(connection, (unsigned)CORE_READABLE | (unsigned)CORE_WRITABLE);
}

static void
upload_ready(struct connection *connection, unsigned ready)
{
    if (ready & CORE_READABLE) {
        ssize_t count = io_receive(connection, scratch, sizeof scratch);
        connection->received += count > 0 ? (uint64_t)count : 0;
        if (connection->received * options.size > connection->sent) {
            fail(EXIT_WRONG, "the server counts more than was sent");
        }
        stats_add(connection, count > 0 ? (double)count * (double)options.size / MIB : 0, -1);
    }
    if (ready & CORE_WRITABLE) {
        ssize_t count = io_send(connection, pattern_at(connection->sent), SCRATCH_SIZE);
        connection->sent += count > 0 ? (uint64_t)count : 0;
    }
}

static void
download_start(struct connection *connection)
{
    io_send(connection, "g", 1);
    io_want(connection, CORE_READABLE);
}

static void
download_ready(struct connection *connection, unsigned ready)
{
    (void)ready;
    ssize_t count = io_receive(connection, scratch, sizeof scratch);
    if (count > 0) {
        pattern_compare(scratch, (size_t)count, connection->received);
        connection->received += (uint64_t)count;
        stats_add(connection, (double)count / MIB, -1);
    }
}

const struct mode upload_mode = {.name = "upload", .start = upload_start, .ready = upload_ready};
const struct mode download_mode = {.name = "download", .start = download_start, .ready = download_ready};
