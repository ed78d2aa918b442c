/* SPDX-License-Identifier: MIT
 *
 * Unit tests of csrc/inbox.c and csrc/ready_queue.c on a real core, with a stand-in for Python: threads push while the loop
 * polls, and while it closes; memory runs out.  Run alone: inbox_tests [--core NAME] [--test NAME].
 *
 * There is no GIL here, so what keeps the threads apart is the inbox alone.  `make test-tsan` runs this too.
 */
#include "check.h"
#include "core.h"
#include "inbox.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4, PUSHES = 20000, CLOSINGS = 200 };

_Thread_local const char *stand_in_exception;
atomic_bool stand_in_is_out_of_memory;

/* `struct loop` of the layer, as far as the queue hands it on. */
struct loop {
    const struct core_ops *core;
    struct core_loop *core_loop;
    struct inbox inbox;
    struct ready_queue ready, timers;
    unsigned ran;
    unsigned turns;
};

/* What is pushed: the object first, so that one is the other. */
struct item {
    PyObject object;
    unsigned thread, number;
    unsigned runs;
};

static struct item items[THREADS][PUSHES];
static unsigned next_numbers[THREADS];

static struct loop the_loop;

/* --- the loop */

static void
hook_nothing(void *owner)
{
    (void)owner;
}

static int expected_drain;

static void
hook_drain(void *owner)
{
    struct loop *loop = owner;
    CHECK_EQ(inbox_drain(&loop->inbox, &loop->ready, &loop->timers), expected_drain);
}

static const struct core_hooks hooks = {hook_nothing, hook_nothing, hook_drain};

static void
loop_open(struct loop *loop, const char *core_name)
{
    *loop = (struct loop){.core = core_by_name(core_name)};
    CHECK_EQ(pthread_mutex_init(&loop->inbox.lock, NULL), 0);
    CHECK_EQ(loop->core->loop_create(&hooks, loop, &loop->core_loop), 0);
    inbox_open(&loop->inbox, loop->core, loop->core_loop);
}

/* As the layer does: nobody wakes the core any more, then it goes, and what was queued is dropped. */
static void
loop_close(struct loop *loop)
{
    inbox_close(&loop->inbox);
    loop->core->loop_destroy(loop->core_loop);
}

static void
loop_free(struct loop *loop)
{
    inbox_free(&loop->inbox);
    ready_queue_free(&loop->ready);
    ready_queue_free(&loop->timers);
    CHECK_EQ(pthread_mutex_destroy(&loop->inbox.lock), 0);
}

static void
loop_turn(struct loop *loop)
{
    CHECK_EQ(loop->core->loop_poll(loop->core_loop, loop->ready.count > 0 ? 0 : -1), 0);
    for (size_t left = loop->ready.count; left > 0; left--) {
        struct ready_item item = ready_queue_pop(&loop->ready);
        CHECK_EQ(item.run(loop, item.object), 0);
        Py_DECREF(item.object);
    }
    loop->turns++;
}

/* --- what is pushed */

static int
item_run(struct loop *loop, PyObject *object)
{
    struct item *item = (struct item *)object;
    CHECK_EQ(item->runs++, 0);
    CHECK_EQ(item->number, next_numbers[item->thread]++); /* of one thread, in order */
    loop->ran++;
    return 0;
}

static void
items_reset(void)
{
    memset(next_numbers, 0, sizeof next_numbers);
    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned j = 0; j < PUSHES; j++) {
            items[i][j] = (struct item){.object.references = 1, .thread = i, .number = j};
        }
    }
}

/* The references are all back; returns how many ran. */
static unsigned
items_check(void)
{
    unsigned ran = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        for (unsigned j = 0; j < PUSHES; j++) {
            CHECK_EQ(items[i][j].object.references, 1);
            ran += items[i][j].runs;
        }
    }
    return ran;
}

/* --- the other threads */

struct pusher {
    pthread_t thread;
    unsigned number;
    unsigned pushed; /* without an error */
};

static atomic_uint pushers_started;

static void *
pusher_run(void *arg)
{
    struct pusher *pusher = arg;
    atomic_fetch_add(&pushers_started, 1);
    for (unsigned i = 0; i < PUSHES; i++) {
        struct item *item = &items[pusher->number][i];
        Py_INCREF(&item->object);
        if (inbox_push(&the_loop.inbox, item_run, &item->object) < 0) {
            CHECK(strcmp(stand_in_exception, "RuntimeError") == 0);
            return NULL;
        }
        pusher->pushed++;
        if (i % 64 == pusher->number) {
            sched_yield(); /* let the loop wait now and then */
        }
    }
    return NULL;
}

/* Wakes without the lock, as signal handlers do. */
static atomic_bool waker_is_over;

static void *
waker_run(void *arg)
{
    (void)arg;
    while (!atomic_load(&waker_is_over)) {
        the_loop.core->loop_wake(the_loop.core_loop);
        sched_yield();
    }
    return NULL;
}

static void
pushers_start(struct pusher pushers[THREADS])
{
    items_reset();
    atomic_store(&pushers_started, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pushers[i] = (struct pusher){.number = i};
        CHECK_EQ(pthread_create(&pushers[i].thread, NULL, pusher_run, &pushers[i]), 0);
    }
}

static unsigned
pushers_join(struct pusher pushers[THREADS])
{
    unsigned pushed = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(pushers[i].thread, NULL), 0);
        pushed += pushers[i].pushed;
    }
    return pushed;
}

/* --- tests */

static const char *core_name;

static void
test_all_that_is_pushed_runs_in_order(void)
{
    struct pusher pushers[THREADS];
    loop_open(&the_loop, core_name);
    pushers_start(pushers);
    while (the_loop.ran < THREADS * PUSHES) {
        loop_turn(&the_loop); /* a lost wake-up hangs here */
    }
    CHECK_EQ(pushers_join(pushers), THREADS * PUSHES);
    CHECK_EQ(items_check(), THREADS * PUSHES);
    loop_close(&the_loop);
    loop_free(&the_loop);
}

static void
test_wakes_beside_pushes(void)
{
    struct pusher pushers[THREADS];
    pthread_t wakers[2];
    loop_open(&the_loop, core_name);
    pushers_start(pushers);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&wakers[i], NULL, waker_run, NULL), 0);
    }
    while (the_loop.ran < THREADS * PUSHES) {
        loop_turn(&the_loop);
    }
    atomic_store(&waker_is_over, true);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(wakers[i], NULL), 0);
    }
    CHECK_EQ(pushers_join(pushers), THREADS * PUSHES);
    CHECK_EQ(items_check(), THREADS * PUSHES);
    loop_close(&the_loop);
    loop_free(&the_loop);
}

/* The loop closes, and its core goes, while everybody pushes: nobody touches the core after that, no reference is lost. */
static void
test_closing_under_pushes(void)
{
    for (unsigned i = 0; i < CLOSINGS; i++) {
        struct pusher pushers[THREADS];
        loop_open(&the_loop, core_name);
        pushers_start(pushers);
        while (atomic_load(&pushers_started) == 0) {
            sched_yield();
        }
        for (unsigned turn = 0; turn < i % 5 && the_loop.ran < THREADS * PUSHES; turn++) {
            loop_turn(&the_loop);
        }
        loop_close(&the_loop);
        unsigned pushed = pushers_join(pushers);
        CHECK_EQ(the_loop.ran + the_loop.inbox.queue.count + the_loop.ready.count, pushed);
        loop_free(&the_loop);
        CHECK_EQ(items_check(), the_loop.ran);
    }
}

static int
visit_count(PyObject *object, void *arg)
{
    unsigned *left = arg;
    CHECK(object->references > 0);
    return --*left == 0 ? 7 : 0;
}

static void
test_a_closed_inbox_refuses(void)
{
    items_reset();
    PyObject *object = &items[0][0].object;
    loop_open(&the_loop, core_name);
    Py_INCREF(object);
    CHECK_EQ(inbox_push(&the_loop.inbox, item_run, object), 0);
    unsigned left = 2;
    CHECK_EQ(inbox_traverse(&the_loop.inbox, visit_count, &left), 0);
    CHECK_EQ(left, 1);
    CHECK_EQ(inbox_traverse(&the_loop.inbox, visit_count, &left), 7);
    loop_close(&the_loop);
    Py_INCREF(object);
    CHECK_EQ(inbox_push(&the_loop.inbox, item_run, object), -1);
    CHECK(strcmp(stand_in_exception, "RuntimeError") == 0);
    CHECK_EQ(object->references, 2);
    loop_free(&the_loop);
    CHECK_EQ(object->references, 1);
}

/* A push that finds no memory drops its object; a drain that finds none leaves the rest to the next turn, which doesn't wait. */
static void
test_out_of_memory(void)
{
    enum { SOME = 100 };
    items_reset();
    loop_open(&the_loop, core_name);
    atomic_store(&stand_in_is_out_of_memory, true);
    Py_INCREF(&items[1][0].object);
    CHECK_EQ(inbox_push(&the_loop.inbox, item_run, &items[1][0].object), -1);
    CHECK(strcmp(stand_in_exception, "MemoryError") == 0);
    CHECK_EQ(items[1][0].object.references, 1);
    atomic_store(&stand_in_is_out_of_memory, false);
    for (unsigned i = 0; i < SOME; i++) {
        Py_INCREF(&items[0][i].object);
        CHECK_EQ(inbox_push(&the_loop.inbox, item_run, &items[0][i].object), 0);
    }
    atomic_store(&stand_in_is_out_of_memory, true);
    stand_in_exception = NULL;
    expected_drain = -1;
    CHECK_EQ(the_loop.core->loop_poll(the_loop.core_loop, -1), 0);
    expected_drain = 0;
    CHECK(strcmp(stand_in_exception, "MemoryError") == 0);
    CHECK_EQ(the_loop.inbox.queue.count, SOME);
    atomic_store(&stand_in_is_out_of_memory, false);
    while (the_loop.ran < SOME) {
        loop_turn(&the_loop);
    }
    CHECK_EQ(items_check(), SOME);
    loop_close(&the_loop);
    loop_free(&the_loop);
}

static const struct check_test tests[] = {
    {"all_that_is_pushed_runs_in_order", test_all_that_is_pushed_runs_in_order},
    {"wakes_beside_pushes", test_wakes_beside_pushes},
    {"closing_under_pushes", test_closing_under_pushes},
    {"a_closed_inbox_refuses", test_a_closed_inbox_refuses},
    {"out_of_memory", test_out_of_memory},
    {NULL, NULL},
};

static void
run_test(const struct check_test *test, void *arg)
{
    core_name = arg;
    test->run();
}

int
main(int argc, char **argv)
{
    struct check_session session = {0};
    const char *only_core = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        *(strcmp(argv[i], "--core") == 0 ? &only_core : &session.only) = argv[i + 1];
    }
    static const char *const cores[] = {"mio", "uv"};
    for (int i = 0; i < 2; i++) {
        if (only_core == NULL || strcmp(only_core, cores[i]) == 0) {
            char label[16];
            snprintf(label, sizeof label, "%s: ", cores[i]);
            check_run(&session, label, tests, run_test, (void *)cores[i]);
        }
    }
    return check_finish(&session);
}
