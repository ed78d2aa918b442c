/* SPDX-License-Identifier: MIT
 *
 * flow_control.h - the two limits of a write buffer, and whether the protocol has been told to pause.
 *
 * The same arithmetic and errors as asyncio.transports._FlowControlMixin.  Limits are kept as sizes; what is larger
 * than any size (an infinite float too) is the largest.
 */
#ifndef RLOOP_FLOW_CONTROL_H
#define RLOOP_FLOW_CONTROL_H

#include "module.h"

enum { FLOW_CONTROL_HIGH_BYTES = 64 * 1024, FLOW_CONTROL_LOW_BYTES = FLOW_CONTROL_HIGH_BYTES / 4 };

struct flow_control {
    size_t high_bytes;
    size_t low_bytes;
    bool is_paused;
};

static inline void
flow_control_init(struct flow_control *flow)
{
    *flow = (struct flow_control){FLOW_CONTROL_HIGH_BYTES, FLOW_CONTROL_LOW_BYTES, false};
}

static inline bool
flow_control_must_pause(const struct flow_control *flow, size_t size)
{
    return size > flow->high_bytes && !flow->is_paused;
}

static inline bool
flow_control_may_resume(const struct flow_control *flow, size_t size)
{
    return flow->is_paused && size <= flow->low_bytes;
}

/* None means asyncio's default.  0, or -1 with asyncio's ValueError (or the TypeError of what is not a number). */
int flow_control_set_limits(struct flow_control *flow, PyObject *high, PyObject *low);
/* floor(number), saturated: sizes are whole, so that it compares as the number itself does. */
int flow_control_size(PyObject *number, size_t *size);
PyObject *flow_control_get_limits(const struct flow_control *flow); /* (low, high) */

#endif
