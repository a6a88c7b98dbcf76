/* A file lock's other end in C: `file_lock flock|ofd|posix shared|exclusive PATH START LENGTH` waits for the lock, says "held"
   and stays until its standard input ends; with a further argument, `try`, it does not wait: exit status 0 or 75.
   `file_lock fork ...` takes as `ofd`, leaves a child with the open file, says the child's pid instead; `fork-posix` likewise. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int fd, result, exclusive, try;
    pid_t child;

    alarm(60);
    if (argc < 6)
        return 2;
    exclusive = strcmp(argv[2], "shared") != 0;
    try = argc > 6;
    fd = open(argv[3], O_RDWR | O_CREAT, 0600);
    if (fd < 0) {
        perror("open");
        return 1;
    }
    if (strstr(argv[1], "flock")) {
        result = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (try ? LOCK_NB : 0));
    } else {
        struct flock lock = { .l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };
        int process = strstr(argv[1], "posix") != NULL;

        lock.l_start = atoll(argv[4]);
        lock.l_len = atoll(argv[5]);
        if (process)
            result = fcntl(fd, try ? F_SETLK : F_SETLKW, &lock);
        else
            result = fcntl(fd, try ? F_OFD_SETLK : F_OFD_SETLKW, &lock);
    }
    if (result < 0) {
        if (try && (errno == EAGAIN || errno == EACCES))
            return 75;
        perror("lock");
        return 1;
    }
    if (try)
        return 0;
    if (strncmp(argv[1], "fork", 4) == 0) {
        child = fork();
        if (child == 0) {
            alarm(60);
            return getchar() != EOF;
        }
        printf("%d\n", (int)child);
        fflush(stdout);
        pause();
    }
    puts("held");
    fflush(stdout);
    return getchar() != EOF;
}
