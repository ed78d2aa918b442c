/* SPDX-License-Identifier: MIT
 *
 * load_answer.c - a small request, and an answer that is known: SIZE bytes of the pattern, bare or as the body of an HTTP answer.
 *
 * `received` counts the bytes of the answer under way, `queued_at` is when it was asked for.
 */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_MAX = 8192 };

static const char http_request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";

static void
answer_ask(struct connection *connection, const char *request, size_t size)
{
    connection->received = 0;
    *connection->queued_at = now_seconds();
    for (size_t sent = 0; sent < size;) {
        ssize_t count = io_send(connection, request + sent, size - sent);
        sent += count > 0 ? (size_t)count : 0; /* small; there is room */
    }
    io_want(connection, CORE_READABLE);
}

static void
answer_start(struct connection *connection)
{
    connection->queued_at = need_memory(sizeof *connection->queued_at);
    answer_ask(connection, pattern_at(0), options.request_size);
}

static void
answer_ready(struct connection *connection, unsigned ready)
{
    (void)ready;
    ssize_t count = io_receive(connection, scratch, sizeof scratch);
    if (count < 0) {
        return;
    }
    if ((size_t)count > options.size - connection->received) {
        fail(EXIT_WRONG, "the answer is too long");
    }
    pattern_compare(scratch, (size_t)count, connection->received);
    connection->received += (uint64_t)count;
    if (connection->received == options.size) {
        stats_add(connection, (double)options.depth, now_seconds() - *connection->queued_at); /* the answer's parts */
        answer_ask(connection, pattern_at(0), options.request_size);
    }
}

static void
http_start(struct connection *connection)
{
    connection->queued_at = need_memory(sizeof *connection->queued_at);
    connection->messages = need_memory(HEAD_MAX + options.size);
    answer_ask(connection, http_request, sizeof http_request - 1);
}

/* The value of a header in a head that ends with an empty line, or NULL. */
static char *
http_header(char *head, const char *end, const char *name)
{
    for (char *line = head; line < end; line = memchr(line, '\n', (size_t)(end - line)) + 1) {
        if (strncasecmp(line, name, strlen(name)) == 0) {
            return line + strlen(name);
        }
    }
    return NULL;
}

/* All heads must be the same, but for the time of day. */
static void
http_compare_head(char *head, size_t size)
{
    static char first[HEAD_MAX];
    static size_t first_size;
    char *date = http_header(head, head + size, "date:");
    while (date != NULL && *date != '\r') {
        *date++ = ' ';
    }
    if (first_size == 0) {
        char *length = http_header(head, head + size, "content-length:");
        if (strncmp(head, "HTTP/1.1 200 ", 13) != 0 || length == NULL || (size_t)atol(length) != options.size) {
            fail(EXIT_WRONG, "the answer's head is not that of 200 with %zu bytes", options.size);
        }
        memcpy(first, head, size);
        first_size = size;
    }
    if (size != first_size || memcmp(head, first, size) != 0) {
        fail(EXIT_WRONG, "the answer's head differs from the first");
    }
}

static void
http_ready(struct connection *connection, unsigned ready)
{
    (void)ready;
    char *answer = connection->messages;
    ssize_t count = io_receive(connection, answer + connection->received,
                               HEAD_MAX + options.size - connection->received);
    if (count < 0) {
        return;
    }
    connection->received += (uint64_t)count;
    char *end = memmem(answer, connection->received, "\r\n\r\n", 4);
    if (end == NULL || connection->received < (size_t)(end + 4 - answer) + options.size) {
        if (connection->received == HEAD_MAX + options.size) {
            fail(EXIT_WRONG, "the answer is too long");
        }
        return;
    }
    size_t head_size = (size_t)(end + 4 - answer);
    if (head_size > HEAD_MAX || connection->received != head_size + options.size) {
        fail(EXIT_WRONG, "the answer is too long");
    }
    http_compare_head(answer, head_size);
    for (size_t offset = 0; offset < options.size; offset += SCRATCH_SIZE) {
        size_t left = options.size - offset;
        pattern_compare(answer + head_size + offset, left < SCRATCH_SIZE ? left : SCRATCH_SIZE, offset);
    }
    stats_add(connection, 1, now_seconds() - *connection->queued_at);
    answer_ask(connection, http_request, sizeof http_request - 1);
}

const struct mode answer_mode = {.name = "answer", .start = answer_start, .ready = answer_ready};
const struct mode http_mode = {.name = "http", .start = http_start, .ready = http_ready};
