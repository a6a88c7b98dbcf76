/* Kalin, server and client over TCP: titles of books, and the same back. */

#include "sockets.h"

static const char *const titles[] = {"War and Peace", "Pride and Prejudice", "The Sound and the Fury"};

static void serve(int client)
{
    char data[256];
    ssize_t size;

    while ((size = checked("read", read(client, data, sizeof data))) > 0) {
        printf("%.*s\n", (int)size, data);
        checked("write", write(client, data, size));
    }
    close(client);
}

int main(int argc, char **argv)
{
    char data[256];
    int fd, size;

    if (is(argv, "server")) {
        fd = listening_at(argv[2]);
        for (;;)
            serve(accepted(fd));
    }
    fd = connected_to(argv[2]);
    for (int number = 0; number < 3; number++) {
        checked("write", write(fd, titles[number], strlen(titles[number])));
        size = checked("read", read(fd, data, sizeof data));
        printf("echo: %.*s\n", size, data);
    }
    printf("client done\n");
    return 0;
}
