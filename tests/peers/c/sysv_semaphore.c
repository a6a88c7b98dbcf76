/* A System V semaphore set's other end in C: `sysv_semaphore undo|keep KEY INDEX:DELTA ...` does the steps in one semop(2),
   with SEM_UNDO or without, says "done" and stays until its standard input ends. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sembuf steps[64];
    int set, i, count = argc - 3;

    alarm(60);
    if (count < 1 || count > 64)
        return 2;
    set = semget((key_t)strtoul(argv[2], NULL, 0), 0, 0);
    if (set < 0) {
        perror("semget");
        return 1;
    }
    for (i = 0; i < count; i++) {
        char *rest;

        steps[i].sem_num = strtoul(argv[i + 3], &rest, 0);
        steps[i].sem_op = atoi(rest + 1);
        steps[i].sem_flg = strcmp(argv[1], "undo") ? 0 : SEM_UNDO;
    }
    if (semop(set, steps, count) < 0) {
        perror("semop");
        return 1;
    }
    puts("done");
    fflush(stdout);
    return getchar() != EOF;
}
