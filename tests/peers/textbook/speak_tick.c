/* Beej, speak and tick: lines of standard input go through the FIFO american_maid. */

#include <sys/stat.h>

#include "book.h"

#define FIFO "american_maid"

static void speak(void)
{
    char *line;
    int fd;

    printf("speak: waiting for readers\n");
    fd = checked("open", open(FIFO, O_WRONLY));
    printf("speak: got a reader, type some stuff\n");
    while ((line = next_line()) != NULL)
        printf("speak: wrote %ld bytes\n", checked("write", write(fd, line, strlen(line))));
}

static void tick(void)
{
    char data[300];
    ssize_t size;
    int fd;

    printf("tick: waiting for writers\n");
    fd = checked("open", open(FIFO, O_RDONLY));
    printf("tick: got a writer\n");
    while ((size = checked("read", read(fd, data, sizeof data))) > 0)
        printf("tick: read %zd bytes: \"%.*s\"\n", size, (int)size, data);
}

int main(int argc, char **argv)
{
    if (mkfifo(FIFO, 0666) == -1 && errno != EEXIST)
        checked("mkfifo", -1);
    if (is(argv, "speak"))
        speak();
    else
        tick();
    return 0;
}
