/* ALP, 5.2 to 5.4: binary_semaphore allocate KEY, enter KEY, deallocate KEY. */

#include <sys/sem.h>

#include "../book.h"

union semun {
    int val;
};

static void change(int id, int by)
{
    struct sembuf step = {.sem_num = 0, .sem_op = by, .sem_flg = SEM_UNDO};

    checked("semop", semop(id, &step, 1));
}

int main(int argc, char **argv)
{
    key_t key = strtol(argv[2], NULL, 0);
    int id = checked("semget", semget(key, 1, is(argv, "allocate") ? IPC_CREAT | IPC_EXCL | 0600 : 0));

    if (is(argv, "allocate")) {
        checked("semctl", semctl(id, 0, SETVAL, (union semun){.val = 1}));
        printf("allocated\n");
    } else if (is(argv, "deallocate")) {
        checked("semctl", semctl(id, 0, IPC_RMID));
        printf("deallocated\n");
    } else {
        printf("waiting\n");
        change(id, -1);
        printf("inside\n");
        next_line();
        printf("posting\n");
        change(id, 1);
    }
    return 0;
}
