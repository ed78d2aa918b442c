/* SPDX-License-Identifier: MIT
 *
 * System calls that misbehave: what csrc/readiness_*.c calls in its second compilation, instead of the system's. Each
 * asks the script what to do with the call, and then passes it on, whole or cut short. See scripted_core.h.
 */
#define SCRIPTED_CALLS_KEEP_NAMES
#include "scripted_calls.h"

#include "check.h"
#include "random.h"
#include "scripted_core.h"

#include <errno.h>
#include <limits.h>

enum { PLANS_MAX = 8, CUT_IOV_MAX = 64 };

/* What a test has ordered for one direction of one fd. */
struct plan {
    bool is_used;
    int fd;
    enum scripted_direction direction;
    int error;
    unsigned times;
    size_t limit;
};

static struct plan plans[PLANS_MAX];
static struct scripted_odds odds;
static struct random dice = {1};

static struct plan *
plan_find(int fd, enum scripted_direction direction)
{
    for (unsigned i = 0; i < PLANS_MAX; i++) {
        if (plans[i].is_used && plans[i].fd == fd && plans[i].direction == direction) {
            return &plans[i];
        }
    }
    return NULL;
}

static struct plan *
plan_make(int fd, enum scripted_direction direction)
{
    struct plan *plan = plan_find(fd, direction);
    for (unsigned i = 0; plan == NULL && i < PLANS_MAX; i++) {
        if (!plans[i].is_used) {
            plan = &plans[i];
            *plan = (struct plan){.is_used = true, .fd = fd, .direction = direction};
        }
    }
    CHECK(plan != NULL);
    return plan;
}

void
scripted_fail(int fd, enum scripted_direction direction, int error, unsigned times)
{
    struct plan *plan = plan_make(fd, direction);
    plan->error = error;
    plan->times = times;
}

void
scripted_limit(int fd, enum scripted_direction direction, size_t limit)
{
    plan_make(fd, direction)->limit = limit;
}

unsigned
scripted_failures_left(void)
{
    unsigned left = 0;
    for (unsigned i = 0; i < PLANS_MAX; i++) {
        left += plans[i].is_used ? plans[i].times : 0;
    }
    return left;
}

void
scripted_set_odds(struct scripted_odds given)
{
    odds = given;
}

void
scripted_set_seed(uint64_t seed)
{
    dice.state = seed;
}

static bool
dice_say(unsigned percent)
{
    return percent > 0 && random_below(&dice, 100) < percent;
}

/* What becomes of a call: its result, when it does not take place, or else how many bytes it may move at most. */
struct verdict {
    bool is_refused;
    ssize_t result;
    size_t limit;
};

static struct verdict
verdict_refuse(int error)
{
    errno = error;
    return (struct verdict){.is_refused = true, .result = error == 0 ? 0 : -1};
}

/* A datagram is never cut: that would lose bytes and not delay them. */
static bool
fd_has_boundaries(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type != SOCK_STREAM;
}

static struct verdict
call_judge(int fd, enum scripted_direction direction, size_t wanted)
{
    struct plan *plan = plan_find(fd, direction);
    if (plan != NULL && plan->times > 0) {
        plan->times--;
        return verdict_refuse(plan->error);
    }
    if (dice_say(odds.eintr)) {
        return verdict_refuse(EINTR);
    }
    if (dice_say(odds.eagain)) {
        return verdict_refuse(EAGAIN);
    }
    struct verdict verdict = {.limit = SIZE_MAX};
    if (plan != NULL && plan->limit > 0) {
        verdict.limit = plan->limit;
    }
    else if (wanted > 1 && dice_say(odds.cut)) {
        verdict.limit = 1 + random_below(&dice, wanted < INT_MAX ? (unsigned)wanted : INT_MAX);
    }
    if (verdict.limit < wanted && fd_has_boundaries(fd)) {
        verdict.limit = SIZE_MAX;
    }
    return verdict;
}

static size_t
length_cut(size_t length, size_t limit)
{
    return length < limit ? length : limit;
}

static size_t
iovec_length(const struct iovec *iov, size_t iovcnt)
{
    size_t length = 0;
    for (size_t i = 0; i < iovcnt; i++) {
        length += iov[i].iov_len;
    }
    return length;
}

/* The first `limit` bytes of some buffers, as many of them as fit into `cut`. */
static size_t
iovec_cut(struct iovec cut[CUT_IOV_MAX], const struct iovec *iov, size_t iovcnt, size_t limit)
{
    size_t count = 0;
    while (count < iovcnt && count < CUT_IOV_MAX && limit > 0) {
        cut[count] = (struct iovec){iov[count].iov_base, length_cut(iov[count].iov_len, limit)};
        limit -= cut[count].iov_len;
        count++;
    }
    return count;
}

/* --- in */

ssize_t
scripted_read(int fd, void *buffer, size_t length)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_IN, length);
    return verdict.is_refused ? verdict.result : read(fd, buffer, length_cut(length, verdict.limit));
}

ssize_t
scripted_readv(int fd, const struct iovec *iov, int iovcnt)
{
    struct iovec cut[CUT_IOV_MAX];
    struct verdict verdict = call_judge(fd, SCRIPTED_IN, iovec_length(iov, (size_t)iovcnt));
    if (verdict.is_refused) {
        return verdict.result;
    }
    if (verdict.limit == SIZE_MAX) {
        return readv(fd, iov, iovcnt);
    }
    return readv(fd, cut, (int)iovec_cut(cut, iov, (size_t)iovcnt, verdict.limit));
}

ssize_t
scripted_recv(int fd, void *buffer, size_t length, int flags)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_IN, length);
    return verdict.is_refused ? verdict.result : recv(fd, buffer, length_cut(length, verdict.limit), flags);
}

ssize_t
scripted_recvfrom(int fd, void *buffer, size_t length, int flags, struct sockaddr *from, socklen_t *from_len)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_IN, length);
    if (verdict.is_refused) {
        return verdict.result;
    }
    return recvfrom(fd, buffer, length_cut(length, verdict.limit), flags, from, from_len);
}

ssize_t
scripted_recvmsg(int fd, struct msghdr *message, int flags)
{
    struct iovec cut[CUT_IOV_MAX];
    struct verdict verdict = call_judge(fd, SCRIPTED_IN, iovec_length(message->msg_iov, message->msg_iovlen));
    if (verdict.is_refused) {
        return verdict.result;
    }
    if (verdict.limit == SIZE_MAX) {
        return recvmsg(fd, message, flags);
    }
    struct msghdr shorter = *message;
    shorter.msg_iovlen = iovec_cut(cut, message->msg_iov, message->msg_iovlen, verdict.limit);
    shorter.msg_iov = cut;
    ssize_t count = recvmsg(fd, &shorter, flags);
    message->msg_namelen = shorter.msg_namelen;
    message->msg_flags = shorter.msg_flags;
    return count;
}

/* --- out */

ssize_t
scripted_write(int fd, const void *buffer, size_t length)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_OUT, length);
    return verdict.is_refused ? verdict.result : write(fd, buffer, length_cut(length, verdict.limit));
}

ssize_t
scripted_writev(int fd, const struct iovec *iov, int iovcnt)
{
    struct iovec cut[CUT_IOV_MAX];
    struct verdict verdict = call_judge(fd, SCRIPTED_OUT, iovec_length(iov, (size_t)iovcnt));
    if (verdict.is_refused) {
        return verdict.result;
    }
    if (verdict.limit == SIZE_MAX) {
        return writev(fd, iov, iovcnt);
    }
    return writev(fd, cut, (int)iovec_cut(cut, iov, (size_t)iovcnt, verdict.limit));
}

ssize_t
scripted_send(int fd, const void *buffer, size_t length, int flags)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_OUT, length);
    return verdict.is_refused ? verdict.result : send(fd, buffer, length_cut(length, verdict.limit), flags);
}

ssize_t
scripted_sendto(int fd, const void *buffer, size_t length, int flags, const struct sockaddr *to, socklen_t to_len)
{
    struct verdict verdict = call_judge(fd, SCRIPTED_OUT, length);
    if (verdict.is_refused) {
        return verdict.result;
    }
    return sendto(fd, buffer, length_cut(length, verdict.limit), flags, to, to_len);
}

ssize_t
scripted_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct iovec cut[CUT_IOV_MAX];
    struct verdict verdict = call_judge(fd, SCRIPTED_OUT, iovec_length(message->msg_iov, message->msg_iovlen));
    if (verdict.is_refused) {
        return verdict.result;
    }
    struct msghdr shorter = *message;
    if (verdict.limit < SIZE_MAX) {
        shorter.msg_iovlen = iovec_cut(cut, message->msg_iov, message->msg_iovlen, verdict.limit);
        shorter.msg_iov = cut;
    }
    return sendmsg(fd, &shorter, flags);
}
