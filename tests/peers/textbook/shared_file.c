/* Kalin, producer and consumer: fcntl(2) locks on data.dat. */

#include "book.h"

static const char text[] = "Once upon a midnight dreary,\nwhile I pondered, weak and weary.\n";

int main(int argc, char **argv)
{
    int writes = is(argv, "producer");
    struct flock lock = {.l_type = writes ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    int fd = checked("open", open("data.dat", O_RDWR | O_CREAT, 0666));
    char byte;

    if (!writes) {
        checked("F_GETLK", fcntl(fd, F_GETLK, &lock));
        if (lock.l_type != F_UNLCK)
            printf("consumer: process %d is writing, so this waits\n", lock.l_pid);
        lock.l_type = F_RDLCK;
    }
    checked("F_SETLKW", fcntl(fd, F_SETLKW, &lock));
    if (writes)
        printf("producer: wrote %ld bytes\n", checked("write", write(fd, text, strlen(text))));
    else
        while (read(fd, &byte, 1) == 1)
            putchar(byte);
    lock.l_type = F_UNLCK;
    checked("F_SETLK", fcntl(fd, F_SETLK, &lock));
    return 0;
}
