/* C beside aipc's Event, Barrier, RWLock and Condition: plain semop(2) on their sets.
 *
 *   primitives KEY event-wait | event-set | lock | read | write
 *
 * Prints "done" when it has what it wanted; what it holds it keeps until its standard input ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>

static void operate(int set, struct sembuf *steps, size_t count)
{
    if (semop(set, steps, count) < 0) {
        perror("semop");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int set = semget((key_t)strtoul(argv[1], NULL, 0), 0, 0);
    const char *what = argv[2];

    if (set < 0 || argc != 3)
        return 2;
    if (strcmp(what, "event-wait") == 0) {
        struct sembuf steps[] = {{1, 0, 0}};
        operate(set, steps, 1);
    } else if (strcmp(what, "event-set") == 0) { /* clear, so far */
        struct sembuf steps[] = {{1, -1, 0}, {2, 1, 0}};
        operate(set, steps, 2);
    } else if (strcmp(what, "lock") == 0) { /* a condition's */
        struct sembuf steps[] = {{1, 0, 0}, {1, 1, SEM_UNDO}};
        operate(set, steps, 2);
    } else if (strcmp(what, "read") == 0) { /* no writer holds or waits */
        struct sembuf steps[] = {{2, 0, 0}, {4, 0, 0}, {1, 1, SEM_UNDO}};
        operate(set, steps, 3);
    } else if (strcmp(what, "write") == 0) { /* nobody holds, no reader waits */
        struct sembuf steps[] = {{1, 0, 0}, {2, 0, 0}, {3, 0, 0}, {2, 1, SEM_UNDO}};
        operate(set, steps, 4);
    } else {
        return 2;
    }
    puts("done");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
