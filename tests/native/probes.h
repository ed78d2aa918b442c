/* SPDX-License-Identifier: MIT
 *
 * probes.h - objects that stand where transports stand: they own a core object, count and check every callback of it.
 *
 * Bytes on a stream follow a pattern of their offset and a key, so that one lost, doubled or swapped byte is seen where
 * it happens. Each read gets a fresh buffer of malloc and each write its own bytes, freed at the earliest moment that
 * the contract allows, so that a sanitizer sees a core that holds on to them. Every callback checks what holds always:
 * pairing of on_buffer and on_read, the limit of reads per poll, nothing after stop, end or close, one completion per
 * write.
 */
#ifndef RLOOP_TESTS_PROBES_H
#define RLOOP_TESTS_PROBES_H

#include "fixture.h"

/* The probe, of any type, that has offered a buffer and waits for the on_read that must come next; else NULL. */
extern void *probes_unpaired;
void probes_check_paired(void);

/* --- bytes */
unsigned char pattern_byte(unsigned key, size_t offset);
void pattern_fill(void *buffer, size_t length, unsigned key, size_t offset);
void pattern_check(const void *buffer, size_t length, unsigned key, size_t offset);

/* The other end of a channel, by plain system calls on a non-blocking fd. */
struct raw_end {
    int fd;
    unsigned key;
    size_t sent, received;
    bool has_eof;
};
/* Write up to `length` bytes of the pattern; the count that went in. */
size_t raw_write(struct raw_end *raw, size_t length);
/* Read and check what is there, at most `limit`; the count. */
size_t raw_read(struct raw_end *raw, size_t limit);

/* --- stream */

struct stream_probe {
    /* Before open, if wanted. */
    unsigned key;       /* of the pattern, in both directions */
    size_t buffer_size; /* what on_buffer offers; 0 declines */
    bool is_unchecked;  /* bytes of no pattern come in */
    void (*in_buffer)(struct stream_probe *);
    void (*in_read)(struct stream_probe *, ssize_t result);
    void (*in_written)(struct stream_probe *, int status);
    struct stream_probe *other; /* whatever a test needs */
    unsigned budget;

    struct core_stream *stream; /* NULL when closed */
    enum core_stream_kind kind;
    int fd;

    /* Reading. */
    bool is_reading;
    unsigned buffers; /* calls of on_buffer */
    unsigned reads;   /* calls of on_read, -EAGAIN left out */
    size_t received;  /* bytes */
    bool has_eof;
    int read_error;
    char *offered; /* between on_buffer and on_read */
    size_t offered_size;
    unsigned poll; /* of the numbers of polls, what the two below are about */
    unsigned reads_in_poll;
    bool is_done_in_poll;

    /* Writing. */
    bool is_writing;
    unsigned writes; /* calls of on_written */
    int write_status;
    size_t sent; /* bytes given to the core and not refused */
    size_t write_size;
    char *write_bytes;
    struct iovec *write_iov;
};

void stream_open(struct stream_probe *probe, int fd, enum core_stream_kind kind);
void stream_read_start(struct stream_probe *probe);
void stream_read_stop(struct stream_probe *probe);
/* Closes, and frees at once whatever the core had been lent; checks that the fd is closed. */
void stream_close(struct stream_probe *probe);
/* Put `length` bytes of the pattern in flight, in `pieces` iovecs of uneven size.  The status of stream_write. */
int stream_write(struct stream_probe *probe, size_t length, unsigned pieces);
ssize_t stream_try_write(struct stream_probe *probe, size_t length, unsigned pieces);
/* Until the kernel takes no more; the bytes that went in. */
size_t stream_fill(struct stream_probe *probe);
/* What a write lent to the core is the probe's again: close does this by itself, loop_destroy can't. */
void stream_free_write(struct stream_probe *probe);

/* --- watch */

struct watch_probe {
    void (*in_ready)(struct watch_probe *, unsigned ready);
    struct watch_probe *other;
    unsigned budget;

    struct core_watch *watch; /* NULL when closed */
    int fd;
    unsigned interest;
    unsigned calls;
    unsigned seen;    /* all that was ever reported */
    unsigned poll;    /* number of the poll that the next is about */
    unsigned in_poll; /* what was reported in it */
};

void watch_open(struct watch_probe *probe, int fd);
void watch_set(struct watch_probe *probe, unsigned interest);
void watch_close(struct watch_probe *probe);
/* What the next poll reports, without waiting. */
unsigned watch_poll(struct watch_probe *probe);

/* --- datagram */

struct datagram_probe {
    size_t buffer_size; /* 0 declines */
    void (*in_buffer)(struct datagram_probe *);
    void (*in_datagram)(struct datagram_probe *, ssize_t result);
    void (*in_sent)(struct datagram_probe *, int status);
    struct datagram_probe *other;
    unsigned budget;

    struct core_datagram *datagram; /* NULL when closed */
    int fd;

    bool is_receiving;
    unsigned buffers;
    unsigned received; /* datagrams */
    int error;         /* the last one */
    unsigned errors;
    ssize_t last_size;
    unsigned last_number; /* what datagram_make wrote into it */
    struct sockaddr_storage last_from;
    socklen_t last_from_len;
    char *offered;
    unsigned poll;
    unsigned reads_in_poll;
    bool is_done_in_poll;

    bool is_sending;
    unsigned sends; /* calls of on_sent */
    int send_status;
    char *send_bytes;
    struct iovec *send_iov;
    struct sockaddr *send_to;
};

void datagram_open(struct datagram_probe *probe, int fd);
void datagram_recv_start(struct datagram_probe *probe);
void datagram_recv_stop(struct datagram_probe *probe);
void datagram_close(struct datagram_probe *probe);
/* A datagram of `size` bytes that carries a number, when it is long enough. */
void datagram_make(char *bytes, size_t size, unsigned number);
int datagram_try_send(struct datagram_probe *probe, size_t size, unsigned number, const void *to, socklen_t to_len);
int datagram_send(struct datagram_probe *probe, size_t size, unsigned number, const void *to, socklen_t to_len);
void datagram_free_send(struct datagram_probe *probe);

#endif
