/* SPDX-License-Identifier: MIT
 *
 * address_cache.h - the internet addresses that a loop's datagrams came from and went to last, in both forms.
 *
 * Making (host, port) of the kernel's form, or that of a tuple, costs more than the rest of a datagram's way.  A cache
 * belongs to a loop and is used on its thread alone; it holds nothing but exact tuples of exact str and int, which can't
 * change and can't be part of a cycle, so that the garbage collector need not see them.
 */
#ifndef RLOOP_ADDRESS_CACHE_H
#define RLOOP_ADDRESS_CACHE_H

#include "module.h"

#include <sys/socket.h>

struct address_cache; /* made on first use; freed with address_cache_free, which takes NULL */

/* As socket_info_address: a new reference, or NULL with the exception set. */
PyObject *address_cache_object(struct address_cache **cache, module_state *state, const struct sockaddr *address,
                               socklen_t len);
/* As socket_info_parse. */
int address_cache_parse(struct address_cache **cache, int family, PyObject *object, struct sockaddr_storage *out,
                        socklen_t *len);
void address_cache_free(struct address_cache *cache);

#endif
