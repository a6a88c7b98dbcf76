/* Notes and Unit V: iserver server PORT forks for each client; iserver client PORT CHARACTER is one. */

#include "sockets.h"

static void serve(int client)
{
    char character;

    while (read(client, &character, 1) == 1) {
        character++;
        checked("write", write(client, &character, 1));
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    char character = argc > 3 ? argv[3][0] : 'A';
    int fd, client;

    if (is(argv, "client")) {
        fd = connected_to(argv[2]);
        checked("write", write(fd, &character, 1));
        checked("read", read(fd, &character, 1));
        printf("char from server = %c\n", character);
        return 0;
    }
    signal(SIGCHLD, SIG_IGN);
    fd = listening_at(argv[2]);
    for (;;) {
        client = accepted(fd);
        if (checked("fork", fork()) == 0)
            serve(client);
        close(client);
    }
}
