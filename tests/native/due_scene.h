/* SPDX-License-Identifier: MIT
 *
 * due_scene.h - one object of each kind, each with something due, for the tests that need a poll full of events.
 */
#ifndef RLOOP_TESTS_DUE_SCENE_H
#define RLOOP_TESTS_DUE_SCENE_H

#include "datagram_sockets.h"
#include "probes.h"

enum { DUE_STREAMS = 6 };

struct due_scene {
    struct watch_probe watch;
    struct stream_probe reader; /* bytes and an end of file */
    struct stream_probe reset;
    struct stream_probe writer;
    struct stream_probe both;                  /* bytes and a completion */
    struct stream_probe pipe;                  /* whose reader has left */
    struct stream_probe null;                  /* a write to /dev/null */
    struct stream_probe *streams[DUE_STREAMS]; /* those above */
    struct datagram_probe receiver, sender;
    int raw[7];
};

/* What becomes due, all in all, member by member; more when the scripted core cuts a read in two. */
enum { DUE_CALLS = 1 + 2 + 1 + 1 + 2 + 1 + 1 + 2 + 1 };

/* Every callback calls this, if it is set, after it counted itself in due_calls; a read of -EAGAIN does not. */
extern void (*due_in_callback)(void *owner);
extern unsigned due_calls;

void due_scene_open(struct due_scene *scene);
bool due_scene_is_complete(const struct due_scene *scene);
/* Close what is left, and the raw ends. */
void due_scene_close(struct due_scene *scene);
void due_scene_close_raw(struct due_scene *scene);

#endif
