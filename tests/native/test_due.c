/* SPDX-License-Identifier: MIT
 *
 * A poll full of events, and something that takes them away before they are delivered (rules 1 and 8 of core.h): a
 * callback that closes everything, or an interrupted poll after which objects are closed, stopped or destroyed.
 */
#include "due_scene.h"
#include "tests.h"

#include <string.h>

static struct due_scene scene;

/* --- a callback closes everything */

static const void *closer; /* whose callback it is */

static void
close_everything(void *owner)
{
    if (owner == closer) {
        closer = NULL;
        due_scene_close(&scene);
    }
}

/* Each has its turn, however late its event comes in the poll; the fixture and the probes fail at any callback later
 * on. */
static void
test_a_callback_closes_everything(void)
{
    for (int i = 0; i < DUE_STREAMS + 3; i++) {
        check_note("object %d", i);
        due_in_callback = close_everything;
        due_scene_open(&scene);
        const void *others[] = {&scene.watch, &scene.receiver, &scene.sender};
        closer = i < DUE_STREAMS ? (const void *)scene.streams[i] : others[i - DUE_STREAMS];
        POLL_UNTIL(closer == NULL);
        check_is_idle();
    }
}

/* --- an interrupted poll: everything is due, and nothing has been delivered */

static unsigned interrupts;

static void
interrupt_in_callback(void *owner)
{
    (void)owner;
    if (interrupts > 0) {
        interrupts--;
        core->loop_interrupt(loop);
    }
}

static void
interrupt_in_first_delivery(void)
{
    interrupt_in_callback(NULL);
}

/* Everything becomes due; the poll is interrupted before anything is delivered, or in the first callback. */
static void
open_and_interrupt(bool is_in_callback)
{
    interrupts = 1;
    fixture_hooks.in_first_delivery = is_in_callback ? NULL : interrupt_in_first_delivery;
    due_in_callback = interrupt_in_callback;
    due_calls = 0;
    due_scene_open(&scene);
    sleep_ns(2 * MS);
    while (interrupts > 0) {
        poll_once(-1);
    }
    CHECK_EQ(due_calls, is_in_callback);
}

static void
test_closed_while_due(void)
{
    for (int is_in_callback = 0; is_in_callback < 2; is_in_callback++) {
        open_and_interrupt(is_in_callback);
        due_scene_close(&scene);
        check_is_idle();
        CHECK_EQ(due_calls, is_in_callback);
    }
}

static void
test_destroyed_while_due(void)
{
    for (int is_in_callback = 0; is_in_callback < 2; is_in_callback++) {
        unsigned fds = fd_count();
        open_and_interrupt(is_in_callback);
        core->loop_destroy(loop);
        for (int i = 0; i < DUE_STREAMS; i++) {
            stream_free_write(scene.streams[i]);
        }
        datagram_free_send(&scene.sender);
        due_scene_close_raw(&scene);
        loop = fixture_loop_create();
        CHECK_EQ(fd_count(), fds);
    }
}

static void
scene_stop(void)
{
    for (int i = 0; i < DUE_STREAMS; i++) {
        stream_read_stop(scene.streams[i]);
    }
    watch_set(&scene.watch, 0);
    datagram_recv_stop(&scene.receiver);
}

static void
scene_start(void)
{
    struct stream_probe *readers[] = {&scene.reader, &scene.reset, &scene.both, &scene.pipe};
    for (int i = 0; i < 4; i++) {
        if (!readers[i]->has_eof && readers[i]->read_error == 0) {
            stream_read_start(readers[i]);
        }
    }
    watch_set(&scene.watch, CORE_READABLE);
    datagram_recv_start(&scene.receiver);
}

/* What was due to those that have stopped since is not delivered, and is not lost either. */
static void
test_stopped_while_due(void)
{
    for (int is_in_callback = 0; is_in_callback < 2; is_in_callback++) {
        open_and_interrupt(is_in_callback);
        scene_stop();
        unsigned before = scene.watch.calls + scene.receiver.received;
        for (int i = 0; i < DUE_STREAMS; i++) {
            before += scene.streams[i]->reads;
        }
        POLL_UNTIL(scene.writer.writes == 1 && scene.both.writes == 1 && scene.null.writes == 1 &&
                   scene.sender.sends == 1);
        check_is_idle();
        unsigned after = scene.watch.calls + scene.receiver.received;
        for (int i = 0; i < DUE_STREAMS; i++) {
            after += scene.streams[i]->reads;
        }
        CHECK_EQ(after, before);
        scene_start();
        POLL_UNTIL(due_scene_is_complete(&scene));
        due_scene_close(&scene);
    }
}

const struct check_test due_tests[] = {
    {"due_a_callback_closes_everything", test_a_callback_closes_everything},
    {"due_closed_while_due", test_closed_while_due},
    {"due_destroyed_while_due", test_destroyed_while_due},
    {"due_stopped_while_due", test_stopped_while_due},
    {NULL, NULL},
};
