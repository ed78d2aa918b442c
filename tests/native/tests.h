/* SPDX-License-Identifier: MIT
 *
 * tests.h - the tables of the contract suite, one or two for each file.
 */
#ifndef RLOOP_TESTS_TESTS_H
#define RLOOP_TESTS_TESTS_H

#include "check.h"

extern const struct check_test loop_tests[];           /* test_loop.c */
extern const struct check_test watch_tests[];          /* test_watch.c */
extern const struct check_test watch_callback_tests[]; /* test_watch_callback.c */
extern const struct check_test watch_reuse_tests[];    /* test_watch_reuse.c */
extern const struct check_test stream_tests[];         /* test_stream.c */
extern const struct check_test stream_close_tests[];   /* test_stream_close.c */
extern const struct check_test stream_write_tests[];   /* test_stream_write.c */
extern const struct check_test stream_error_tests[];   /* test_stream_error.c */
extern const struct check_test pipe_tests[];           /* test_pipe.c */
extern const struct check_test datagram_tests[];       /* test_datagram.c */
extern const struct check_test datagram_send_tests[];  /* test_datagram_send.c */
extern const struct check_test interrupt_tests[];      /* test_interrupt.c */
extern const struct check_test due_tests[];            /* test_due.c */
extern const struct check_test fork_tests[];           /* test_fork.c */
extern const struct check_test busy_poll_tests[];      /* test_busy_poll.c */
extern const struct check_test quiet_tests[];          /* test_quiet.c */
extern const struct check_test random_tests[];         /* test_random.c */
extern const struct check_test fault_tests[];          /* test_faults.c: on the scripted cores only */

#endif
