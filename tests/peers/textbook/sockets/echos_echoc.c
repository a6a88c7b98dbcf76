/* Beej, echos and echoc: the server sends back what the client sends, through echo_socket. */

#include "sockets.h"

#define SOCKET "echo_socket"

static void echos(void)
{
    int fd = listening_in(SOCKET), client;
    char data[100];
    ssize_t size;

    printf("Waiting for a connection...\n");
    for (;;) {
        client = accepted(fd);
        printf("Connected.\n");
        while ((size = checked("recv", recv(client, data, sizeof data, 0))) > 0)
            checked("send", send(client, data, size, 0));
        close(client);
    }
}

static void echoc(void)
{
    int fd = connected_in(SOCKET);
    char data[100], *line;
    int size;

    printf("Connected.\n");
    while ((line = next_line()) != NULL) {
        checked("send", send(fd, line, strlen(line), 0));
        size = checked("recv", recv(fd, data, sizeof data, 0));
        printf("echo> %.*s\n", size, data);
    }
}

int main(int argc, char **argv)
{
    if (is(argv, "echos"))
        echos();
    else
        echoc();
    return 0;
}
