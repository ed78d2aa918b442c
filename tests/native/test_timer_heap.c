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
    size_t dead = 0;
    for (size_t i = 0; i < heap->count; i++) {
        const struct timer *timer = heap->entries[i].timer;
        if (timer == NULL) {
            dead++;
            continue;
        }
        CHECK_EQ(timer->place, i);
        CHECK_EQ(timer->deadline_ns, heap->entries[i].deadline_ns);
    }
    CHECK_EQ(heap->dead, dead);
}

/* Take out the first timer. */
static struct timer *
pop(struct timer_heap *heap)
{
    const struct timer_entry *first = timer_heap_first(heap);
    CHECK(first == &heap->entries[0]);
    return timer_heap_remove(heap, 0);
}

static void
test_empty(void)
{
    struct timer_heap heap = {0};
    CHECK(timer_heap_first(&heap) == NULL);
    CHECK(timer_heap_remove_any(&heap) == NULL);
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
        struct timer *timer = pop(&heap);
        CHECK_EQ(timer->number, i);
        CHECK_EQ(timer->place, -1);
    }
    CHECK(timer_heap_first(&heap) == NULL);
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
    while (timer_heap_first(&heap) != NULL) {
        const struct timer *timer = pop(&heap);
        CHECK(timer->number % 3 != 0);
        CHECK(last == NULL || last->deadline_ns < timer->deadline_ns ||
              (last->deadline_ns == timer->deadline_ns && last->number < timer->number));
        last = timer;
    }
    timer_heap_free(&heap);
}

/* The memory of cancelled timers is bounded by that of the others, whatever the order of cancelling. */
static void
test_dead_entries_are_swept(void)
{
    enum { KEPT = 100, GONE = 100000 };
    static struct timer kept[KEPT], passing[10];
    struct timer_heap heap = {0};
    for (unsigned i = 0; i < KEPT; i++) {
        push(&heap, &kept[i], i);
    }
    for (unsigned i = 0; i < GONE; i++) {
        struct timer *timer = &passing[i % 10];
        if (i >= 10) {
            CHECK(timer_heap_remove(&heap, timer->place) == timer);
        }
        push(&heap, timer, 1000 + (i * 7919) % 1000);
        CHECK(heap.count <= 2 * (KEPT + 10) + 1);
    }
    check_places(&heap);
    for (unsigned i = 0; i < KEPT; i++) {
        CHECK(pop(&heap) == &kept[i]);
    }
    for (unsigned i = 0; i < 10; i++) {
        const struct timer *timer = timer_heap_remove_any(&heap);
        CHECK(timer >= passing && timer < passing + 10);
        CHECK_EQ(timer->place, -1);
    }
    CHECK(timer_heap_remove_any(&heap) == NULL);
    CHECK_EQ(heap.dead, 0);
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
        CHECK(pop(&heap) == &timers[order[i]]);
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
        CHECK(pop(&heap) == &timer);
        timer_heap_free(&heap);
        CHECK(timer_heap_first(&heap) == NULL);
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
            CHECK(pop(&heap) == first);
            first->is_in = false;
            in--;
        }
        CHECK_EQ(heap.count - heap.dead, in);
    }
    check_places(&heap);
    while (in-- > 0) {
        struct timer *first = model_first(timers, made);
        CHECK(timer_heap_remove(&heap, first->place) == first);
        first->is_in = false;
    }
    CHECK(timer_heap_first(&heap) == NULL);
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
    {"dead_entries_are_swept", test_dead_entries_are_swept},
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
