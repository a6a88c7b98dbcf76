/* A TCP connection's other end in C: it sends TEXT as one message, and prints the one that comes.
 *
 *   tcp connect HOST PORT none|u32 TEXT
 *   tcp listen HOST none|u32 TEXT         (prints its port first)
 *
 * A message is a length of four bytes, big-endian, and the payload (u32); or all bytes until the end of the stream (none).
 */

#include <arpa/inet.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct addrinfo *resolve(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        fail("getaddrinfo");
    return found;
}

static int connected(const char *host, const char *port)
{
    struct addrinfo *place = resolve(host, port);
    int fd = socket(place->ai_family, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, place->ai_addr, place->ai_addrlen) < 0)
        fail("connect");
    freeaddrinfo(place);
    return fd;
}

static int accepted(const char *host)
{
    struct addrinfo *place = resolve(host, "0");
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    char port[8];
    int fd = socket(place->ai_family, SOCK_STREAM, 0), connection;

    if (fd < 0 || bind(fd, place->ai_addr, place->ai_addrlen) < 0 || listen(fd, 1) < 0)
        fail("listen");
    freeaddrinfo(place);
    getsockname(fd, (struct sockaddr *)&own, &length);
    getnameinfo((struct sockaddr *)&own, length, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    printf("%s\n", port);
    fflush(stdout);
    connection = accept(fd, NULL, NULL);
    if (connection < 0)
        fail("accept");
    return connection;
}

static void put(int fd, const void *data, size_t size)
{
    const char *next = data;

    while (size > 0) {
        ssize_t count = write(fd, next, size);
        if (count < 0)
            fail("write");
        next += count;
        size -= count;
    }
}

static size_t get(int fd, void *data, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t count = read(fd, (char *)data + have, size - have);
        if (count < 0)
            fail("read");
        if (count == 0)
            break;
        have += count;
    }
    return have;
}

int main(int argc, char **argv)
{
    static char message[1 << 20];
    const char *text;
    size_t size = sizeof message;
    int fd, prefixed;

    alarm(60);
    if (argc < 5)
        return 2;
    fd = strcmp(argv[1], "connect") == 0 ? connected(argv[2], argv[3]) : accepted(argv[2]);
    text = argv[argc - 1];
    prefixed = strcmp(argv[argc - 2], "u32") == 0;
    if (prefixed) {
        uint32_t length = htonl(strlen(text));
        put(fd, &length, sizeof length);
    }
    put(fd, text, strlen(text));
    if (prefixed) {
        uint32_t length;
        if (get(fd, &length, sizeof length) < sizeof length || ntohl(length) > sizeof message)
            return 3;
        size = ntohl(length);
    } else {
        shutdown(fd, SHUT_WR);
    }
    size = get(fd, message, size);
    printf("%.*s\n", (int)size, message);
    return 0;
}
