/* ALP, 5.10 and 5.11: a length and a text; "quit" ends the server.

   socket_messages server PATH
   socket_messages client PATH TEXT */

#include "sockets.h"

static int serve(int client)
{
    int size, over = 0;
    char *text;

    while (read(client, &size, sizeof size) == sizeof size) {
        text = malloc(size);
        checked("read", read(client, text, size));
        printf("%s\n", text);
        over = strcmp(text, "quit") == 0;
        free(text);
    }
    close(client);
    return over;
}

int main(int argc, char **argv)
{
    int fd, size;

    if (is(argv, "server")) {
        fd = listening_in(argv[2]);
        printf("ready\n");
        while (!serve(accepted(fd)))
            ;
        unlink(argv[2]);
        return 0;
    }
    fd = connected_in(argv[2]);
    size = strlen(argv[3]) + 1;
    checked("write", write(fd, &size, sizeof size));
    checked("write", write(fd, argv[3], size));
    return 0;
}
