/* Notes: a server of Unix datagrams, which answers in capitals.

   uppercase_datagrams server PATH
   uppercase_datagrams client PATH WORD ... */

#include <ctype.h>

#include "sockets.h"

static void serve(int fd)
{
    struct sockaddr_un client;
    socklen_t length;
    char data[100];
    ssize_t size;

    printf("server waiting\n");
    for (;;) {
        length = sizeof client;
        size = checked("recvfrom", recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&client, &length));
        printf("server received %zd bytes\n", size);
        for (int at = 0; at < size; at++)
            data[at] = toupper(data[at]);
        checked("sendto", sendto(fd, data, size, 0, (struct sockaddr *)&client, length));
    }
}

int main(int argc, char **argv)
{
    int fd = checked("socket", socket(AF_UNIX, SOCK_DGRAM, 0)), size;
    struct sockaddr_un server = named(argv[2]), own;
    char data[100], path[100];

    if (is(argv, "server")) {
        unlink(argv[2]);
        checked("bind", bind(fd, (struct sockaddr *)&server, sizeof server));
        serve(fd);
    }
    snprintf(path, sizeof path, "ud_ucase_cl.%d", getpid());
    own = named(path);
    checked("bind", bind(fd, (struct sockaddr *)&own, sizeof own));
    for (int word = 3; word < argc; word++) {
        checked("sendto", sendto(fd, argv[word], strlen(argv[word]), 0, (struct sockaddr *)&server, sizeof server));
        size = checked("recvfrom", recvfrom(fd, data, sizeof data, 0, NULL, NULL));
        printf("response %d: %.*s\n", word - 2, size, data);
    }
    unlink(path);
    return 0;
}
