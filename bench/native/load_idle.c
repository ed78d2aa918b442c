/* SPDX-License-Identifier: MIT
 *
 * load_idle.c - what an idle connection of the server costs in memory that is its own (USS), after one echo in each.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* The first ones fill what the server allocates once. */
enum { FIRST_CONNECTIONS = 200, BATCH = 50 };

static double
server_private_bytes(void)
{
    char name[64], line[256];
    snprintf(name, sizeof name, "/proc/%ld/smaps_rollup", (long)options.server);
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        fail(EXIT_USAGE, "no %s to read the server's memory from", name);
    }
    double bytes = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        long kib = 0;
        if (sscanf(line, "Private_Clean: %ld", &kib) == 1 || sscanf(line, "Private_Dirty: %ld", &kib) == 1) {
            bytes += (double)kib * 1024;
        }
    }
    fclose(file);
    return bytes;
}

/* Open some connections, send a message in each, and only then look at the echoes: the server is not to wait. */
static void
idle_connect_batch(size_t count)
{
    struct connection batch[BATCH];
    char answer[64];
    for (size_t i = 0; i < count; i++) {
        batch[i] = (struct connection){0};
        io_open(&batch[i]);
        fcntl(batch[i].fd, F_SETFL, 0);
        if (send(batch[i].fd, pattern_at(i), sizeof answer, 0) != sizeof answer) {
            fail(EXIT_CLOSED, "send: %s", strerror(errno));
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (recv(batch[i].fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer) {
            fail(EXIT_CLOSED, "a connection got no echo");
        }
        pattern_compare(answer, sizeof answer, i);
    }
}

static void
idle_connect(size_t count)
{
    for (; count > BATCH; count -= BATCH) {
        idle_connect_batch(BATCH);
    }
    idle_connect_batch(count);
}

static void
idle_run(void)
{
    struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    idle_connect(FIRST_CONNECTIONS);
    nanosleep(&pause, NULL);
    double before = server_private_bytes(), cpu_start = server_cpu_seconds(), start = now_seconds();
    idle_connect(options.connections);
    double seconds = now_seconds() - start, cpu_seconds = server_cpu_seconds() - cpu_start;
    nanosleep(&pause, NULL);
    double cost = (server_private_bytes() - before) / (double)options.connections;
    printf("{\"operations\": %zu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"cost\": %.1f, \"unit\": \"B\"}\n",
           options.connections, seconds, cpu_seconds, cost);
}

const struct mode idle_mode = {.name = "idle", .run = idle_run};
