/* Beej, lockdemo: Return locks the file lockdemo.c, the next one unlocks it. */

#include "book.h"

int main(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = checked("open", open("lockdemo.c", O_RDWR));

    printf("Press <RETURN> to try to get lock:\n");
    next_line();
    printf("Trying to get lock...\n");
    checked("F_SETLKW", fcntl(fd, F_SETLKW, &lock));
    printf("got lock\n");
    printf("Press <RETURN> to release lock:\n");
    next_line();
    lock.l_type = F_UNLCK;
    checked("F_SETLK", fcntl(fd, F_SETLK, &lock));
    printf("Unlocked.\n");
    return 0;
}
