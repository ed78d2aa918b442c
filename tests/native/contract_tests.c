/* SPDX-License-Identifier: MIT
 *
 * The tests of csrc/core.h's contract: one suite for every core.
 *
 *   contract_tests [--core NAME]... [--test NAME]
 *
 * Cores: mio, uv, and the scripted ones of scripted_core.h; all of them when none is named. `meson test` runs each as a
 * test of its own. Under a debugger: --core mio --test NAME, with `set follow-fork-mode child`.
 */
#include "check.h"
#include "fixture.h"
#include "tests.h"

#include <stdio.h>
#include <string.h>

enum { CORES_MAX = 8 };

static const char *const all_cores[] = {
    "mio", "uv", "scripted", "scripted-reversed", "scripted-shuffled", "scripted-faults",
};

static const struct check_test *const tables[] = {
    loop_tests,   watch_tests,        watch_callback_tests, watch_reuse_tests,
    stream_tests, stream_close_tests, stream_write_tests,   stream_error_tests,
    pipe_tests,   datagram_tests,     datagram_send_tests,  interrupt_tests,
    due_tests,    fork_tests,         busy_poll_tests,      quiet_tests,
    random_tests,
};

static void
run_core(struct check_session *session, const char *name)
{
    struct fixture_core chosen = fixture_core_by_name(name);
    char label[64];
    snprintf(label, sizeof label, "%s: ", name);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        check_run(session, label, tables[i], fixture_run, (void *)name);
    }
    if (chosen.is_scripted) {
        check_run(session, label, fault_tests, fixture_run, (void *)name);
    }
}

int
main(int argc, char **argv)
{
    struct check_session session = {0};
    const char *cores[CORES_MAX];
    size_t count = 0;
    for (int i = 1; i < argc; i += 2) {
        bool is_core = strcmp(argv[i], "--core") == 0;
        if (i + 1 == argc || count == CORES_MAX || (!is_core && strcmp(argv[i], "--test") != 0)) {
            fprintf(stderr, "usage: %s [--core NAME]... [--test NAME]\n", argv[0]);
            return 2;
        }
        if (!is_core) {
            session.only = argv[i + 1];
        }
        else if (fixture_core_by_name(cores[count++] = argv[i + 1]).ops == NULL) {
            fprintf(stderr, "no core is named %s\n", argv[i + 1]);
            return 2;
        }
    }
    if (count == 0) {
        count = sizeof all_cores / sizeof all_cores[0];
        memcpy(cores, all_cores, sizeof all_cores);
    }
    for (size_t i = 0; i < count; i++) {
        run_core(&session, cores[i]);
    }
    return check_finish(&session);
}
