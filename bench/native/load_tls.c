/* SPDX-License-Identifier: MIT
 *
 * load_tls.c - TLS for load_io.c.  Certificates are not looked at, and no session is resumed: each handshake is a whole one.
 */
#include "load_tls.h"

#include "load.h"

#ifdef HAVE_OPENSSL

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

struct tls {
    SSL *ssl;
    bool waits_to_read;
};

static SSL_CTX *
tls_context(void)
{
    static SSL_CTX *context;
    if (context == NULL) {
        context = SSL_CTX_new(TLS_client_method());
        if (context == NULL) {
            fail(EXIT_USAGE, "OpenSSL gives no context");
        }
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_read_ahead(context, 1);
    }
    return context;
}

struct tls *
tls_open(int fd)
{
    struct tls *tls = need_memory(sizeof *tls);
    tls->ssl = SSL_new(tls_context());
    if (tls->ssl == NULL || !SSL_set_fd(tls->ssl, fd)) {
        fail(EXIT_USAGE, "OpenSSL gives no connection");
    }
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void
tls_close(struct tls *tls)
{
    SSL_shutdown(tls->ssl);
    SSL_free(tls->ssl);
    free(tls);
}

static ssize_t
tls_result(struct tls *tls, int result, size_t count, const char *what)
{
    tls->waits_to_read = false;
    if (result > 0) {
        return (ssize_t)count;
    }
    int error = SSL_get_error(tls->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        tls->waits_to_read = error == SSL_ERROR_WANT_READ;
        return -EAGAIN;
    }
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    fail(EXIT_CLOSED, "TLS %s: %s", what, reason != NULL ? reason : "the server closed a connection");
}

ssize_t
tls_send(struct tls *tls, const char *data, size_t size)
{
    size_t count = 0;
    int result = SSL_write_ex(tls->ssl, data, size, &count);
    return tls_result(tls, result, count, "send");
}

ssize_t
tls_receive(struct tls *tls, char *data, size_t size)
{
    size_t count = 0;
    int result = SSL_read_ex(tls->ssl, data, size, &count);
    ssize_t received = tls_result(tls, result, count, "receive");
    tls->waits_to_read = false;
    return received;
}

bool
tls_has_more(const struct tls *tls)
{
    return SSL_has_pending(tls->ssl) == 1;
}

bool
tls_waits_to_read(const struct tls *tls)
{
    return tls->waits_to_read;
}

#else

struct tls *
tls_open(int fd)
{
    (void)fd;
    fail(EXIT_USAGE, "no TLS: the load client was built without OpenSSL's headers");
}

void
tls_close(struct tls *tls)
{
    (void)tls;
}

ssize_t
tls_send(struct tls *tls, const char *data, size_t size)
{
    (void)tls, (void)data, (void)size;
    return -1;
}

ssize_t
tls_receive(struct tls *tls, char *data, size_t size)
{
    (void)tls, (void)data, (void)size;
    return -1;
}

bool
tls_has_more(const struct tls *tls)
{
    (void)tls;
    return false;
}

bool
tls_waits_to_read(const struct tls *tls)
{
    (void)tls;
    return false;
}

#endif
