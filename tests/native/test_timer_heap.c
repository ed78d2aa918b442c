/* SPDX-License-Identifier: MIT
 *
 * Unit tests of csrc/timer_heap.c: against a naive model, and in the corners. Run alone: timer_heap_tests [--test
 * NAME].
 */
#include "check.h"
#include "random.h"
#include "timer_heap.h"

#include <stdlib.h>
#include <string.h>

struct timer {
    ssize_t place;
    int64_t deadline_ns;
    unsigned number; /* in order of scheduling */
    bool is_in;
};

enum { MODEL_TIMERS = 3000, MODEL_STEPS = 8000 };

static void
push(struct timer_heap *heap, struct timer *timer, int64_t deadline_ns)
{
    timer->deadline_ns = deadline_ns;
    CHECK_EQ(timer_heap_push(heap, deadline_ns, timer, &timer->place), 0);
    timer->is_in = true;
}

static void
check_places(const struct timer_heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        const struct timer *timer = heap->entries[i].timer;
        CHECK_EQ(timer->place, i);
        CHECK_EQ(timer->deadline_ns, heap->entries[i].deadline_ns);
    }
}

static void
test_empty(void)
{
    struct timer_heap heap = {0};
    CHECK_EQ(heap.count, 0);
    timer_heap_free(&heap);
    CHECK(heap.entries == NULL);
}

static void
test_equal_deadlines_are_first_in_first_out(void)
{
    static struct timer timers[500];
    struct timer_heap heap = {0};
    for (unsigned i = 0; i < 500; i++) {
        timers[i].number = i;
        push(&heap, &timers[i], 7);
    }
    for (unsigned i = 0; i < 500; i++) {
        struct timer *timer = timer_heap_remove(&heap, 0);
        CHECK_EQ(timer->number, i);
        CHECK_EQ(timer->place, -1);
    }
    CHECK_EQ(heap.count, 0);
    timer_heap_free(&heap);
}

static void
test_removal_in_the_middle_keeps_the_order(void)
{
    static struct timer timers[400];
    struct timer_heap heap = {0};
    for (unsigned i = 0; i < 400; i++) {
        timers[i].number = i;
        push(&heap, &timers[i], i % 10);
    }
    for (unsigned i = 0; i < 400; i += 3) {
        CHECK(timer_heap_remove(&heap, timers[i].place) == &timers[i]);
        CHECK_EQ(timers[i].place, -1);
        check_places(&heap);
    }
    const struct timer *last = NULL;
    while (heap.count > 0) {
        const struct timer *timer = timer_heap_remove(&heap, 0);
        CHECK(timer->number % 3 != 0);
        CHECK(last == NULL || last->deadline_ns < timer->deadline_ns ||
              (last->deadline_ns == timer->deadline_ns && last->number < timer->number));
        last = timer;
    }
    timer_heap_free(&heap);
}

static void
test_extreme_deadlines(void)
{
    static struct timer timers[4];
    const int64_t deadlines[4] = {INT64_MAX, 0, INT64_MIN, -1};
    const unsigned order[4] = {2, 3, 1, 0};
    struct timer_heap heap = {0};
    for (unsigned i = 0; i < 4; i++) {
        push(&heap, &timers[i], deadlines[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK(timer_heap_remove(&heap, 0) == &timers[order[i]]);
    }
    timer_heap_free(&heap);
}

static void
test_is_usable_after_free(void)
{
    static struct timer timer;
    struct timer_heap heap = {0};
    for (int i = 0; i < 3; i++) {
        push(&heap, &timer, i);
        CHECK(timer_heap_remove(&heap, 0) == &timer);
        timer_heap_free(&heap);
        CHECK_EQ(heap.count, 0);
    }
}

/* The first of those that are in: by deadline, then by order of scheduling.  The slow and obvious way. */
static struct timer *
model_first(struct timer *timers, unsigned count)
{
    struct timer *first = NULL;
    for (unsigned i = 0; i < count; i++) {
        struct timer *timer = &timers[i];
        if (timer->is_in && (first == NULL || timer->deadline_ns < first->deadline_ns ||
                             (timer->deadline_ns == first->deadline_ns && timer->number < first->number)))
        {
            first = timer;
        }
    }
    return first;
}

static void
model_run(uint64_t seed)
{
    struct timer *timers = calloc(MODEL_TIMERS, sizeof *timers);
    struct random random = {seed};
    struct timer_heap heap = {0};
    unsigned made = 0;
    size_t in = 0;
    CHECK(timers != NULL);
    check_note("seed %llu", (unsigned long long)seed);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        unsigned choice = random_below(&random, 24);
        struct timer *any = made > 0 ? &timers[random_below(&random, made)] : NULL;
        if (choice < 10 && made < MODEL_TIMERS) {
            timers[made].number = made;
            push(&heap, &timers[made++], random_below(&random, 50));
            in++;
        }
        else if (choice < 20 && any != NULL && any->is_in) {
            CHECK(timer_heap_remove(&heap, any->place) == any);
            CHECK_EQ(any->place, -1);
            any->is_in = false;
            in--;
        }
        else if (choice < 24 && in > 0) {
            struct timer *first = model_first(timers, made);
            CHECK(timer_heap_remove(&heap, 0) == first);
            first->is_in = false;
            in--;
        }
        CHECK_EQ(heap.count, in);
    }
    check_places(&heap);
    while (in-- > 0) {
        struct timer *first = model_first(timers, made);
        CHECK(timer_heap_remove(&heap, first->place) == first);
        first->is_in = false;
    }
    CHECK_EQ(heap.count, 0);
    timer_heap_free(&heap);
    free(timers);
}

static void
test_against_the_model(void)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        model_run(seed);
    }
}

static const struct check_test tests[] = {
    {"empty", test_empty},
    {"equal_deadlines_are_first_in_first_out", test_equal_deadlines_are_first_in_first_out},
    {"removal_in_the_middle_keeps_the_order", test_removal_in_the_middle_keeps_the_order},
    {"extreme_deadlines", test_extreme_deadlines},
    {"is_usable_after_free", test_is_usable_after_free},
    {"against_the_model", test_against_the_model},
    {NULL, NULL},
};

static void
run_plain(const struct check_test *test, void *arg)
{
    (void)arg;
    test->run();
}

int
main(int argc, char **argv)
{
    struct check_session session = {0};
    if (argc == 3 && strcmp(argv[1], "--test") == 0) {
        session.only = argv[2];
    }
    check_run(&session, "", tests, run_plain, NULL);
    return check_finish(&session);
}
