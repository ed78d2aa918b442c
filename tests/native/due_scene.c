/* SPDX-License-Identifier: MIT
 *
 * One object of each kind, each with something due; see due_scene.h.
 */
#include "due_scene.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void (*due_in_callback)(void *owner);
unsigned due_calls;

static void
due_call(void *owner)
{
    due_calls++;
    if (due_in_callback != NULL) {
        due_in_callback(owner);
    }
}

static void
due_in_ready(struct watch_probe *probe, unsigned ready)
{
    char byte;
    (void)ready;
    CHECK_EQ(read(probe->fd, &byte, 1), 1);
    due_call(probe);
}

static void
due_in_read(struct stream_probe *probe, ssize_t result)
{
    (void)result;
    due_call(probe);
}

static void
due_in_written(struct stream_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    due_call(probe);
}

static void
due_in_datagram(struct datagram_probe *probe, ssize_t result)
{
    CHECK(result >= 0);
    CHECK_EQ(probe->last_number, probe->received);
    due_call(probe);
}

static void
due_in_sent(struct datagram_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    due_call(probe);
}

static void
scene_open_streams(struct due_scene *scene, int fds[7][2])
{
    struct stream_probe *streams[] = {&scene->reader, &scene->reset, &scene->writer,
                                      &scene->both,   &scene->pipe,  &scene->null};
    memcpy(scene->streams, streams, sizeof streams);
    for (int i = 0; i < DUE_STREAMS; i++) {
        streams[i]->buffer_size = 100;
        streams[i]->in_read = due_in_read;
        streams[i]->in_written = due_in_written;
    }
    struct raw_end raw = {.fd = fds[1][1]};
    stream_open(&scene->reader, fds[1][0], CORE_STREAM_SOCKET);
    stream_read_start(&scene->reader);
    CHECK_EQ(raw_write(&raw, 50), 50);
    CHECK_EQ(shutdown(raw.fd, SHUT_WR), 0);
    stream_open(&scene->reset, fds[2][0], CORE_STREAM_SOCKET);
    stream_read_start(&scene->reset);
    tcp_reset(fds[2][1]);
    stream_open(&scene->writer, fds[3][0], CORE_STREAM_SOCKET);
    CHECK_EQ(stream_write(&scene->writer, 50, 2), 0);
    stream_open(&scene->both, fds[4][0], CORE_STREAM_SOCKET);
    stream_read_start(&scene->both);
    raw = (struct raw_end){.fd = fds[4][1]};
    CHECK_EQ(raw_write(&raw, 50), 50);
    CHECK_EQ(stream_write(&scene->both, 50, 2), 0);
    stream_open(&scene->pipe, fds[5][1], CORE_STREAM_PIPE_WRITE);
    stream_read_start(&scene->pipe);
    close(fds[5][0]);
    stream_open(&scene->null, open("/dev/null", O_WRONLY | O_NONBLOCK), CORE_STREAM_PIPE_WRITE);
    CHECK_EQ(stream_write(&scene->null, 50, 2), 0);
}

void
due_scene_open(struct due_scene *scene)
{
    int fds[7][2];
    int receiver[2];
    memset(scene, 0, sizeof *scene);
    unix_pair(fds[0]);
    tcp_pair(fds[1]);
    tcp_pair(fds[2]);
    unix_pair(fds[3]);
    tcp_pair(fds[4]);
    pipe_pair(fds[5]);
    datagram_pair(fds[6]);
    datagram_pair(receiver);
    scene->watch.in_ready = due_in_ready;
    watch_open(&scene->watch, fds[0][0]);
    watch_set(&scene->watch, CORE_READABLE);
    CHECK_EQ(write(fds[0][1], "x", 1), 1);
    scene_open_streams(scene, fds);
    scene->receiver.buffer_size = 100;
    scene->receiver.in_datagram = due_in_datagram;
    datagram_open(&scene->receiver, receiver[0]);
    datagram_recv_start(&scene->receiver);
    raw_send(receiver[1], 20, 1, NULL);
    raw_send(receiver[1], 20, 2, NULL);
    scene->sender.in_sent = due_in_sent;
    datagram_open(&scene->sender, fds[6][0]);
    CHECK_EQ(datagram_send(&scene->sender, 20, 1, NULL, 0), 0);
    int raw[] = {fds[0][0], fds[0][1], fds[1][1], fds[3][1], fds[4][1], fds[6][1], receiver[1]};
    memcpy(scene->raw, raw, sizeof raw);
}

void
due_scene_close_raw(struct due_scene *scene)
{
    for (int i = 0; i < 7; i++) {
        CHECK_EQ(close(scene->raw[i]), 0);
    }
}

void
due_scene_close(struct due_scene *scene)
{
    for (int i = 0; i < DUE_STREAMS; i++) {
        if (scene->streams[i]->stream != NULL) {
            stream_close(scene->streams[i]);
        }
    }
    watch_close(&scene->watch);
    datagram_close(&scene->receiver);
    datagram_close(&scene->sender);
    due_scene_close_raw(scene);
}

bool
due_scene_is_complete(const struct due_scene *scene)
{
    bool is_complete = scene->watch.calls == 1 && scene->reset.read_error < 0 && scene->pipe.has_eof;
    is_complete = is_complete && scene->reader.received == 50 && scene->reader.has_eof;
    is_complete = is_complete && scene->writer.writes == 1 && scene->null.writes == 1;
    is_complete = is_complete && scene->both.received == 50 && scene->both.writes == 1;
    is_complete = is_complete && scene->receiver.received == 2 && scene->sender.sends == 1;
    CHECK(due_calls <= DUE_CALLS || fixture_core.is_faulty);
    return is_complete;
}
