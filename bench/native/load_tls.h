/* SPDX-License-Identifier: MIT
 *
 * load_tls.h - TLS 1.3 for the load client's sockets, by OpenSSL.  The first send or receive shakes hands.
 */
#ifndef RLOOP_BENCH_LOAD_TLS_H
#define RLOOP_BENCH_LOAD_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls;

struct tls *tls_open(int fd);
void tls_close(struct tls *tls);
/* As io_send and io_receive. */
ssize_t tls_send(struct tls *tls, const char *data, size_t size);
ssize_t tls_receive(struct tls *tls, char *data, size_t size);
bool tls_has_more(const struct tls *tls);
/* A send has to wait for something to read: the other side's part of the handshake. */
bool tls_waits_to_read(const struct tls *tls);

#endif
