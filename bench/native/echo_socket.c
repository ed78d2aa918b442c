/* SPDX-License-Identifier: MIT
 *
 * echo_socket.c - a bound socket for the echo servers: 127.0.0.1 with a port of the system's choice, or a path in $TMPDIR.
 */
#include "echo_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#ifdef __linux__
#include <sched.h>
#endif

void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void
stay_on_core(int core)
{
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)core, &set);
    sched_setaffinity(0, sizeof set, &set);
#else
    (void)core;
#endif
}

static int
bind_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *folder = getenv("TMPDIR");
    snprintf(address.sun_path, sizeof address.sun_path, "%s/echo", folder != NULL ? folder : "/tmp");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die(address.sun_path);
    }
    return fd;
}

static int
bind_inet(int type)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        die("bind");
    }
    return fd;
}

struct echo_socket
echo_socket_open(int argc, char **argv)
{
    struct echo_socket server = {.fd = -1};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        fprintf(stderr, "usage: %s (--tcp | --udp | --unix) [--cpu CORE]\n", argv[0]);
        exit(2);
    }
    if (argc == 4) {
        stay_on_core(atoi(argv[3]));
    }
    server.is_unix = strcmp(argv[1], "--unix") == 0;
    server.is_datagram = strcmp(argv[1], "--udp") == 0;
    server.fd = server.is_unix ? bind_unix() : bind_inet(server.is_datagram ? SOCK_DGRAM : SOCK_STREAM);
    fcntl(server.fd, F_SETFL, O_NONBLOCK);
    return server;
}

void
echo_socket_announce(const struct echo_socket *server)
{
    if (server->is_unix) {
        struct sockaddr_un address;
        socklen_t size = sizeof address;
        getsockname(server->fd, (struct sockaddr *)&address, &size);
        printf("{\"address\": [\"--unix\", \"%s\"]}\n", address.sun_path);
    }
    else {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        getsockname(server->fd, (struct sockaddr *)&address, &size);
        printf("{\"address\": [\"%s\", \"%d\"]}\n", server->is_datagram ? "--udp" : "--tcp", ntohs(address.sin_port));
    }
    fflush(stdout);
}
