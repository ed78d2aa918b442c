/* SPDX-License-Identifier: MIT
 *
 * scripted_names.h - the second compilation of csrc/readiness_*.c, for the scripted core, under names of its own.
 *
 * The cores have these objects already; without other names the linker would give the tests one of the two. To be
 * included before readiness.h.
 */
#ifndef RLOOP_TESTS_SCRIPTED_NAMES_H
#define RLOOP_TESTS_SCRIPTED_NAMES_H

#define readiness_stream_open scripted_readiness_stream_open
#define readiness_stream_read_start scripted_readiness_stream_read_start
#define readiness_stream_read_stop scripted_readiness_stream_read_stop
#define readiness_stream_try_write scripted_readiness_stream_try_write
#define readiness_stream_write scripted_readiness_stream_write
#define readiness_stream_unsent scripted_readiness_stream_unsent
#define readiness_stream_shutdown scripted_readiness_stream_shutdown
#define readiness_stream_close scripted_readiness_stream_close
#define readiness_datagram_open scripted_readiness_datagram_open
#define readiness_datagram_recv_start scripted_readiness_datagram_recv_start
#define readiness_datagram_recv_stop scripted_readiness_datagram_recv_stop
#define readiness_datagram_try_send scripted_readiness_datagram_try_send
#define readiness_datagram_send scripted_readiness_datagram_send
#define readiness_datagram_close scripted_readiness_datagram_close

#endif
