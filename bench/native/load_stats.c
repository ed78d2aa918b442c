/* SPDX-License-Identifier: MIT
 *
 * load_stats.c - the clocks, and the count of answers and their latencies.
 */
#include "load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SAMPLES_MAX = 4 * 1000 * 1000 };

static float latencies_us[SAMPLES_MAX];
static size_t samples;
static double operations;
static size_t answered_connections;

static double
clock_seconds(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0) {
        return NAN;
    }
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double
now_seconds(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* NaN where the system has no such clock (macOS). */
double
server_cpu_seconds(void)
{
#ifndef __APPLE__
    clockid_t clock;
    if (options.server > 0 && clock_getcpuclockid(options.server, &clock) == 0) {
        return clock_seconds(clock);
    }
#endif
    return NAN;
}

void
stats_add(struct connection *connection, double count, double latency_seconds)
{
    operations += count;
    if (count > 0 && !connection->was_answered) {
        connection->was_answered = true;
        answered_connections++;
    }
    if (latency_seconds >= 0 && samples < SAMPLES_MAX) {
        latencies_us[samples++] = (float)(latency_seconds * 1e6);
    }
}

void
stats_reset(void)
{
    samples = 0;
    operations = 0;
}

double
stats_operations(void)
{
    return operations;
}

size_t
stats_connections(void)
{
    return answered_connections;
}

static int
compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double
client_cpu_seconds(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

void
stats_print(double seconds, double cpu_seconds, double own_cpu_seconds)
{
    if (operations <= 0) {
        fail(EXIT_HANGS, "no answer came");
    }
    printf("{\"operations\": %.3f, \"seconds\": %.6f, \"client_cpu_seconds\": %.6f", operations, seconds,
           own_cpu_seconds);
    if (!isnan(cpu_seconds)) {
        printf(", \"cpu_seconds\": %.6f", cpu_seconds);
    }
    if (samples > 0) {
        qsort(latencies_us, samples, sizeof *latencies_us, compare_floats);
        printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", (double)latencies_us[samples / 2],
               (double)latencies_us[samples - 1 - samples / 100]);
    }
    puts("}");
}
