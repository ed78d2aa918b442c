/* SPDX-License-Identifier: MIT
 *
 * A forked child and the loop that it inherits (rule 9 of core.h): whatever it does after loop_after_fork, the parent's
 * events still arrive, none is taken from it, and nothing wakes it.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_SECONDS = 20, IN_FLIGHT = 3 << 20 };

/* One of each kind; those with a raw end wait for it, and two have something in flight. */
struct scene {
    struct watch_probe watch;
    struct stream_probe reader, writer, pipe;
    struct datagram_probe receiver, sender;
    struct raw_end watch_raw, reader_raw, writer_raw, pipe_raw, receiver_raw, sender_raw;
    unsigned queued; /* datagrams before the one in flight */
};

static void
scene_open(struct scene *scene)
{
    int fds[6][2];
    memset(scene, 0, sizeof *scene);
    unix_pair(fds[0]);
    tcp_pair(fds[1]);
    tcp_pair(fds[2]);
    pipe_pair(fds[3]);
    datagram_pair(fds[4]);
    datagram_pair(fds[5]);
    struct raw_end *raws[6] = {&scene->watch_raw, &scene->reader_raw,   &scene->writer_raw,
                               &scene->pipe_raw,  &scene->receiver_raw, &scene->sender_raw};
    for (int i = 0; i < 6; i++) {
        raws[i]->fd = i == 3 ? fds[i][0] : fds[i][1];
    }
    scene->reader.buffer_size = scene->writer.buffer_size = scene->receiver.buffer_size = 1000;
    watch_open(&scene->watch, fds[0][0]);
    watch_set(&scene->watch, CORE_READABLE);
    stream_open(&scene->reader, fds[1][0], CORE_STREAM_SOCKET);
    stream_read_start(&scene->reader);
    stream_open(&scene->writer, fds[2][0], CORE_STREAM_SOCKET);
    stream_read_start(&scene->writer);
    stream_fill(&scene->writer);
    CHECK_EQ(stream_write(&scene->writer, IN_FLIGHT, 50), 0);
    stream_open(&scene->pipe, fds[3][1], CORE_STREAM_PIPE_WRITE);
    stream_read_start(&scene->pipe);
    datagram_open(&scene->receiver, fds[4][0]);
    datagram_recv_start(&scene->receiver);
    char bytes[20];
    do {
        datagram_make(bytes, sizeof bytes, ++scene->queued);
    } while (send(fds[5][0], bytes, sizeof bytes, 0) == sizeof bytes);
    datagram_open(&scene->sender, fds[5][0]);
    CHECK_EQ(datagram_send(&scene->sender, sizeof bytes, scene->queued, NULL, 0), 0);
    poll_for(2 * MS);
}

static void
scene_close(struct scene *scene)
{
    watch_close(&scene->watch);
    stream_close(&scene->reader);
    stream_close(&scene->writer);
    stream_close(&scene->pipe);
    datagram_close(&scene->receiver);
    datagram_close(&scene->sender);
}

static void
scene_close_raw(struct scene *scene)
{
    close(scene->watch.fd);
    fd_close_pair(scene->watch_raw.fd, scene->reader_raw.fd);
    fd_close_pair(scene->receiver_raw.fd, scene->sender_raw.fd);
    close(scene->writer_raw.fd);
    if (scene->pipe_raw.fd >= 0) {
        close(scene->pipe_raw.fd);
    }
}

/* Everything in the parent still works, to the last byte. */
static void
scene_check_alive(struct scene *scene)
{
    CHECK_EQ(scene->watch.calls, 0);
    CHECK_EQ(write(scene->watch_raw.fd, "x", 1), 1);
    poll_once(-1);
    CHECK_EQ(scene->watch.calls, 1);
    watch_set(&scene->watch, 0);
    CHECK_EQ(raw_write(&scene->reader_raw, 500), 500);
    POLL_UNTIL(scene->reader.received == 500);
    raw_send(scene->receiver_raw.fd, 30, 77, NULL);
    POLL_UNTIL(scene->receiver.received == 1);
    for (unsigned i = 1; i <= scene->queued; i++) {
        long number;
        while ((number = raw_receive(scene->sender_raw.fd)) < 0) {
            poll_once(1 * MS);
        }
        CHECK_EQ(number, i);
    }
    POLL_UNTIL(scene->sender.sends == 1);
    while (scene->writer_raw.received < scene->writer.sent) {
        raw_read(&scene->writer_raw, 1 << 20);
        poll_once(0);
    }
    POLL_UNTIL(scene->writer.writes == 1);
    CHECK_EQ(scene->writer.write_status, 0);
    CHECK_EQ(raw_read(&scene->writer_raw, 1), 0);
    CHECK(!scene->writer_raw.has_eof && !scene->reader.has_eof && !scene->pipe.has_eof);
    close(scene->pipe_raw.fd);
    scene->pipe_raw.fd = -1;
    POLL_UNTIL(scene->pipe.has_eof);
}

/* Fork; the child runs this and ends, while the parent waits for it. */
static void
run_child(void (*in_child)(struct scene *), struct scene *scene)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(CHILD_SECONDS);
        CHECK_EQ(core->loop_after_fork(loop), 0);
        in_child(scene);
        if (getenv("RLOOP_TEST_COVERAGE") != NULL) {
            exit(0); /* this one also writes down what has run */
        }
        _exit(0);
    }
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
check_child_disturbs_nobody(void (*in_child)(struct scene *))
{
    struct scene scene;
    scene_open(&scene);
    run_child(in_child, &scene);
    check_is_idle();
    scene_check_alive(&scene);
    scene_close(&scene);
    scene_close_raw(&scene);
}

/* --- what a child may do */

static void
child_does_nothing(struct scene *scene)
{
    (void)scene;
}

static void
child_destroys(struct scene *scene)
{
    (void)scene;
    core->loop_destroy(loop);
}

static void
child_closes(struct scene *scene)
{
    scene_close(scene);
    core->loop_destroy(loop);
}

static void
child_takes_interests_away(struct scene *scene)
{
    watch_set(&scene->watch, 0);
    stream_read_stop(&scene->reader);
    stream_read_stop(&scene->writer);
    stream_read_stop(&scene->pipe);
    datagram_recv_stop(&scene->receiver);
    poll_once(0);
    watch_set(&scene->watch, CORE_WRITABLE);
    watch_set(&scene->watch, 0);
    scene_close(scene);
    poll_once(0);
}

static void
child_wakes(struct scene *scene)
{
    (void)scene;
    for (int i = 0; i < 100; i++) {
        core->loop_wake(loop);
    }
    poll_once(0);
    core->loop_wake(loop);
    poll_once(-1);
    core->loop_wake(loop);
}

/* New objects on the inherited loop, and a new loop beside it. */
static void
child_works(struct scene *scene)
{
    int fds[2];
    struct watch_probe probe = {0};
    (void)scene;
    pipe_pair(fds);
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    POLL_UNTIL(probe.calls > 0);
    watch_close(&probe);
    core->loop_destroy(loop);
    loop = fixture_loop_create();
    watch_open(&probe, fds[0]);
    watch_set(&probe, CORE_READABLE);
    POLL_UNTIL(probe.calls > 1);
    core->loop_destroy(loop);
}

/* A child of the child. */
static void
child_forks(struct scene *scene)
{
    run_child(child_closes, scene);
    core->loop_destroy(loop);
}

static void
test_child_does_nothing(void)
{
    check_child_disturbs_nobody(child_does_nothing);
}

static void
test_child_destroys_the_loop(void)
{
    check_child_disturbs_nobody(child_destroys);
}

static void
test_child_closes_everything(void)
{
    check_child_disturbs_nobody(child_closes);
}

static void
test_child_takes_interests_away(void)
{
    check_child_disturbs_nobody(child_takes_interests_away);
}

static void
test_child_wakes(void)
{
    check_child_disturbs_nobody(child_wakes);
}

static void
test_child_works(void)
{
    check_child_disturbs_nobody(child_works);
}

static void
test_child_forks(void)
{
    check_child_disturbs_nobody(child_forks);
}

/* --- a child that polls while there is something to take */

static void
child_polls(struct scene *scene)
{
    for (int i = 0; i < 10; i++) {
        poll_once(1 * MS);
    }
    CHECK_EQ(scene->watch.calls + scene->reader.buffers + scene->receiver.buffers, 0);
    CHECK_EQ(scene->writer.writes + scene->sender.sends, 0);
}

/* Who asks again in the child gets an answer there, as with any file that two processes share. */
static void
child_asks_anew(struct scene *scene)
{
    child_polls(scene);
    watch_set(&scene->watch, 0);
    watch_set(&scene->watch, CORE_READABLE);
    stream_read_stop(&scene->reader);
    stream_read_start(&scene->reader);
    datagram_recv_stop(&scene->receiver);
    datagram_recv_start(&scene->receiver);
    POLL_UNTIL(scene->watch.calls > 0);
    POLL_UNTIL(scene->reader.received == 700);
    POLL_UNTIL(scene->receiver.received == 1);
}

static void
test_child_that_asks_anew_is_answered(void)
{
    struct scene scene;
    scene_open(&scene);
    fd_put_byte(scene.watch_raw.fd);
    CHECK_EQ(raw_write(&scene.reader_raw, 700), 700);
    raw_send(scene.receiver_raw.fd, 30, 55, NULL);
    run_child(child_asks_anew, &scene);
    scene_close(&scene);
    scene_close_raw(&scene);
}

/* Input is due before the fork, and there is room for the writes in flight: the bytes must come out once, in the
 * parent. */
static void
test_child_that_polls_takes_nothing(void)
{
    struct scene scene;
    scene_open(&scene);
    fd_put_byte(scene.watch_raw.fd);
    CHECK_EQ(raw_write(&scene.reader_raw, 700), 700);
    raw_send(scene.receiver_raw.fd, 30, 55, NULL);
    while (raw_read(&scene.writer_raw, 1 << 20) > 0) {
    }
    for (unsigned i = 1; i < scene.queued; i++) {
        CHECK_EQ(raw_receive(scene.sender_raw.fd), i);
    }
    run_child(child_polls, &scene);
    POLL_UNTIL(scene.watch.calls > 0);
    POLL_UNTIL(scene.reader.received == 700);
    POLL_UNTIL(scene.receiver.received == 1);
    CHECK_EQ(scene.receiver.last_number, 55);
    while (scene.writer_raw.received < scene.writer.sent) {
        raw_read(&scene.writer_raw, 1 << 20);
        poll_once(0);
    }
    POLL_UNTIL(scene.writer.writes == 1 && scene.sender.sends == 1);
    poll_for(5 * MS);
    CHECK_EQ(raw_read(&scene.writer_raw, 1), 0);
    CHECK_EQ(raw_receive(scene.sender_raw.fd), scene.queued);
    CHECK_EQ(raw_receive(scene.sender_raw.fd), -1);
    scene_close(&scene);
    scene_close_raw(&scene);
}

const struct check_test fork_tests[] = {
    {"fork_child_does_nothing", test_child_does_nothing},
    {"fork_child_destroys_the_loop", test_child_destroys_the_loop},
    {"fork_child_closes_everything", test_child_closes_everything},
    {"fork_child_takes_interests_away", test_child_takes_interests_away},
    {"fork_child_wakes", test_child_wakes},
    {"fork_child_works", test_child_works},
    {"fork_child_forks", test_child_forks},
    {"fork_child_that_polls_takes_nothing", test_child_that_polls_takes_nothing},
    {"fork_child_that_asks_anew_is_answered", test_child_that_asks_anew_is_answered},
    {NULL, NULL},
};
