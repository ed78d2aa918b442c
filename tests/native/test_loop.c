/* SPDX-License-Identifier: MIT
 *
 * The loop itself: waiting and its timeout, waking, the hooks, creation and destruction (rules 1, 2 and 7 of core.h).
 *
 * Upper bounds of time are seconds wide: they tell a hang from a wait, not a fast machine from a slow one.
 */
#include "probes.h"
#include "tests.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static const int64_t TOO_LONG_NS = 20000 * MS;

/* --- waiting */

static void
test_create_and_destroy(void)
{
    unsigned fds = fd_count();
    for (int i = 0; i < 20; i++) {
        struct core_loop *other = fixture_loop_create();
        CHECK(other != loop);
        core->loop_destroy(other);
    }
    CHECK_EQ(fd_count(), fds);
}

static void
test_core_by_name(void)
{
    const char *const names[] = {"mio", "uv"};
    for (int i = 0; i < 2; i++) {
        CHECK(core_by_name(names[i]) != NULL);
        CHECK_EQ(strcmp(core_by_name(names[i])->name, names[i]), 0);
    }
    CHECK(core_by_name("") == NULL);
    CHECK(core_by_name("mi") == NULL);
    CHECK(core_by_name("epoll") == NULL);
}

static void
test_poll_zero_does_not_wait(void)
{
    int64_t start_ns = now_ns();
    for (int i = 0; i < 100; i++) {
        poll_once(0);
    }
    CHECK(now_ns() - start_ns < TOO_LONG_NS);
    CHECK_EQ(fixture_hooks.blocks, 0);
    CHECK_EQ(fixture_hooks.polls, 100);
}

static void
test_poll_never_ends_early(void)
{
    static const int64_t timeouts_ns[] = {
        1,       2,       999,     1000,    50001,   500000,   999999,   1000000,
        1000001, 1499999, 1500000, 2000001, 3700000, 19999999, 20000000,
    };
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < sizeof timeouts_ns / sizeof timeouts_ns[0]; i++) {
            int64_t start_ns = now_ns();
            poll_once(timeouts_ns[i]);
            int64_t elapsed_ns = now_ns() - start_ns;
            check_note("%lld ns of %lld", (long long)elapsed_ns, (long long)timeouts_ns[i]);
            CHECK(elapsed_ns >= timeouts_ns[i]);
            CHECK(elapsed_ns < TOO_LONG_NS);
        }
    }
}

/* The clock that a core keeps may be old when loop_poll is entered. */
static void
test_poll_after_a_pause_never_ends_early(void)
{
    for (int i = 0; i < 10; i++) {
        sleep_ns(7 * MS + i * 100001);
        CHECK_EQ(count_early_polls(1, 3 * MS + i * 99999), 0);
    }
}

static void
test_poll_with_an_idle_watch_never_ends_early(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    pipe_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(count_early_polls(5, 2 * MS + 1), 0);
    CHECK_EQ(probe.calls, 0);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

/* --- waking, from other threads and signal handlers */

struct waker {
    pthread_t thread;
    pthread_t target;
    int64_t delay_ns;
    atomic_bool is_done;
    atomic_bool is_over;
};

static void *
waker_wake(void *arg)
{
    struct waker *waker = arg;
    sleep_ns(waker->delay_ns);
    atomic_store(&waker->is_done, true);
    core->loop_wake(loop);
    return NULL;
}

static void *
waker_signal(void *arg)
{
    struct waker *waker = arg;
    sleep_ns(waker->delay_ns);
    atomic_store(&waker->is_done, true);
    pthread_kill(waker->target, SIGUSR1);
    return NULL;
}

/* Again and again, so that some come while the loop waits. */
static void *
waker_signal_until_over(void *arg)
{
    struct waker *waker = arg;
    while (!atomic_load(&waker->is_over)) {
        sleep_ns(waker->delay_ns);
        atomic_store(&waker->is_done, true);
        pthread_kill(waker->target, SIGUSR1);
    }
    return NULL;
}

/* Poll once while another thread does its work; the poll must end for that, and not before. */
static void
check_poll_ends_for(void *(*run)(void *), int64_t timeout_ns)
{
    struct waker waker = {.target = pthread_self(), .delay_ns = 30 * MS};
    int64_t start_ns = now_ns();
    CHECK_EQ(pthread_create(&waker.thread, NULL, run, &waker), 0);
    poll_once(timeout_ns);
    CHECK(atomic_load(&waker.is_done));
    CHECK(now_ns() - start_ns < TOO_LONG_NS);
    CHECK_EQ(pthread_join(waker.thread, NULL), 0);
}

static void
test_wake_from_a_thread(void)
{
    check_poll_ends_for(waker_wake, -1);
    check_poll_ends_for(waker_wake, 60000 * MS);
    CHECK_EQ(fixture_hooks.blocks, 2);
}

/* Beyond what fits into milliseconds of an int, or into anything once it is rounded up. */
static void
test_poll_with_a_huge_timeout_waits(void)
{
    static const int64_t timeouts_ns[] = {INT64_C(2147483647) * MS,
                                          INT64_C(2147483648) * MS,
                                          INT64_C(4294967296) * MS,
                                          INT64_C(4294967297) * MS,
                                          INT64_MAX / 2,
                                          INT64_MAX - 1,
                                          INT64_MAX};
    for (size_t i = 0; i < sizeof timeouts_ns / sizeof timeouts_ns[0]; i++) {
        check_note("%lld ns", (long long)timeouts_ns[i]);
        check_poll_ends_for(waker_wake, timeouts_ns[i]);
    }
}

static void
test_wake_before_a_poll(void)
{
    core->loop_wake(loop);
    poll_once(-1);
    CHECK_EQ(count_early_polls(3, 2 * MS), 0);
    core->loop_wake(loop);
    poll_once(0);
    CHECK_EQ(count_early_polls(3, 2 * MS), 0);
}

static void
wake_in_first_delivery(void)
{
    core->loop_wake(loop);
}

/* What woke the loop may have come after the layer looked: the wake must outlive this poll, even one that goes on to
 * deliver, and end the next. */
static void
test_wake_in_the_first_delivery(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    unix_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    fd_put_byte(fds[1]);
    fixture_hooks.in_first_delivery = wake_in_first_delivery;
    poll_once(-1);
    CHECK_EQ(probe.calls, 1);
    fixture_hooks.in_first_delivery = NULL;
    fd_drain(fds[0]);
    poll_once(-1);
    CHECK_EQ(probe.calls, 1);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

static void
test_many_wakes_are_one(void)
{
    for (int i = 0; i < 100000; i++) {
        core->loop_wake(loop);
    }
    poll_once(-1);
    CHECK(count_early_polls(20, 2 * MS) <= 1);
    CHECK_EQ(count_early_polls(3, 2 * MS), 0);
    core->loop_wake(loop);
    poll_once(-1);
}

static void
test_wakes_of_two_loops_are_apart(void)
{
    struct core_loop *other = fixture_loop_create();
    core->loop_wake(other);
    CHECK_EQ(count_early_polls(3, 2 * MS), 0);
    CHECK_EQ(core->loop_poll(other, -1), 0);
    core->loop_wake(loop);
    core->loop_destroy(other);
    poll_once(-1);
}

/* A wake-up that is lost between a look at the counter and the wait would leave the poll waiting for ever. */
enum { RACE_STEPS = 20000 };
static atomic_uint race_steps;
static atomic_uint race_seen;

static void *
race_run(void *arg)
{
    (void)arg;
    for (unsigned i = 1; i <= RACE_STEPS; i++) {
        atomic_store(&race_steps, i);
        core->loop_wake(loop);
        while (i % 3 == 0 && atomic_load(&race_seen) < i) {
        }
    }
    return NULL;
}

static void
test_no_wake_is_lost(void)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, race_run, NULL), 0);
    while (atomic_load(&race_seen) < RACE_STEPS) {
        unsigned steps = atomic_load(&race_steps);
        if (steps == atomic_load(&race_seen)) {
            poll_once(-1);
        }
        atomic_store(&race_seen, steps);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void
handler_wakes(int number)
{
    (void)number;
    core->loop_wake(loop);
}

static void
handler_does_nothing(int number)
{
    (void)number;
}

static void
handler_install(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void
test_wake_from_a_signal_handler(void)
{
    handler_install(handler_wakes, SA_RESTART);
    check_poll_ends_for(waker_signal, -1);
    poll_once(0); /* the signal itself may have ended the wait, and its wake-up be left */
    check_poll_ends_for(waker_signal, 60000 * MS);
    poll_once(0);
    raise(SIGUSR1);
    poll_once(-1);
}

/* It may end the wait or not; it is no error, and no wait grows beyond its time for it. */
static void
test_signal_does_no_harm(void)
{
    struct waker waker = {.target = pthread_self(), .delay_ns = 2 * MS};
    handler_install(handler_does_nothing, 0);
    CHECK_EQ(pthread_create(&waker.thread, NULL, waker_signal_until_over, &waker), 0);
    int64_t start_ns = now_ns();
    for (int i = 0; i < 20; i++) {
        poll_once(10 * MS);
    }
    CHECK(now_ns() - start_ns < TOO_LONG_NS);
    CHECK(atomic_load(&waker.is_done));
    core->loop_wake(loop);
    poll_once(-1);
    atomic_store(&waker.is_over, true);
    CHECK_EQ(pthread_join(waker.thread, NULL), 0);
}

/* --- hooks: their order is checked in fixture.c */

static unsigned first_deliveries;
static struct watch_probe *hooked_watch;

static void
count_first_delivery(void)
{
    CHECK(hooked_watch == NULL || hooked_watch->calls == first_deliveries);
    first_deliveries++;
}

static void
test_hooks_surround_a_wait(void)
{
    fixture_hooks.in_first_delivery = count_first_delivery;
    poll_once(0);
    CHECK_EQ(fixture_hooks.blocks, 0);
    poll_once(1 * MS);
    CHECK_EQ(fixture_hooks.blocks, 1);
    core->loop_wake(loop);
    poll_once(1 * MS);
    CHECK_EQ(first_deliveries, fixture_hooks.polls);
}

static void
test_first_delivery_comes_before_callbacks(void)
{
    int fds[2];
    struct watch_probe probe = {0};
    pipe_pair(fds);
    watch_open(&probe, fds[1]);
    watch_set(&probe, CORE_WRITABLE);
    hooked_watch = &probe;
    fixture_hooks.in_first_delivery = count_first_delivery;
    poll_once(-1);
    poll_once(0);
    poll_once(60000 * MS);
    CHECK_EQ(probe.calls, 3);
    CHECK_EQ(first_deliveries, 3);
    watch_close(&probe);
    fd_close_pair(fds[0], fds[1]);
}

/* --- everything at once, and its end */

struct scene {
    struct watch_probe watch;
    struct stream_probe reader, paused, writer, pipe;
    struct datagram_probe sender;
    int raw[6];
};

static void
datagram_pair(int fds[2])
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    fd_set_blocking(fds[0], false);
    fd_set_blocking(fds[1], false);
}

/* One of each, with something due on each of them: input, a write in flight, a datagram in flight. */
static void
scene_open(struct scene *scene)
{
    int fds[6][2];
    memset(scene, 0, sizeof *scene);
    tcp_pair(fds[0]);
    tcp_pair(fds[1]);
    unix_pair(fds[2]);
    pipe_pair(fds[3]);
    datagram_pair(fds[4]);
    unix_pair(fds[5]);
    for (int i = 0; i < 6; i++) {
        scene->raw[i] = i == 3 || i == 4 ? fds[i][0] : fds[i][1];
    }
    scene->reader.buffer_size = scene->paused.buffer_size = scene->sender.buffer_size = 4096;
    scene->reader.is_unchecked = scene->paused.is_unchecked = true;
    stream_open(&scene->reader, fds[0][0], CORE_STREAM_SOCKET);
    stream_open(&scene->paused, fds[1][0], CORE_STREAM_SOCKET);
    stream_open(&scene->writer, fds[2][0], CORE_STREAM_SOCKET);
    stream_open(&scene->pipe, fds[3][1], CORE_STREAM_PIPE_WRITE);
    datagram_open(&scene->sender, fds[4][1]);
    watch_open(&scene->watch, fds[5][0]);
    stream_read_start(&scene->reader);
    stream_read_start(&scene->paused);
    stream_read_stop(&scene->paused);
    stream_read_start(&scene->writer);
    stream_read_start(&scene->pipe);
    datagram_recv_start(&scene->sender);
    watch_set(&scene->watch, CORE_READABLE | CORE_WRITABLE);
    CHECK_EQ(stream_write(&scene->writer, 1 << 20, 5), 0);
    CHECK_EQ(stream_write(&scene->pipe, 1 << 20, 5), 0);
    CHECK_EQ(datagram_send(&scene->sender, 100, 1, NULL, 0), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(write(scene->raw[i], "x", 1), 1);
    }
}

static void
scene_close_raw(struct scene *scene)
{
    for (int i = 0; i < 6; i++) {
        close(scene->raw[i]);
    }
    close(scene->watch.fd);
}

/* What the probes lent to the core is theirs again. */
static void
scene_free_lent(struct scene *scene)
{
    struct stream_probe *writers[2] = {&scene->writer, &scene->pipe};
    for (int i = 0; i < 2; i++) {
        stream_free_write(writers[i]);
    }
    datagram_free_send(&scene->sender);
}

static void
check_destroy(unsigned polls)
{
    unsigned fds = fd_count();
    struct scene scene;
    scene_open(&scene);
    for (unsigned i = 0; i < polls; i++) {
        poll_once(0);
    }
    core->loop_destroy(loop); /* a callback would fail: no poll is under way */
    CHECK(!fd_is_open(scene.reader.fd) && !fd_is_open(scene.paused.fd) && !fd_is_open(scene.writer.fd));
    CHECK(!fd_is_open(scene.pipe.fd) && !fd_is_open(scene.sender.fd));
    CHECK(fd_is_open(scene.watch.fd));
    scene_free_lent(&scene);
    scene_close_raw(&scene);
    loop = fixture_loop_create();
    CHECK_EQ(fd_count(), fds);
}

static void
test_destroy_with_everything_open(void)
{
    check_destroy(0);
    check_destroy(1);
    check_destroy(5);
}

static void
test_a_hundred_cycles_leave_no_fd(void)
{
    unsigned fds = fd_count();
    for (int i = 0; i < 100; i++) {
        struct scene scene;
        scene_open(&scene);
        poll_once(0);
        if (i % 2 == 0) {
            watch_close(&scene.watch);
            stream_close(&scene.reader);
            stream_close(&scene.writer);
            stream_close(&scene.pipe);
            datagram_close(&scene.sender);
            poll_once(0);
            stream_close(&scene.paused);
        }
        core->loop_destroy(loop);
        scene_free_lent(&scene);
        scene_close_raw(&scene);
        loop = fixture_loop_create();
        CHECK_EQ(fd_count(), fds);
    }
}

const struct check_test loop_tests[] = {
    {"create_and_destroy", test_create_and_destroy},
    {"core_by_name", test_core_by_name},
    {"poll_zero_does_not_wait", test_poll_zero_does_not_wait},
    {"poll_never_ends_early", test_poll_never_ends_early},
    {"poll_after_a_pause_never_ends_early", test_poll_after_a_pause_never_ends_early},
    {"poll_with_an_idle_watch_never_ends_early", test_poll_with_an_idle_watch_never_ends_early},
    {"poll_with_a_huge_timeout_waits", test_poll_with_a_huge_timeout_waits},
    {"wake_from_a_thread", test_wake_from_a_thread},
    {"wake_before_a_poll", test_wake_before_a_poll},
    {"wake_in_the_first_delivery", test_wake_in_the_first_delivery},
    {"many_wakes_are_one", test_many_wakes_are_one},
    {"wakes_of_two_loops_are_apart", test_wakes_of_two_loops_are_apart},
    {"no_wake_is_lost", test_no_wake_is_lost},
    {"wake_from_a_signal_handler", test_wake_from_a_signal_handler},
    {"signal_does_no_harm", test_signal_does_no_harm},
    {"hooks_surround_a_wait", test_hooks_surround_a_wait},
    {"first_delivery_comes_before_callbacks", test_first_delivery_comes_before_callbacks},
    {"destroy_with_everything_open", test_destroy_with_everything_open},
    {"a_hundred_cycles_leave_no_fd", test_a_hundred_cycles_leave_no_fd},
    {NULL, NULL},
};
