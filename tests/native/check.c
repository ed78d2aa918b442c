/* SPDX-License-Identifier: MIT
 *
 * The harness of the C tests; see check.h.
 */
#include "check.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* For one test; generous, as it also holds under a sanitizer on a busy machine. */
enum { TEST_SECONDS = 40 };

static char note[256];

void
check_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(note, sizeof note, format, args);
    va_end(args);
}

void
check_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "# %s:%d: %s%s%s\n", file, line, what, note[0] ? " -- " : "", note);
    _exit(1);
}

void
check_equal(const char *file, int line, const char *what, long long a, long long b)
{
    if (a != b) {
        fprintf(stderr, "# %lld is not %lld\n", a, b);
        check_fail(file, line, what);
    }
}

/* exit() and not _exit(): the leak checker of a sanitizer runs at exit and makes the exit code its own. */
static void
child_run(const struct check_test *test, check_wrapper wrapper, void *arg)
{
    alarm(TEST_SECONDS);
    wrapper(test, arg);
    exit(0);
}

static bool
child_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "# ended by signal %d%s\n", WTERMSIG(status), WTERMSIG(status) == SIGALRM ? " (hang)" : "");
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void
check_run(struct check_session *session, const char *label, const struct check_test *tests, check_wrapper wrapper,
          void *arg)
{
    for (const struct check_test *test = tests; test->name != NULL; test++) {
        if (session->only != NULL && strcmp(session->only, test->name) != 0) {
            continue;
        }
        fflush(stdout);
        fflush(stderr);
        pid_t pid = fork();
        if (pid == 0) {
            child_run(test, wrapper, arg);
        }
        bool is_passed = pid > 0 && child_wait(pid);
        session->count++;
        session->failed += !is_passed;
        printf("%s %u - %s%s\n", is_passed ? "ok" : "not ok", session->count, label, test->name);
    }
}

int
check_finish(const struct check_session *session)
{
    printf("1..%u\n", session->count);
    fflush(stdout);
    if (session->failed > 0) {
        fprintf(stderr, "# %u of %u failed\n", session->failed, session->count);
    }
    return session->failed > 0 || session->count == 0;
}
