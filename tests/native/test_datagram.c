/* SPDX-License-Identifier: MIT
 *
 * Receiving datagrams (rules 1, 4 and 6 of core.h) on UDP and AF_UNIX.  Sending is in test_datagram_send.c.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A receiver on the loop, and a raw socket that sends to it. */
struct scene {
    struct datagram_probe probe;
    struct address address;
    int raw;
    struct address raw_address;
};

static void
scene_open(struct scene *scene, enum family family, size_t buffer_size)
{
    memset(scene, 0, sizeof *scene);
    scene->probe.buffer_size = buffer_size;
    int fd = datagram_socket(family, &scene->address);
    scene->raw = datagram_socket(family, &scene->raw_address);
    datagram_open(&scene->probe, fd);
}

static void
scene_close(struct scene *scene)
{
    if (scene->probe.datagram != NULL) {
        datagram_close(&scene->probe);
    }
    CHECK_EQ(close(scene->raw), 0);
    datagram_unlink(&scene->address);
    datagram_unlink(&scene->raw_address);
}

static void
check_from(const struct scene *scene)
{
    CHECK_EQ(scene->probe.last_from_len, scene->raw_address.length);
    CHECK_EQ(memcmp(&scene->probe.last_from, &scene->raw_address.storage, scene->raw_address.length), 0);
}

static void
test_receive(void)
{
    static const size_t sizes[] = {4, 5, 100, 1400, 9000, 60000};
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 65536);
        datagram_recv_start(&scene.probe);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            raw_send(scene.raw, sizes[i], 1000 + i, &scene.address);
            POLL_UNTIL(scene.probe.received == i + 1);
            CHECK_EQ(scene.probe.last_size, sizes[i]);
            CHECK_EQ(scene.probe.last_number, 1000 + i);
            check_from(&scene);
        }
        check_is_idle();
        CHECK_EQ(scene.probe.errors, 0);
        scene_close(&scene);
        check_is_idle();
    }
}

static void
test_empty_datagram(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 100);
        datagram_recv_start(&scene.probe);
        raw_send(scene.raw, 0, 0, &scene.address);
        POLL_UNTIL(scene.probe.received == 1);
        CHECK_EQ(scene.probe.last_size, 0);
        check_from(&scene);
        raw_send(scene.raw, 10, 7, &scene.address);
        raw_send(scene.raw, 0, 0, &scene.address);
        raw_send(scene.raw, 10, 8, &scene.address);
        POLL_UNTIL(scene.probe.received == 4);
        CHECK_EQ(scene.probe.last_number, 8);
        check_is_idle();
        CHECK_EQ(scene.probe.errors, 0);
        scene_close(&scene);
    }
}

static void
check_number(struct datagram_probe *probe, ssize_t result)
{
    CHECK(result >= 0);
    CHECK_EQ(probe->last_number, probe->received);
}

/* The probe checks the limit of one poll. */
static void
test_many_in_order(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        unsigned sent = 0;
        scene_open(&scene, family, 200);
        scene.probe.in_datagram = check_number;
        datagram_recv_start(&scene.probe);
        for (int round = 0; round < 30; round++) {
            for (int i = 0; i < 9; i++) {
                raw_send(scene.raw, 4 + sent % 150, sent + 1, &scene.address);
                sent++;
            }
            for (int i = 0; i < 2 && scene.probe.received < sent; i++) {
                poll_once(-1);
                CHECK(scene.probe.received <= sent);
            }
            POLL_UNTIL(scene.probe.received == sent);
        }
        scene_close(&scene);
    }
}

static void
test_nothing_is_received_before_the_start(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 200);
        raw_send(scene.raw, 10, 1, &scene.address);
        check_is_idle();
        CHECK_EQ(scene.probe.buffers, 0);
        datagram_recv_start(&scene.probe);
        datagram_recv_start(&scene.probe);
        POLL_UNTIL(scene.probe.received == 1);
        datagram_recv_stop(&scene.probe);
        datagram_recv_stop(&scene.probe);
        raw_send(scene.raw, 10, 2, &scene.address);
        unsigned buffers = scene.probe.buffers;
        check_is_idle();
        CHECK_EQ(scene.probe.buffers, buffers);
        datagram_recv_start(&scene.probe);
        POLL_UNTIL(scene.probe.received == 2);
        scene_close(&scene);
    }
}

/* --- in callbacks */

static void
stop_in_datagram(struct datagram_probe *probe, ssize_t result)
{
    (void)result;
    datagram_recv_stop(probe);
}

static void
test_stop_in_on_datagram(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 200);
        scene.probe.in_datagram = stop_in_datagram;
        for (unsigned i = 1; i <= 6; i++) {
            raw_send(scene.raw, 10, i, &scene.address);
        }
        for (unsigned i = 1; i <= 6; i++) {
            datagram_recv_start(&scene.probe);
            POLL_UNTIL(scene.probe.received == i);
            if (i % 3 == 0) {
                check_is_idle();
            }
            CHECK_EQ(scene.probe.received, i);
            CHECK_EQ(scene.probe.last_number, i);
        }
        scene_close(&scene);
    }
}

static void
close_in_datagram(struct datagram_probe *probe, ssize_t result)
{
    (void)result;
    datagram_close(probe);
}

static void
close_in_buffer(struct datagram_probe *probe)
{
    datagram_close(probe);
}

static void
stop_in_buffer(struct datagram_probe *probe)
{
    datagram_recv_stop(probe);
}

static void
test_close_in_callbacks(void)
{
    for (int way = 0; way < 3; way++) {
        FOR_EACH_FAMILY(family) {
            struct scene scene;
            scene_open(&scene, family, way == 2 ? 0 : 200);
            scene.probe.in_datagram = way == 0 ? close_in_datagram : NULL;
            scene.probe.in_buffer = way != 0 ? close_in_buffer : NULL;
            datagram_recv_start(&scene.probe);
            raw_send(scene.raw, 10, 1, &scene.address);
            raw_send(scene.raw, 10, 2, &scene.address);
            POLL_UNTIL(scene.probe.datagram == NULL);
            CHECK_EQ(scene.probe.received, way == 0);
            check_is_idle();
            scene_close(&scene);
        }
    }
}

/* A datagram that on_buffer declined is still there. */
static void
test_declined_buffer_is_offered_again(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 0);
        datagram_recv_start(&scene.probe);
        raw_send(scene.raw, 10, 1, &scene.address);
        raw_send(scene.raw, 10, 2, &scene.address);
        for (unsigned i = 1; i <= 5; i++) {
            poll_once(-1);
            CHECK_EQ(scene.probe.buffers, i);
        }
        scene.probe.buffer_size = 100;
        scene.probe.in_datagram = check_number;
        POLL_UNTIL(scene.probe.received == 2);
        scene.probe.buffer_size = 0;
        scene.probe.in_buffer = stop_in_buffer;
        raw_send(scene.raw, 10, 3, &scene.address);
        unsigned buffers = scene.probe.buffers;
        POLL_UNTIL(scene.probe.buffers > buffers);
        check_is_idle();
        CHECK_EQ(scene.probe.buffers, buffers + 1);
        scene.probe.buffer_size = 100;
        scene.probe.in_buffer = NULL;
        datagram_recv_start(&scene.probe);
        POLL_UNTIL(scene.probe.received == 3);
        scene_close(&scene);
    }
}

/* The buffer that was given comes back with -EAGAIN, which the probe does not count. */
static void
test_stop_in_on_buffer(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, 100);
        scene.probe.in_buffer = stop_in_buffer;
        datagram_recv_start(&scene.probe);
        raw_send(scene.raw, 10, 1, &scene.address);
        POLL_UNTIL(scene.probe.buffers == 1);
        check_is_idle();
        CHECK_EQ(scene.probe.buffers, 1);
        CHECK_EQ(scene.probe.received, 0);
        CHECK(scene.probe.offered == NULL);
        scene.probe.in_buffer = NULL;
        datagram_recv_start(&scene.probe);
        POLL_UNTIL(scene.probe.received == 1);
        CHECK_EQ(scene.probe.last_number, 1);
        scene_close(&scene);
    }
}

/* --- a busy socket: the core may take more from the kernel than it tells of at once */

enum { BURST = 8 }; /* an AF_UNIX socket queues no more than about ten */

/* Numbers go on from what was received. */
static void
send_burst(const struct scene *scene)
{
    for (unsigned i = 1; i <= BURST; i++) {
        raw_send(scene->raw, 4 + i * 100, scene->probe.received + i, &scene->address);
    }
}

static void
scene_open_busy(struct scene *scene, enum family family)
{
    scene_open(scene, family, 2000);
    scene->probe.in_datagram = check_number;
    datagram_recv_start(&scene->probe);
    for (unsigned round = 1; round <= 3; round++) {
        send_burst(scene);
        POLL_UNTIL(scene->probe.received == round * BURST);
    }
}

static void
check_number_and_stop(struct datagram_probe *probe, ssize_t result)
{
    check_number(probe, result);
    datagram_recv_stop(probe);
}

static void
check_number_and_interrupt(struct datagram_probe *probe, ssize_t result)
{
    check_number(probe, result);
    core->loop_interrupt(loop);
}

/* What was not told stays, in order, without a wake-up before receiving starts again, and before what comes later. */
static void
test_busy_stop_loses_nothing(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open_busy(&scene, family);
        scene.probe.in_datagram = check_number_and_stop;
        unsigned before = scene.probe.received;
        send_burst(&scene);
        for (unsigned i = 1; i <= BURST; i++) {
            datagram_recv_start(&scene.probe);
            POLL_UNTIL(scene.probe.received == before + i);
            CHECK(!scene.probe.is_receiving);
            if (i == 2) {
                check_is_idle();
                raw_send(scene.raw, 10, before + BURST + 1, &scene.address);
            }
            CHECK_EQ(scene.probe.received, before + i);
        }
        scene.probe.in_datagram = check_number;
        datagram_recv_start(&scene.probe);
        POLL_UNTIL(scene.probe.received == before + BURST + 1);
        check_is_idle();
        scene_close(&scene);
    }
}

static void
test_busy_interrupt_loses_nothing(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open_busy(&scene, family);
        scene.probe.in_datagram = check_number_and_interrupt;
        unsigned before = scene.probe.received;
        send_burst(&scene);
        for (unsigned i = 1; i <= BURST; i++) {
            POLL_UNTIL(scene.probe.received > before + i - 1); /* the fixture checks that it ends there */
            CHECK_EQ(scene.probe.received, before + i);
        }
        check_is_idle();
        scene_close(&scene);
    }
}

static void
test_busy_declined_buffer_is_offered_again(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open_busy(&scene, family);
        unsigned before = scene.probe.received;
        scene.probe.buffer_size = 0;
        send_burst(&scene);
        for (int i = 0; i < 3; i++) {
            unsigned buffers = scene.probe.buffers;
            POLL_UNTIL(scene.probe.buffers > buffers);
            if (i ==
                0) { /* what is kept and what is in the kernel are asked for once in a poll, which the probe checks */
                raw_send(scene.raw, 10, before + BURST + 1, &scene.address);
            }
        }
        CHECK_EQ(scene.probe.received, before);
        scene.probe.buffer_size = 2000;
        POLL_UNTIL(scene.probe.received == before + BURST + 1);
        scene_close(&scene);
    }
}

static void
test_busy_close_in_callbacks(void)
{
    for (int way = 0; way < 2; way++) {
        FOR_EACH_FAMILY(family) {
            struct scene scene;
            scene_open_busy(&scene, family);
            scene.probe.in_datagram = way == 0 ? close_in_datagram : NULL;
            scene.probe.in_buffer = way == 1 ? close_in_buffer : NULL;
            unsigned before = scene.probe.received;
            send_burst(&scene);
            POLL_UNTIL(scene.probe.datagram == NULL);
            CHECK_EQ(scene.probe.received, before + (way == 0));
            check_is_idle();
            scene_close(&scene);
        }
    }
}

/* Stopped and closed, or destroyed with the loop, with datagrams kept: nothing leaks. */
static void
test_busy_close_while_stopped(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open_busy(&scene, family);
        scene.probe.in_datagram = check_number_and_stop;
        unsigned before = scene.probe.received;
        send_burst(&scene);
        POLL_UNTIL(scene.probe.received == before + 1);
        datagram_close(&scene.probe);
        check_is_idle();
        scene_close(&scene);
    }
}

/* --- errors and options */

/* Nobody listens there any more: the error is told, and what comes afterwards still arrives. */
static void
test_refused_is_told_and_receiving_goes_on(void)
{
    for (int family = FAMILY_INET; family <= FAMILY_INET6; family++) {
        struct datagram_probe probe = {.buffer_size = 100};
        struct address address, peer_address;
        if (!family_exists((enum family)family)) {
            continue;
        }
        int fd = datagram_socket((enum family)family, &address);
        int peer = datagram_socket((enum family)family, &peer_address);
        datagram_connect(fd, &peer_address);
        datagram_open(&probe, fd);
        datagram_recv_start(&probe);
        CHECK_EQ(close(peer), 0);
        int status;
        do {
            status = datagram_try_send(&probe, 10, 1, NULL, 0);
        } while (status == -EAGAIN && fixture_core.is_faulty);
        CHECK_EQ(status, 0);
        POLL_UNTIL(probe.errors > 0);
        CHECK_EQ(probe.error, -ECONNREFUSED);
        check_is_idle();
        peer = socket(address.storage.ss_family, SOCK_DGRAM, 0);
        CHECK_EQ(bind(peer, (struct sockaddr *)&peer_address.storage, peer_address.length), 0);
        raw_send(peer, 10, 5, &address);
        POLL_UNTIL(probe.received == 1);
        CHECK_EQ(probe.last_number, 5);
        CHECK_EQ(probe.errors, 1);
        datagram_close(&probe);
        close(peer);
    }
}

static void
test_reuse_address_stays_as_found(void)
{
    FOR_EACH_FAMILY(family) {
        for (int wanted = 0; wanted < 2; wanted++) {
            struct datagram_probe probe = {.buffer_size = 100};
            struct address address;
            int value = -1;
            socklen_t length = sizeof value;
            int fd = datagram_socket(family, &address);
            CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &wanted, sizeof wanted), 0);
            datagram_open(&probe, fd);
            CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &length), 0);
            CHECK_EQ(value != 0, wanted);
            datagram_recv_start(&probe);
            CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &length), 0);
            CHECK_EQ(value != 0, wanted);
            datagram_close(&probe);
            datagram_unlink(&address);
        }
    }
}

/* A socket without a name sends: `from` is empty, or is a family and nothing else. */
static void
test_sender_without_a_name(void)
{
    int fds[2];
    struct datagram_probe probe = {.buffer_size = 100};
    datagram_pair(fds);
    datagram_open(&probe, fds[0]);
    datagram_recv_start(&probe);
    raw_send(fds[1], 20, 4, NULL);
    raw_send(fds[1], 0, 0, NULL);
    POLL_UNTIL(probe.received == 2);
    CHECK(probe.last_from_len <= sizeof(sa_family_t) + 1);
    datagram_close(&probe);
    close(fds[1]);
}

/* The other end of a pair goes away: whatever is told, nothing spins. */
static void
test_peer_that_goes_away_costs_nothing(void)
{
    for (int is_receiving = 0; is_receiving < 2; is_receiving++) {
        int fds[2];
        struct datagram_probe probe = {.buffer_size = 100};
        datagram_pair(fds);
        datagram_open(&probe, fds[0]);
        if (is_receiving) {
            datagram_recv_start(&probe);
        }
        raw_send(fds[1], 20, 4, NULL);
        close(fds[1]);
        if (is_receiving) {
            POLL_UNTIL(probe.received == 1);
            datagram_recv_stop(&probe);
        }
        check_is_idle();
        datagram_close(&probe);
    }
}

static void
ignore_buffer(void *owner, struct iovec *buffer)
{
    (void)owner;
    (void)buffer;
}

static void
ignore_datagram(void *owner, ssize_t result, const struct sockaddr *from, socklen_t from_len)
{
    (void)owner;
    (void)result;
    (void)from;
    (void)from_len;
}

static void
ignore_status(void *owner, int status)
{
    (void)owner;
    (void)status;
}

/* Whether a pipe opens as a datagram socket is the core's affair; whose the fd is afterwards is not. */
static void
test_failed_open_leaves_the_fd(void)
{
    static const struct core_datagram_events events = {ignore_buffer, ignore_datagram, ignore_status};
    struct core_datagram *datagram = NULL;
    int fds[2];
    pipe_pair(fds);
    if (core->datagram_open(loop, fds[0], &events, NULL, &datagram) == 0) {
        core->datagram_close(datagram);
        CHECK(!fd_is_open(fds[0]));
    }
    else {
        CHECK(fd_is_open(fds[0]));
        close(fds[0]);
    }
    close(fds[1]);
    check_is_idle();
}

const struct check_test datagram_tests[] = {
    {"datagram_receive", test_receive},
    {"datagram_empty", test_empty_datagram},
    {"datagram_many_in_order", test_many_in_order},
    {"datagram_nothing_is_received_before_the_start", test_nothing_is_received_before_the_start},
    {"datagram_stop_in_on_datagram", test_stop_in_on_datagram},
    {"datagram_close_in_callbacks", test_close_in_callbacks},
    {"datagram_declined_buffer_is_offered_again", test_declined_buffer_is_offered_again},
    {"datagram_stop_in_on_buffer", test_stop_in_on_buffer},
    {"datagram_busy_stop_loses_nothing", test_busy_stop_loses_nothing},
    {"datagram_busy_interrupt_loses_nothing", test_busy_interrupt_loses_nothing},
    {"datagram_busy_declined_buffer_is_offered_again", test_busy_declined_buffer_is_offered_again},
    {"datagram_busy_close_in_callbacks", test_busy_close_in_callbacks},
    {"datagram_busy_close_while_stopped", test_busy_close_while_stopped},
    {"datagram_refused_is_told_and_receiving_goes_on", test_refused_is_told_and_receiving_goes_on},
    {"datagram_reuse_address_stays_as_found", test_reuse_address_stays_as_found},
    {"datagram_sender_without_a_name", test_sender_without_a_name},
    {"datagram_peer_that_goes_away_costs_nothing", test_peer_that_goes_away_costs_nothing},
    {"datagram_failed_open_leaves_the_fd", test_failed_open_leaves_the_fd},
    {NULL, NULL},
};
