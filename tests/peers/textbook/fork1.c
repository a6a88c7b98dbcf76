/* Beej, fork1.

   fork1 parent PROGRAM ...    start it, wait, print its exit status
   fork1 child                 read the exit status from standard input, and end with it */

#include "book.h"

int main(int argc, char **argv)
{
    int status;

    if (is(argv, "child")) {
        printf("CHILD: enter my exit status (0 to 255)\n");
        status = atoi(next_line());
        printf("CHILD: goodbye\n");
        return status;
    }
    printf("PARENT: waiting for the child\n");
    if (checked("fork", fork()) == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    checked("wait", wait(&status));
    printf("PARENT: the child's exit status is %d\n", WEXITSTATUS(status));
    return 0;
}
