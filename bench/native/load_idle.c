/* SPDX-License-Identifier: MIT
 *
 * load_idle.c - what an idle connection of the server costs in memory that is its own (USS), after one echo in each.
 */
#include "load.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { FIRST_CONNECTIONS = 200 }; /* they fill what the server allocates once */

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

static void
idle_connect(size_t count)
{
    char answer[64], message[sizeof answer];
    for (size_t i = 0; i < count; i++) {
        struct connection connection = {0};
        io_open(&connection);
        fcntl(connection.fd, F_SETFL, 0);
        memcpy(message, pattern_at(i), sizeof message);
        if (send(connection.fd, message, sizeof message, 0) != sizeof message ||
            recv(connection.fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer)
        {
            fail(EXIT_CLOSED, "connection %zu got no echo", i + 1);
        }
        if (memcmp(answer, message, sizeof answer) != 0) {
            fail(EXIT_WRONG, "an echo differs from its message");
        }
    }
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
