/* A POSIX semaphore's other end in C: `posix_semaphore wait NAME` or `posix_semaphore post NAME`. Says what the value is then. */

#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    sem_t *semaphore;
    int value;

    alarm(60);
    if (argc < 3)
        return 2;
    semaphore = sem_open(argv[2], 0);
    if (semaphore == SEM_FAILED) {
        perror("sem_open");
        return 1;
    }
    if ((strcmp(argv[1], "wait") == 0 ? sem_wait : sem_post)(semaphore) < 0 || sem_getvalue(semaphore, &value) < 0) {
        perror(argv[1]);
        return 1;
    }
    printf("%d\n", value);
    return 0;
}
