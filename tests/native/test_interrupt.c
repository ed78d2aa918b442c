/* SPDX-License-Identifier: MIT
 *
 * loop_interrupt in every kind of callback (rule 8 of core.h). That nothing more is delivered in the poll is checked by
 * the fixture, always; that nothing is lost is checked here.
 */
#include "due_scene.h"
#include "tests.h"

#include <unistd.h>

/* Callbacks that counted; a read of -EAGAIN does not. */
static unsigned calls;

static void
interrupt(void)
{
    calls++;
    core->loop_interrupt(loop);
}

static void
interrupt_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)probe;
    (void)result;
    interrupt();
}

static void
interrupt_in_callback(void *owner)
{
    (void)owner;
    core->loop_interrupt(loop);
}

/* One callback in each poll, and each poll that could wait for ever finds one. */
static void
test_one_callback_for_each_poll(void)
{
    struct due_scene scene;
    due_in_callback = interrupt_in_callback;
    due_scene_open(&scene);
    for (unsigned polls = 1; !due_scene_is_complete(&scene); polls++) {
        poll_once(-1);
        CHECK(due_calls <= polls);
        CHECK(polls <= 3 * DUE_CALLS || fixture_core.is_faulty);
    }
    check_is_idle();
    CHECK(due_scene_is_complete(&scene));
    due_scene_close(&scene);
}

/* The same without waiting: what was due comes with the next poll, not with the kernel's next word. */
static void
test_one_callback_for_each_poll_of_zero(void)
{
    struct due_scene scene;
    due_in_callback = interrupt_in_callback;
    due_scene_open(&scene);
    sleep_ns(2 * MS);
    for (unsigned polls = 1; !due_scene_is_complete(&scene); polls++) {
        poll_once(0);
        CHECK(polls <= 3 * DUE_CALLS || fixture_core.is_faulty);
    }
    due_scene_close(&scene);
}

static unsigned first_deliveries_to_interrupt;

static void
interrupt_in_first_delivery(void)
{
    if (first_deliveries_to_interrupt > 0) {
        first_deliveries_to_interrupt--;
        core->loop_interrupt(loop);
    }
}

static void
test_interrupt_before_the_first_delivery(void)
{
    struct due_scene scene;
    due_in_callback = interrupt_in_callback;
    due_scene_open(&scene);
    fixture_hooks.in_first_delivery = interrupt_in_first_delivery;
    first_deliveries_to_interrupt = 3;
    for (int i = 0; i < 3; i++) {
        poll_once(-1); /* the fixture fails at any callback */
    }
    CHECK_EQ(due_calls, 0);
    CHECK_EQ(first_deliveries_to_interrupt, 0);
    for (unsigned polls = 1; !due_scene_is_complete(&scene); polls++) {
        first_deliveries_to_interrupt = polls % 2;
        poll_once(-1);
        CHECK(polls <= 6 * DUE_CALLS || fixture_core.is_faulty);
    }
    due_scene_close(&scene);
}

/* The first callback interrupts; what follows comes with the next poll, all of it. */
static void
test_the_rest_comes_with_the_next_poll(void)
{
    enum { PAIRS = 5 };
    int fds[PAIRS][2];
    struct stream_probe probes[PAIRS] = {0};
    for (int i = 0; i < PAIRS; i++) {
        struct raw_end raw = {0};
        tcp_pair(fds[i]);
        raw.fd = fds[i][1];
        probes[i].buffer_size = 100;
        probes[i].in_read = interrupt_in_read;
        stream_open(&probes[i], fds[i][0], CORE_STREAM_SOCKET);
        stream_read_start(&probes[i]);
        CHECK_EQ(raw_write(&raw, 50), 50);
    }
    sleep_ns(2 * MS);
    while (calls == 0) {
        poll_once(-1);
    }
    CHECK_EQ(calls, 1);
    for (int i = 0; i < PAIRS; i++) {
        probes[i].in_read = NULL;
    }
    poll_once(0);
    size_t received = 0;
    for (int i = 0; i < PAIRS; i++) {
        received += probes[i].received;
        stream_close(&probes[i]);
        close(fds[i][1]);
    }
    CHECK(received == PAIRS * 50 || fixture_core.is_faulty);
}

/* As a get_buffer does that raises KeyboardInterrupt. */
static void
interrupt_in_buffer(struct stream_probe *probe)
{
    if (probe->budget > 0) {
        probe->budget--;
        core->loop_interrupt(loop);
    }
    probe->buffer_size = probe->budget > 0 ? 0 : 100;
}

static void
test_interrupt_in_on_buffer(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.budget = 3, .in_buffer = interrupt_in_buffer};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        close(writer);
        for (unsigned i = 1; i <= 3; i++) {
            poll_once(-1);
            CHECK_EQ(probe.buffers, i);
            CHECK_EQ(probe.reads, 0);
        }
        POLL_UNTIL(probe.has_eof);
        CHECK_EQ(probe.received, 1000);
        stream_close(&probe);
    }
}

static void
interrupt_and_offer(struct stream_probe *probe)
{
    (void)probe;
    core->loop_interrupt(loop);
}

static void
test_interrupt_in_an_on_buffer_that_offers(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 100, .in_buffer = interrupt_and_offer};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 1000), 1000);
        close(writer);
        while (!probe.has_eof) {
            unsigned buffers = probe.buffers;
            poll_once(-1);
            CHECK(probe.buffers <= buffers + 1);
        }
        CHECK_EQ(probe.received, 1000);
        stream_close(&probe);
    }
}

/* Many reads, each of them interrupting: byte-exact, and the end of file is not lost. */
static void
test_interrupt_in_every_read(void)
{
    int reader, writer;
    FOR_EACH_CHANNEL(channel, reader, writer) {
        struct stream_probe probe = {.buffer_size = 33, .in_read = interrupt_in_read};
        struct raw_end raw = {.fd = writer};
        stream_open(&probe, reader, channel_read_kind(channel));
        stream_read_start(&probe);
        CHECK_EQ(raw_write(&raw, 3000), 3000);
        close(writer);
        while (!probe.has_eof) {
            poll_once(-1);
        }
        CHECK_EQ(probe.received, 3000);
        stream_close(&probe);
    }
}

/* Interrupted and closed in one callback. */
static void
interrupt_and_close_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    interrupt();
    stream_close(probe);
}

static void
test_interrupt_and_close(void)
{
    int fds[2][2];
    struct stream_probe probes[2] = {0};
    for (int i = 0; i < 2; i++) {
        struct raw_end raw = {0};
        unix_pair(fds[i]);
        raw.fd = fds[i][1];
        probes[i].buffer_size = 10;
        probes[i].in_read = interrupt_and_close_in_read;
        stream_open(&probes[i], fds[i][0], CORE_STREAM_SOCKET);
        stream_read_start(&probes[i]);
        CHECK_EQ(raw_write(&raw, 50), 50);
        CHECK_EQ(stream_write(&probes[i], 50, 1), 0);
    }
    POLL_UNTIL(probes[0].stream == NULL && probes[1].stream == NULL);
    CHECK_EQ(calls, 2);
    check_is_idle();
    close(fds[0][1]);
    close(fds[1][1]);
}

const struct check_test interrupt_tests[] = {
    {"interrupt_one_callback_for_each_poll", test_one_callback_for_each_poll},
    {"interrupt_one_callback_for_each_poll_of_zero", test_one_callback_for_each_poll_of_zero},
    {"interrupt_before_the_first_delivery", test_interrupt_before_the_first_delivery},
    {"interrupt_the_rest_comes_with_the_next_poll", test_the_rest_comes_with_the_next_poll},
    {"interrupt_in_on_buffer", test_interrupt_in_on_buffer},
    {"interrupt_in_an_on_buffer_that_offers", test_interrupt_in_an_on_buffer_that_offers},
    {"interrupt_in_every_read", test_interrupt_in_every_read},
    {"interrupt_and_close", test_interrupt_and_close},
    {NULL, NULL},
};
