/* SPDX-License-Identifier: MIT
 *
 * Sending datagrams (rules 1 and 3 of core.h): at once, queued behind a full receiver, failing, closed in flight.
 */
#include "datagram_sockets.h"
#include "probes.h"
#include "tests.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* A sender on the loop, and a raw socket that receives. */
struct scene {
    struct datagram_probe probe;
    struct address address;
    int raw;
    struct address raw_address;
    const void *to; /* NULL when it is connected */
    socklen_t to_len;
};

static void
scene_open(struct scene *scene, enum family family, bool is_connected)
{
    memset(scene, 0, sizeof *scene);
    scene->probe.buffer_size = 1000;
    int fd = datagram_socket(family, &scene->address);
    scene->raw = datagram_socket(family, &scene->raw_address);
    if (is_connected) {
        datagram_connect(fd, &scene->raw_address);
    }
    else {
        scene->to = &scene->raw_address.storage;
        scene->to_len = scene->raw_address.length;
    }
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

#define FOR_EACH_SCENE(scene, family, is_connected) \
    FOR_EACH_FAMILY(family) \
        for (int is_connected = 0; is_connected < 2 && (scene_open(&(scene), family, is_connected), true); \
             is_connected++)

static int
try_send(struct scene *scene, size_t size, unsigned number)
{
    int status;
    do {
        status = datagram_try_send(&scene->probe, size, number, scene->to, scene->to_len);
    } while (status == -EAGAIN && fixture_core.is_faulty);
    return status;
}

/* Wait for what was sent to come out at the raw end. */
static long
receive(struct scene *scene)
{
    long number;
    int64_t deadline_ns = now_ns() + 20000 * MS;
    while ((number = raw_receive(scene->raw)) < 0) {
        CHECK(now_ns() < deadline_ns);
        poll_once(1 * MS);
    }
    return number;
}

static void
test_try_send(void)
{
    static const size_t sizes[] = {4, 5, 100, 1400, 9000, 60000, 4};
    struct scene scene;
    FOR_EACH_SCENE(scene, family, is_connected) {
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            CHECK_EQ(try_send(&scene, sizes[i], 10 + i), 0);
            CHECK_EQ(receive(&scene), 10 + i);
        }
        CHECK_EQ(scene.probe.sends, 0);
        scene_close(&scene);
    }
}

static void
test_send(void)
{
    static const size_t sizes[] = {4, 5, 100, 1400, 9000, 60000, 4};
    struct scene scene;
    FOR_EACH_SCENE(scene, family, is_connected) {
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            CHECK_EQ(datagram_send(&scene.probe, sizes[i], 10 + i, scene.to, scene.to_len), 0);
            POLL_UNTIL(scene.probe.sends == i + 1);
            CHECK_EQ(scene.probe.send_status, 0);
            CHECK_EQ(receive(&scene), 10 + i);
        }
        check_is_idle();
        scene_close(&scene);
    }
}

static void
test_send_empty(void)
{
    struct scene scene;
    FOR_EACH_SCENE(scene, family, is_connected) {
        CHECK_EQ(try_send(&scene, 0, 0), 0);
        CHECK_EQ(receive(&scene), 0);
        CHECK_EQ(datagram_send(&scene.probe, 0, 0, scene.to, scene.to_len), 0);
        POLL_UNTIL(scene.probe.sends == 1);
        CHECK_EQ(receive(&scene), 0);
        CHECK_EQ(raw_receive(scene.raw), -1);
        scene_close(&scene);
    }
}

static void
send_next(struct datagram_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    if (probe->budget > 0) {
        probe->budget--;
        CHECK_EQ(datagram_send(probe, 20, 100 - probe->budget, NULL, 0), 0);
    }
}

static void
test_send_in_on_sent(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, true);
        scene.probe.in_sent = send_next;
        scene.probe.budget = 100;
        CHECK_EQ(datagram_send(&scene.probe, 20, 0, NULL, 0), 0);
        for (unsigned i = 0; i <= 100; i++) {
            CHECK_EQ(receive(&scene), i);
        }
        POLL_UNTIL(!scene.probe.is_sending);
        CHECK_EQ(scene.probe.sends, 101);
        scene_close(&scene);
    }
}

/* --- a receiver that is full: AF_UNIX has backpressure */

static unsigned
fill(struct scene *scene)
{
    unsigned count = 0;
    while (try_send(scene, 100, count + 1) == 0) {
        count++;
        CHECK(count < 100000);
    }
    CHECK_EQ(try_send(scene, 100, 0), -EAGAIN);
    return count;
}

/* is_faulty: its EAGAIN can't be told from the kernel's. */
static void
fill_for_certain(struct scene *scene, unsigned *count)
{
    char bytes[100];
    struct sockaddr_storage *name = &scene->raw_address.storage;
    if (!fixture_core.is_faulty) {
        *count = fill(scene);
        return;
    }
    for (*count = 0;; ++*count) {
        datagram_make(bytes, sizeof bytes, *count + 1);
        if (sendto(scene->probe.fd, bytes, sizeof bytes, 0, (struct sockaddr *)name, scene->raw_address.length) < 0) {
            CHECK(errno == EAGAIN);
            return;
        }
    }
}

static void
test_send_waits_for_a_full_receiver(void)
{
    for (int family = FAMILY_UNIX; family < FAMILY_COUNT; family++) {
        for (int is_connected = 0; is_connected < 2; is_connected++) {
            struct scene scene;
            unsigned count = 0;
            if (!family_exists((enum family)family)) {
                continue;
            }
            scene_open(&scene, (enum family)family, is_connected);
            fill_for_certain(&scene, &count);
            for (unsigned i = 0; i < 5; i++) {
                CHECK_EQ(datagram_send(&scene.probe, 100, count + 1 + i, scene.to, scene.to_len), 0);
                poll_for(3 * MS);
                CHECK(scene.probe.is_sending);
                if (is_connected) {
                    check_is_idle(); /* else poll(2) calls it writable however full the receiver is */
                }
                CHECK_EQ(raw_receive(scene.raw), i + 1);
                POLL_UNTIL(scene.probe.sends == i + 1);
                CHECK_EQ(scene.probe.send_status, 0);
            }
            for (unsigned i = 5; i < count + 5; i++) {
                CHECK_EQ(raw_receive(scene.raw), i + 1);
            }
            CHECK_EQ(raw_receive(scene.raw), -1);
            scene_close(&scene);
        }
    }
}

/* Receiving goes on while a send waits. */
static void
test_receive_while_a_send_waits(void)
{
    struct scene scene;
    unsigned count = 0;
    check_note("AF_UNIX");
    scene_open(&scene, FAMILY_UNIX, true);
    datagram_recv_start(&scene.probe);
    fill_for_certain(&scene, &count);
    CHECK_EQ(datagram_send(&scene.probe, 100, count + 1, NULL, 0), 0);
    for (unsigned i = 1; i <= 5; i++) {
        raw_send(scene.raw, 30, i, &scene.address);
        POLL_UNTIL(scene.probe.received == i);
        CHECK_EQ(scene.probe.last_number, i);
    }
    CHECK(scene.probe.is_sending);
    CHECK_EQ(raw_receive(scene.raw), 1);
    POLL_UNTIL(scene.probe.sends == 1);
    scene_close(&scene);
}

/* Its bytes, its iovec and its address are freed at once. */
static void
test_close_with_a_send_in_flight(void)
{
    for (int polls = 0; polls < 2; polls++) {
        struct scene scene;
        unsigned count = 0;
        scene_open(&scene, FAMILY_UNIX, polls == 0);
        fill_for_certain(&scene, &count);
        CHECK_EQ(datagram_send(&scene.probe, 100, count + 1, scene.to, scene.to_len), 0);
        for (int i = 0; i < polls; i++) {
            poll_once(0);
        }
        datagram_close(&scene.probe);
        for (unsigned i = 0; i < count; i++) {
            CHECK_EQ(raw_receive(scene.raw), i + 1);
        }
        CHECK_EQ(raw_receive(scene.raw), -1);
        check_is_idle();
        CHECK_EQ(scene.probe.sends, 0);
        scene_close(&scene);
    }
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, false);
        CHECK_EQ(datagram_send(&scene.probe, 100, 1, scene.to, scene.to_len), 0);
        datagram_close(&scene.probe);
        check_is_idle();
        scene_close(&scene);
    }
}

static void
close_in_sent(struct datagram_probe *probe, int status)
{
    CHECK_EQ(status, 0);
    datagram_close(probe);
}

static void
test_close_in_on_sent(void)
{
    struct scene scene;
    FOR_EACH_SCENE(scene, family, is_connected) {
        scene.probe.in_sent = close_in_sent;
        datagram_recv_start(&scene.probe);
        CHECK_EQ(datagram_send(&scene.probe, 100, 1, scene.to, scene.to_len), 0);
        POLL_UNTIL(scene.probe.datagram == NULL);
        CHECK_EQ(receive(&scene), 1);
        check_is_idle();
        scene_close(&scene);
    }
}

/* --- errors */

/* A send that fails says so once, in either way, and the next one works. */
static void
check_send_fails(struct scene *scene, size_t size, const struct address *to, int error, int other_error)
{
    int status;
    do {
        status = datagram_try_send(&scene->probe, size, 1, &to->storage, to->length);
    } while (status == -EAGAIN && fixture_core.is_faulty);
    CHECK(status == error || status == other_error);
    unsigned sends = scene->probe.sends;
    status = datagram_send(&scene->probe, size, 1, &to->storage, to->length);
    if (status == 0) {
        POLL_UNTIL(scene->probe.sends == sends + 1);
        status = scene->probe.send_status;
    }
    CHECK(status == error || status == other_error);
    check_is_idle();
    CHECK(!scene->probe.is_sending);
    CHECK_EQ(try_send(scene, 100, 7), 0);
    CHECK_EQ(receive(scene), 7);
    sends = scene->probe.sends;
    CHECK_EQ(datagram_send(&scene->probe, 100, 8, scene->to, scene->to_len), 0);
    POLL_UNTIL(scene->probe.sends == sends + 1);
    CHECK_EQ(scene->probe.send_status, 0);
    CHECK_EQ(receive(scene), 8);
}

static void
test_too_long(void)
{
    FOR_EACH_FAMILY(family) {
        struct scene scene;
        scene_open(&scene, family, false);
        check_send_fails(&scene, 8 << 20, &scene.raw_address, -EMSGSIZE, -EMSGSIZE);
        scene_close(&scene);
    }
}

static void
test_nobody_there(void)
{
    for (int family = FAMILY_UNIX; family < FAMILY_COUNT; family++) {
        struct scene scene;
        struct address nobody;
        if (!family_exists((enum family)family)) {
            continue;
        }
        scene_open(&scene, (enum family)family, false);
        close(datagram_socket((enum family)family, &nobody));
        check_send_fails(&scene, 100, &nobody, -ECONNREFUSED, -ENOENT);
        datagram_unlink(&nobody);
        scene_close(&scene);
    }
}

const struct check_test datagram_send_tests[] = {
    {"datagram_try_send", test_try_send},
    {"datagram_send", test_send},
    {"datagram_send_empty", test_send_empty},
    {"datagram_send_in_on_sent", test_send_in_on_sent},
    {"datagram_send_waits_for_a_full_receiver", test_send_waits_for_a_full_receiver},
    {"datagram_receive_while_a_send_waits", test_receive_while_a_send_waits},
    {"datagram_close_with_a_send_in_flight", test_close_with_a_send_in_flight},
    {"datagram_close_in_on_sent", test_close_in_on_sent},
    {"datagram_send_too_long", test_too_long},
    {"datagram_send_nobody_there", test_nobody_there},
    {NULL, NULL},
};
