/* The halves of the books' programs with a pipe.

   pipes to TEXT TIMES PROGRAM ...    write TEXT so many times into a pipe whose reading end PROGRAM gets, as its last argument
   pipes from PROGRAM ...             print what PROGRAM writes into the pipe, likewise
   pipes pipe4 FD                     one read(2), and what it gave (notes, pipe3 and pipe4)
   pipes lines FD                     copy lines (ALP, 5.7)
   pipes bytes FD                     copy byte by byte (Kalin, pipeUN)
   pipes write FD                     write "test" (Beej, pipe2) */

#include "book.h"

static pid_t start(char **program, int count, int passed, int closed)
{
    pid_t pid = checked("fork", fork());
    char number[12], *arguments[32];

    if (pid)
        return pid;
    close(closed);
    snprintf(number, sizeof number, "%d", passed);
    memcpy(arguments, program, count * sizeof *program);
    arguments[count] = number;
    arguments[count + 1] = NULL;
    execvp(arguments[0], arguments);
    _exit(127);
}

static int ended(pid_t pid)
{
    int status;

    checked("waitpid", waitpid(pid, &status, 0));
    printf("the child ended with %d\n", WEXITSTATUS(status));
    return 0;
}

static int to(char *text, int times, char **program, int count)
{
    int ends[2];
    pid_t pid;

    checked("pipe", pipe(ends));
    pid = start(program, count, ends[0], ends[1]);
    close(ends[0]);
    while (times--)
        checked("write", write(ends[1], text, strlen(text)));
    close(ends[1]);
    return ended(pid);
}

static int from(char **program, int count)
{
    char data[100];
    ssize_t size;
    int ends[2];
    pid_t pid;

    checked("pipe", pipe(ends));
    pid = start(program, count, ends[1], ends[0]);
    close(ends[1]);
    while ((size = checked("read", read(ends[0], data, sizeof data))) > 0)
        printf("the parent read \"%.*s\"\n", (int)size, data);
    return ended(pid);
}

int main(int argc, char **argv)
{
    char data[100];
    int size;

    if (is(argv, "to"))
        return to(argv[2], atoi(argv[3]), argv + 4, argc - 4);
    if (is(argv, "from"))
        return from(argv + 2, argc - 2);
    if (is(argv, "write"))
        return write(atoi(argv[2]), "test", 4) != 4;
    if (is(argv, "pipe4")) {
        size = checked("read", read(atoi(argv[2]), data, sizeof data));
        printf("pipe4 read %d bytes: %.*s\n", size, size, data);
    } else if (is(argv, "lines")) {
        FILE *lines = fdopen(atoi(argv[2]), "r");

        while (fgets(data, sizeof data, lines))
            fputs(data, stdout);
    } else if (is(argv, "bytes")) {
        while (read(atoi(argv[2]), data, 1) == 1)
            putchar(data[0]);
    }
    return 0;
}
