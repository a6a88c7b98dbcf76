/* Sockets of the two families that the books have. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../book.h"

static inline struct sockaddr_un named(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static inline struct sockaddr_in numbered(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int listening(int family, void *address, socklen_t size)
{
    int fd = checked("socket", socket(family, SOCK_STREAM, 0)), yes = 1;

    checked("setsockopt", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    checked("bind", bind(fd, address, size));
    checked("listen", listen(fd, 10));
    return fd;
}

static inline int connected(int family, void *address, socklen_t size)
{
    int fd = checked("socket", socket(family, SOCK_STREAM, 0));

    checked("connect", connect(fd, address, size));
    return fd;
}

/* The port that a socket has, which the kernel may have picked. */
static inline int port_of(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;

    checked("getsockname", getsockname(fd, (struct sockaddr *)&address, &size));
    return ntohs(address.sin_port);
}

static inline int listening_at(const char *port)
{
    struct sockaddr_in address = numbered(port);
    int fd = listening(AF_INET, &address, sizeof address);

    printf("listening on port %d\n", port_of(fd));
    return fd;
}

static inline int connected_to(const char *port)
{
    struct sockaddr_in address = numbered(port);

    return connected(AF_INET, &address, sizeof address);
}

static inline int listening_in(const char *path)
{
    struct sockaddr_un address = named(path);

    unlink(path);
    return listening(AF_UNIX, &address, sizeof address);
}

static inline int connected_in(const char *path)
{
    struct sockaddr_un address = named(path);

    return connected(AF_UNIX, &address, sizeof address);
}

static inline int accepted(int fd)
{
    return checked("accept", accept(fd, NULL, NULL));
}
