/* Notes and Unit V: the client sends a character through server_socket, and gets the next one. */

#include "sockets.h"

#define SOCKET "server_socket"

int main(int argc, char **argv)
{
    char character = argv[1] && argv[2] ? argv[2][0] : 'A';
    int fd, client;

    if (is(argv, "client")) {
        fd = connected_in(SOCKET);
        checked("write", write(fd, &character, 1));
        checked("read", read(fd, &character, 1));
        printf("char from server = %c\n", character);
        return 0;
    }
    fd = listening_in(SOCKET);
    printf("server waiting\n");
    for (;;) {
        client = accepted(fd);
        if (read(client, &character, 1) == 1) {
            character++;
            checked("write", write(client, &character, 1));
        }
        close(client);
    }
}
