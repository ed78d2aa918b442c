/* SPDX-License-Identifier: MIT
 *
 * Counting TLS records; see tls.h.  A record that is not whole yet can't be decrypted, and asking OpenSSL for it costs
 * an exception (SSLWantReadError): so we look at the headers, which TLS never encrypts (RFC 8446, 5.1).
 */
#include "tls.h"

#include <string.h>

enum { TYPE_FIRST = 20, TYPE_LAST = 24, VERSION_MAJOR = 3 };

static void
framing_end_record(struct tls_framing *framing)
{
    framing->whole++;
    framing->whole_size += (size_t)(framing->header[3] << 8 | framing->header[4]);
    framing->header_size = 0;
}

static void
framing_begin_body(struct tls_framing *framing)
{
    const unsigned char *header = framing->header;
    framing->body_left = (size_t)(header[3] << 8 | header[4]);
    if (header[0] < TYPE_FIRST || header[0] > TYPE_LAST || header[1] != VERSION_MAJOR ||
        framing->body_left > TLS_BODY_MAX)
    {
        framing->is_lost = true;
    }
    else if (framing->body_left == 0) {
        framing_end_record(framing);
    }
}

void
tls_framing_feed(struct tls_framing *framing, const unsigned char *data, size_t size)
{
    while (size > 0 && !framing->is_lost) {
        bool is_header = framing->body_left == 0;
        size_t wanted = is_header ? (size_t)(TLS_HEADER_SIZE - framing->header_size) : framing->body_left;
        size_t taken = size < wanted ? size : wanted;
        if (is_header) {
            memcpy(framing->header + framing->header_size, data, taken);
            framing->header_size += (unsigned char)taken;
            if (framing->header_size == TLS_HEADER_SIZE) {
                framing_begin_body(framing);
            }
        }
        else {
            framing->body_left -= taken;
            if (framing->body_left == 0) {
                framing_end_record(framing);
            }
        }
        data += taken;
        size -= taken;
    }
}

void
tls_framing_forget(struct tls_framing *framing)
{
    framing->whole = 0;
    framing->whole_size = 0;
}
