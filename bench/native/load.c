/* SPDX-License-Identifier: MIT
 *
 * load.c - the load client's options and its one loop: warm up, count, print one line of JSON.
 *
 *     load MODE (--tcp PORT | --udp PORT | --unix PATH) [--tls] [--connections N] [--idle N] [--size BYTES] [--depth N]
 *          [--request BYTES] [--warmup SECONDS] [--seconds SECONDS] [--operations N] [--reset] [--pid SERVER] [--cpu CORE]
 *
 * The server's CPU clock (--pid) is read at the same two moments as the time.
 */
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#ifdef __linux__
#include <sched.h>
#endif

static const double PATIENCE_SECONDS = 5;

static const struct mode *const modes[] = {
    &echo_mode, &connect_mode, &answer_mode, &http_mode, &upload_mode, &download_mode, &idle_mode,
};

struct options options = {.connections = 1, .size = 1024, .depth = 1, .request_size = 8, .cpu = -1};
char scratch[SCRATCH_SIZE];

static struct connection *connections;

_Noreturn void
fail(int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(exit_code);
}

void *
need_memory(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fail(EXIT_USAGE, "out of memory");
    }
    return memory;
}

static void
stay_on_core(int core)
{
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)core, &set);
    sched_setaffinity(0, sizeof set, &set);
#else
    (void)core;
#endif
}

static void
allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const struct mode *
find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i]->name, name) == 0) {
            return modes[i];
        }
    }
    fail(EXIT_USAGE, "there is no mode \"%s\"", name);
}

static void
parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"tcp", required_argument, NULL, 't'},
        {"udp", required_argument, NULL, 'u'},
        {"unix", required_argument, NULL, 'x'},
        {"tls", no_argument, NULL, 'T'},
        {"connections", required_argument, NULL, 'n'},
        {"idle", required_argument, NULL, 'i'},
        {"size", required_argument, NULL, 's'},
        {"depth", required_argument, NULL, 'd'},
        {"request", required_argument, NULL, 'r'},
        {"warmup", required_argument, NULL, 'w'},
        {"seconds", required_argument, NULL, 'S'},
        {"pid", required_argument, NULL, 'p'},
        {"cpu", required_argument, NULL, 'c'},
        {"operations", required_argument, NULL, 'o'},
        {"reset", no_argument, NULL, 'R'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'u':
            options.is_datagram = true;
            options.port = atoi(optarg);
            break;
        case 't':
            options.port = atoi(optarg);
            break;
        case 'x':
            options.unix_path = optarg;
            break;
        case 'T':
            options.is_tls = true;
            break;
        case 'n':
            options.connections = (size_t)atol(optarg);
            break;
        case 'i':
            options.idle = (size_t)atol(optarg);
            break;
        case 's':
            options.size = (size_t)atol(optarg);
            break;
        case 'd':
            options.depth = (size_t)atol(optarg);
            break;
        case 'r':
            options.request_size = (size_t)atol(optarg);
            break;
        case 'w':
            options.warmup = atof(optarg);
            break;
        case 'S':
            options.seconds = atof(optarg);
            break;
        case 'o':
            options.operations = atof(optarg);
            break;
        case 'R':
            options.is_reset = true;
            break;
        case 'p':
            options.server = (pid_t)atol(optarg);
            break;
        case 'c':
            options.cpu = atoi(optarg);
            break;
        default:
            exit(EXIT_USAGE);
        }
    }
    if (options.size < 1 || options.depth < 1 || options.connections < 1) {
        fail(EXIT_USAGE, "--size, --depth and --connections are at least 1");
    }
}

static void
look_after(const struct mode *mode)
{
    for (size_t i = 0; mode->every_second != NULL && i < options.connections; i++) {
        mode->every_second(&connections[i]);
    }
}

static bool
is_over(double now, double end)
{
    return now >= end || (options.operations > 0 && stats_operations() >= options.operations);
}

/* A warm-up lasts until every connection has had an answer: connecting and handshakes are not what is measured. */
static void
run_until(const struct mode *mode, double end, bool is_warmup)
{
    struct mio_event events[MIO_EVENTS_MAX];
    double now = now_seconds(), progress_at = now, looked_at = now, before = stats_operations();
    while (is_warmup ? now < end || stats_connections() < options.connections : !is_over(now, end)) {
        int count = mio_poller_wait(io_poller(), 100 * 1000 * 1000, events);
        if (count < 0 && count != -EINTR) {
            fail(EXIT_USAGE, "poll: %s", strerror(-count));
        }
        for (int i = 0; i < count; i++) {
            mode->ready(&connections[events[i].tag - 1], events[i].ready);
        }
        now = now_seconds();
        if (stats_operations() > before) {
            before = stats_operations();
            progress_at = now;
        }
        else if (now - progress_at > PATIENCE_SECONDS) {
            fail(EXIT_HANGS, "no answer for %.0f seconds", PATIENCE_SECONDS);
        }
        if (now - looked_at > 1) {
            looked_at = now;
            look_after(mode);
        }
    }
}

static void
run_mode(const struct mode *mode)
{
    connections = need_memory((options.connections + options.idle) * sizeof *connections);
    for (size_t i = 0; i < options.connections + options.idle; i++) {
        connections[i].tag = (uint32_t)i + 1;
        io_open(&connections[i]);
    }
    for (size_t i = 0; i < options.connections; i++) {
        mode->start(&connections[i]);
    }
    run_until(mode, now_seconds() + options.warmup, true);
    stats_reset();
    double cpu_start = server_cpu_seconds(), own_cpu_start = client_cpu_seconds(), start = now_seconds();
    run_until(mode, start + options.seconds, false);
    double seconds = now_seconds() - start;
    stats_print(seconds, server_cpu_seconds() - cpu_start, client_cpu_seconds() - own_cpu_start);
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        fail(EXIT_USAGE, "usage: load MODE --tcp PORT ...");
    }
    const struct mode *mode = find_mode(argv[1]);
    parse_options(argc - 1, argv + 1);
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    if (options.cpu >= 0) {
        stay_on_core(options.cpu);
    }
    if (mode->run != NULL) {
        mode->run();
    }
    else {
        run_mode(mode);
    }
    return 0;
}
