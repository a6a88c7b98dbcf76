/* Beej, spair: spair parent PROGRAM ... gives the program one of two connected sockets; spair child FD is such a program. */

#include <ctype.h>

#include "sockets.h"

int main(int argc, char **argv)
{
    char byte = 'b', number[12];
    int ends[2];

    if (is(argv, "child")) {
        checked("read", read(atoi(argv[2]), &byte, 1));
        byte = toupper(byte);
        checked("write", write(atoi(argv[2]), &byte, 1));
        return 0;
    }
    checked("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    if (checked("fork", fork()) == 0) {
        char *arguments[32] = {NULL};

        close(ends[0]);
        snprintf(number, sizeof number, "%d", ends[1]);
        memcpy(arguments, argv + 2, (argc - 2) * sizeof *argv);
        arguments[argc - 2] = number;
        execvp(arguments[0], arguments);
        _exit(127);
    }
    close(ends[1]);
    checked("write", write(ends[0], &byte, 1));
    printf("parent: sent '%c'\n", byte);
    checked("read", read(ends[0], &byte, 1));
    printf("parent: read '%c'\n", byte);
    checked("wait", wait(NULL));
    return 0;
}
