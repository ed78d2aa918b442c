/* SPDX-License-Identifier: MIT
 *
 * The cache of datagrams' addresses; see address_cache.h.
 *
 * Two tables, one found by the kernel's form and one by the object's identity, where each place remembers the last
 * address that fell to it.  A reference keeps an object in its place, so that its identity is nobody else's.
 */
#include "address_cache.h"

#include "socket_info.h"

#include <netinet/in.h>
#include <string.h>

enum { PLACES = 64, PLACE_BITS = 6 };

struct place {
    PyObject *object; /* NULL: empty */
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in inet;
        struct sockaddr_in6 inet6;
    } address;
};

struct address_cache {
    struct place by_address[PLACES];
    struct place by_object[PLACES];
};

static size_t
place_number(uint64_t key)
{
    return (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - PLACE_BITS));
}

static struct place *
place_of_address(struct address_cache *cache, const struct sockaddr *address)
{
    uint64_t key;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *inet = (const struct sockaddr_in *)address;
        key = (uint64_t)inet->sin_addr.s_addr << 16 | inet->sin_port;
    }
    else {
        const struct sockaddr_in6 *inet6 = (const struct sockaddr_in6 *)address;
        uint64_t halves[2];
        memcpy(halves, &inet6->sin6_addr, sizeof halves);
        key = halves[0] * 31 + halves[1] * 7 + inet6->sin6_port;
    }
    return &cache->by_address[place_number(key)];
}

static struct place *
place_of_object(struct address_cache *cache, PyObject *object)
{
    return &cache->by_object[place_number((uint64_t)(uintptr_t)object >> 4)];
}

static void
place_fill(struct place *place, PyObject *object, const void *address, socklen_t len)
{
    Py_XSETREF(place->object, Py_NewRef(object));
    place->len = len;
    memcpy(&place->address, address, len);
}

/* The cache, if an address of this family and length may be in it. */
static struct address_cache *
cache_for(struct address_cache **cache, int family, size_t len)
{
    bool is_inet = (family == AF_INET && len == sizeof(struct sockaddr_in)) ||
                   (family == AF_INET6 && len == sizeof(struct sockaddr_in6));
    if (is_inet && *cache == NULL) {
        *cache = PyMem_Calloc(1, sizeof **cache); /* goes without if there is no memory */
    }
    return is_inet ? *cache : NULL;
}

PyObject *
address_cache_object(struct address_cache **cache_slot, module_state *state, const struct sockaddr *address,
                     socklen_t len)
{
    struct address_cache *cache = len > 0 ? cache_for(cache_slot, address->sa_family, len) : NULL;
    if (cache == NULL) {
        return socket_info_address(state, address, len);
    }
    struct place *place = place_of_address(cache, address);
    if (place->object != NULL && place->len == len && memcmp(&place->address, address, len) == 0) {
        return Py_NewRef(place->object);
    }
    PyObject *object = socket_info_address(state, address, len);
    if (object != NULL) {
        place_fill(place, object, address, len);
        place_fill(place_of_object(cache, object), object, address, len); /* an answer is likely */
    }
    return object;
}

/* Is it what can't change and can't be part of a cycle? */
static bool
object_is_plain(PyObject *object)
{
    if (!PyTuple_CheckExact(object)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); i++) {
        PyObject *item = PyTuple_GET_ITEM(object, i);
        if (!PyUnicode_CheckExact(item) && !PyLong_CheckExact(item)) {
            return false;
        }
    }
    return true;
}

int
address_cache_parse(struct address_cache **cache_slot, int family, PyObject *object, struct sockaddr_storage *out,
                    socklen_t *len)
{
    struct address_cache *cache = *cache_slot;
    struct place *place = cache == NULL ? NULL : place_of_object(cache, object);
    if (place != NULL && place->object == object && place->address.any.sa_family == family) {
        memcpy(out, &place->address, place->len);
        *len = place->len;
        return 1;
    }
    int is_parsed = socket_info_parse(family, object, out, len);
    cache = is_parsed == 1 && object_is_plain(object) ? cache_for(cache_slot, family, *len) : NULL;
    if (cache != NULL) {
        place_fill(place_of_object(cache, object), object, out, *len);
    }
    return is_parsed;
}

void
address_cache_free(struct address_cache *cache)
{
    for (size_t i = 0; cache != NULL && i < PLACES; i++) {
        Py_XDECREF(cache->by_address[i].object);
        Py_XDECREF(cache->by_object[i].object);
    }
    PyMem_Free(cache);
}
