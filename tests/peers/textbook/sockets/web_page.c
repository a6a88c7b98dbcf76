/* ALP, 5.12: web_page client PORT gets the home page of this machine's server; web_page server PORT has one. */

#include "sockets.h"

static const char page[] = "<html><body>Home.</body></html>\n";

int main(int argc, char **argv)
{
    char data[100];
    int fd, client;
    ssize_t size;

    if (is(argv, "client")) {
        fd = connected_to(argv[2]);
        checked("write", write(fd, "GET /\n", 6));
        while ((size = checked("read", read(fd, data, sizeof data))) > 0)
            fwrite(data, 1, size, stdout);
        return 0;
    }
    fd = listening_at(argv[2]);
    for (;;) {
        client = accepted(fd);
        if (read(client, data, sizeof data) == 6 && memcmp(data, "GET /\n", 6) == 0)
            checked("write", write(client, page, strlen(page)));
        close(client);
    }
}
