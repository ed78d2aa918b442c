/* SPDX-License-Identifier: MIT
 *
 * check.h - the harness of the C tests: CHECK, named tests in a table, one forked child for each.
 *
 * A test is a function that returns when all is well; CHECK ends its process when not. A crash, a hang (an alarm is
 * set) and a leak that a sanitizer finds at exit are each the failure of one test, and the others still run. Prints
 * TAP.
 */
#ifndef RLOOP_TESTS_CHECK_H
#define RLOOP_TESTS_CHECK_H

#include <stdbool.h>

struct check_test {
    const char *name;
    void (*run)(void);
};

/* One run of the program: counts, and what the command line chose. */
struct check_session {
    const char *only; /* run tests of this name alone; NULL: all */
    unsigned count;
    unsigned failed;
};

/* What surrounds each test inside its child; calls test->run() itself. */
typedef void (*check_wrapper)(const struct check_test *test, void *arg);

/* Run a table that ends with a NULL name.  `label` goes before each name. */
void check_run(struct check_session *session, const char *label, const struct check_test *tests, check_wrapper wrapper,
               void *arg);
/* Print the plan and return the exit code; to have run nothing is a failure. */
int check_finish(const struct check_session *session);

/* What the test is at (a kind of channel, a seed); printed with a failure. */
void check_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

_Noreturn void check_fail(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what, long long a, long long b);

#define CHECK(condition) ((condition) ? (void)0 : check_fail(__FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b) check_equal(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))

#endif
