/* SPDX-License-Identifier: MIT
 *
 * Random operations on several streams at once, in callbacks and outside: what arrives must be what was given, to the
 * byte. Each seed is a test run of its own; a failure names it, and RLOOP_TEST_SEED=N runs that one alone.
 */
#include "probes.h"
#include "random.h"
#include "tests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAIRS = 6, SEEDS = 15, STEPS = 500 };

/* Two ends, both of them streams of the loop. */
struct pair {
    struct stream_probe ends[2];
    bool is_one_way; /* a pipe: ends[0] reads, ends[1] writes */
    bool is_broken;  /* an end was closed on purpose: bytes may get lost from then on, but not be wrong */
};

static struct pair pairs[PAIRS];
static struct random dice;
static bool is_winding_up; /* the callbacks do nothing of their own any more */

static bool
end_can_read(const struct stream_probe *end)
{
    return end->stream != NULL && !end->has_eof && end->read_error == 0;
}

static struct pair *
pair_of(const struct stream_probe *end)
{
    return &pairs[end->budget];
}

static bool
end_can_write(const struct stream_probe *end)
{
    const struct pair *pair = pair_of(end);
    return end->stream != NULL && !end->is_writing && end->kind != CORE_STREAM_PIPE_READ &&
           (end->write_status == 0 || pair->is_broken);
}

static size_t
random_size(void)
{
    static const unsigned bounds[] = {2, 10, 1000, 5000, 70000, 300000};
    return random_below(&dice, bounds[random_below(&dice, sizeof bounds / sizeof bounds[0])]);
}

static void
random_write(struct stream_probe *end)
{
    size_t length = random_size();
    unsigned pieces = random_below(&dice, 8) == 0 ? 1100 + random_below(&dice, 2000) : 1 + random_below(&dice, 6);
    if (random_below(&dice, 2) == 0) {
        ssize_t count = stream_try_write(end, length, pieces);
        CHECK(count >= 0 || count == -EAGAIN || pair_of(end)->is_broken);
    }
    else {
        int status = stream_write(end, length, pieces);
        CHECK(status == 0 || pair_of(end)->is_broken);
    }
}

static void
random_break(struct stream_probe *end)
{
    if (random_below(&dice, 60) == 0) {
        pair_of(end)->is_broken = true;
        stream_close(end);
    }
}

/* One operation, anywhere: outside of a poll or in a callback of any stream. */
static void
random_operation(void)
{
    struct stream_probe *end = &pairs[random_below(&dice, PAIRS)].ends[random_below(&dice, 2)];
    unsigned choice = random_below(&dice, 10);
    if (choice < 4 && end_can_write(end)) {
        random_write(end);
    }
    else if (choice < 6 && end_can_read(end)) {
        stream_read_start(end);
    }
    else if (choice == 6 && end->stream != NULL) {
        stream_read_stop(end);
    }
    else if (choice == 7) {
        end->buffer_size = random_below(&dice, 5) == 0 ? 0 : 1 + random_size();
    }
    else if (choice == 8 && end->stream != NULL) {
        random_break(end);
    }
    else if (choice == 9 && fixture_is_in_poll() && random_below(&dice, 4) == 0) {
        core->loop_interrupt(loop);
    }
}

static void
operate_in_callback(void)
{
    for (unsigned i = random_below(&dice, 3); i > 0 && !is_winding_up; i--) {
        random_operation();
    }
}

static void
operate_in_read(struct stream_probe *end, ssize_t result)
{
    CHECK(result >= 0 || pair_of(end)->is_broken);
    operate_in_callback();
}

static void
operate_in_written(struct stream_probe *end, int status)
{
    CHECK(status == 0 || pair_of(end)->is_broken);
    operate_in_callback();
}

static void
pairs_open(void)
{
    static void (*const openings[PAIRS])(int[2]) = {tcp_pair, unix_pair, pipe_pair, tcp_pair, unix_pair, pipe_pair};
    memset(pairs, 0, sizeof pairs);
    for (unsigned i = 0; i < PAIRS; i++) {
        int fds[2];
        openings[i](fds);
        pairs[i].is_one_way = openings[i] == pipe_pair;
        for (int j = 0; j < 2; j++) {
            struct stream_probe *end = &pairs[i].ends[j];
            end->key = i;
            end->budget = i;
            end->buffer_size = 1000;
            end->in_read = operate_in_read;
            end->in_written = operate_in_written;
            enum core_stream_kind pipe_kind = j == 0 ? CORE_STREAM_PIPE_READ : CORE_STREAM_PIPE_WRITE;
            stream_open(end, fds[j], pairs[i].is_one_way ? pipe_kind : CORE_STREAM_SOCKET);
        }
    }
}

/* Let everything arrive that is on its way. */
static void
pair_wind_up(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        pair->ends[i].buffer_size = 60000;
        if (end_can_read(&pair->ends[i])) {
            stream_read_start(&pair->ends[i]);
        }
    }
    if (pair->is_broken) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        struct stream_probe *end = &pair->ends[i];
        POLL_UNTIL(!end->is_writing);
        POLL_UNTIL(pair->ends[1 - i].received == end->sent);
        CHECK_EQ(core->stream_unsent(end->stream), 0);
    }
    if (pair->is_one_way) {
        stream_close(&pair->ends[1]);
    }
    else {
        CHECK_EQ(core->stream_shutdown(pair->ends[1].stream), 0);
    }
    POLL_UNTIL(pair->ends[0].has_eof);
    CHECK_EQ(pair->ends[0].received, pair->ends[1].sent);
}

static void
run_seed(uint64_t seed)
{
    check_note("seed %llu", (unsigned long long)seed);
    dice.state = seed;
    is_winding_up = false;
    pairs_open();
    for (int step = 0; step < STEPS; step++) {
        random_operation();
        if (random_below(&dice, 3) == 0) {
            poll_once(0);
        }
    }
    is_winding_up = true;
    for (int i = 0; i < PAIRS; i++) {
        pair_wind_up(&pairs[i]);
    }
    for (int i = 0; i < 2 * PAIRS; i++) {
        struct stream_probe *end = &pairs[i / 2].ends[i % 2];
        CHECK(end->received <= pairs[i / 2].ends[1 - i % 2].sent);
        if (end->stream != NULL) {
            stream_close(end);
        }
    }
    check_is_idle();
}

static void
test_random_streams(void)
{
    const char *only = getenv("RLOOP_TEST_SEED");
    if (only != NULL) {
        run_seed(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run_seed(seed);
    }
}

const struct check_test random_tests[] = {
    {"random_streams", test_random_streams},
    {NULL, NULL},
};
